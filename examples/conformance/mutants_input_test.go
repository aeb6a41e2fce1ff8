package conformance

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// breaks answers with 500 where a homeserver trips.
func breaks(on func(x *exchange) bool) func(*backend, *exchange) {
	return func(_ *backend, x *exchange) {
		if on(x) {
			x.refuse(500, "M_UNKNOWN")
		}
	}
}

// breaksOn trips over a body to /register.
func breaksOn(body func(x *exchange) bool) func(*backend, *exchange) {
	return breaks(func(x *exchange) bool { return x.register() && body(x) })
}

// other reports whether a member is there and is neither null nor of this type.
func other[T any](object map[string]any, name string) bool {
	_, ok := object[name].(T)
	return object[name] != nil && !ok
}

var urlSafe = regexp.MustCompile(`^[A-Za-z0-9_=-]*$`)

// inputMutants take what they should refuse, or trip over it.
var inputMutants = []mutant{
	{name: "takes the last of two members", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent != nil && x.errcode() == "M_BAD_JSON" {
			x.send(map[string]any{})
		}
	}},
	{name: "breaks on what is no JSON", answer: breaksOn(func(x *exchange) bool { return len(x.raw) > 0 && !json.Valid(x.raw) })},
	{name: "breaks on what is no UTF-8", answer: breaksOn(func(x *exchange) bool { return !utf8.Valid(x.raw) })},
	{name: "breaks on what is no object", answer: breaksOn(func(x *exchange) bool { return json.Valid(x.raw) && x.sent == nil })},
	{name: "breaks on an empty body", answer: breaksOn(func(x *exchange) bool { return len(x.raw) == 0 })},
	{name: "breaks on an auth that is no object", answer: breaksOn(func(x *exchange) bool { return other[map[string]any](x.sent, "auth") })},
	{name: "breaks on a session that is no string", answer: breaksOn(func(x *exchange) bool { return other[string](x.auth(), "session") })},
	{name: "breaks on a type that is no string", answer: breaksOn(func(x *exchange) bool { return other[string](x.auth(), "type") })},
	{name: "breaks on a long session", answer: breaksOn(func(x *exchange) bool { return len(x.authString("session")) > 1<<16 })},
	{name: "breaks on odd characters in a session", answer: breaksOn(func(x *exchange) bool { return !urlSafe.MatchString(x.authString("session")) })},
	{name: "breaks on deep nesting", answer: breaksOn(func(x *exchange) bool { return bytes.Contains(x.raw, []byte("[[[[[[[[")) })},
	{name: "breaks on large numbers", answer: breaksOn(func(x *exchange) bool { return bytes.Contains(x.raw, []byte("1e400")) })},
	{name: "breaks on half a surrogate pair", answer: breaksOn(func(x *exchange) bool { return bytes.Contains(x.raw, []byte(`\ud800`)) })},
	{name: "breaks on a NUL in a password", answer: breaksOn(func(x *exchange) bool {
		password, _ := x.sent["password"].(string)
		return strings.Contains(password, "\x00")
	})},
	{name: "breaks on a long device ID", answer: breaksOn(func(x *exchange) bool {
		id, _ := x.sent["device_id"].(string)
		return len(id) > 1<<12
	})},
	{name: "breaks on an access token", answer: breaksOn(func(x *exchange) bool { return x.r.Header.Get("Authorization") != "" })},
	{name: "breaks on members of the wrong type", answer: breaksOn(func(x *exchange) bool { return x.sent != nil && x.errcode() == "M_BAD_JSON" })},
	{name: "breaks on a null", answer: breaksOn(func(x *exchange) bool { return hasNull(without(x.sent, "auth")) })},
	{name: "has one error code for everything", answer: func(_ *backend, x *exchange) {
		if x.status == 400 {
			x.json["errcode"] = "M_UNKNOWN"
		}
	}},
	{name: "breaks on a large body", answer: breaksOn(func(x *exchange) bool { return len(x.raw) > 1<<19 })},
	{name: "minds white space", answer: func(_ *backend, x *exchange) {
		if x.register() && len(bytes.TrimSpace(x.raw)) < len(x.raw) {
			x.refuse(400, "M_NOT_JSON")
		}
	}},
	{name: "answers unknown paths in HTML", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_UNRECOGNIZED" && x.status == 404 {
			x.page("<h1>Not found</h1>")
		}
	}},
	{name: "answers other methods in HTML", answer: func(_ *backend, x *exchange) {
		if x.status == 405 {
			x.page("<h1>Not allowed</h1>")
		}
	}},
}

func hasNull(object map[string]any) bool {
	for _, v := range object {
		if v == nil {
			return true
		}
	}
	return false
}
