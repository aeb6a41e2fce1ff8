package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// validityMutants give wrong answers about validity.
var validityMutants = []mutant{
	{name: "says that every token is valid", by: "validity/an-unknown-token", answer: func(_ *backend, x *exchange) {
		if x.validity() && x.status == 200 {
			x.json["valid"] = true
		}
	}},
	{name: "answers 404 for an unknown token", by: "validity/an-unknown-token", answer: func(_ *backend, x *exchange) {
		if x.validity() && x.json["valid"] == false {
			x.refuse(404, "M_NOT_FOUND")
		}
	}},
	{name: "says valid in a string", by: "validity/valid-is-a-boolean", answer: func(_ *backend, x *exchange) {
		if x.json["valid"] == true {
			x.json["valid"] = "true"
		}
	}},
	{name: "spends a token that is asked for", by: "validity/asking-spends-nothing", answer: func(b *backend, x *exchange) {
		if x.json["valid"] == true {
			_, _ = b.tokens.UpdateToken(context.Background(), x.r.URL.Query().Get("token"), uia.TokenPatch{Revoked: new(true)}, time.Now())
		}
	}},
	{name: "tells how many uses are left", by: "validity/the-answer-tells-nothing-else", answer: func(_ *backend, x *exchange) {
		if x.json["valid"] != nil {
			x.json["uses_left"] = 1
		}
	}},
	{name: "counts no held uses in validity", by: "validity/a-held-token", answer: func(b *backend, x *exchange) {
		if x.json["valid"] == false {
			token, err := b.tokens.Token(context.Background(), x.r.URL.Query().Get("token"), time.Now())
			x.json["valid"] = err == nil && token.Pending > 0
		}
	}},
}

// registrationMutants break registration.
var registrationMutants = []mutant{
	{name: "checks the username at the end", by: "register/a-taken-username-is-told-first", answer: func(_ *backend, x *exchange) {
		if x.register() && x.auth() == nil && x.errcode() == "M_USER_IN_USE" {
			x.send(without(x.sent, "username"))
		}
	}},
	{name: "takes any username", by: "register/an-invalid-username/space", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_INVALID_USERNAME" {
			x.refuse(500, "M_UNKNOWN")
		}
	}},
	{name: "logs in though inhibited", by: "register/inhibit-login-logs-nobody-in", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 200 {
			x.json["access_token"], x.json["device_id"] = rand.Text(), "A"
		}
	}},
	{name: "makes up every device ID", by: "register/the-device-id-is-the-one-asked-for", answer: func(_ *backend, x *exchange) {
		if x.register() && x.json["device_id"] != nil {
			x.json["device_id"] = rand.Text()
		}
	}},
	{name: "asks guests for a token", by: "register/a-guest-is-not-asked-for-a-token", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_GUEST_ACCESS_FORBIDDEN" {
			x.r.URL.RawQuery = ""
			x.send(x.raw)
		}
	}},
	{name: "has no home_server", by: "register/the-answer-has-home-server", answer: func(_ *backend, x *exchange) {
		delete(x.json, "home_server")
	}},
	{name: "lists new versions only", by: "register/old-versions-are-listed", answer: func(_ *backend, x *exchange) {
		if x.json["versions"] != nil {
			x.json["versions"] = []string{"v1.11", "v1.12"}
		}
	}},
	{name: "says that every username is available", by: "available/a-taken-username", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_USER_IN_USE" && strings.HasSuffix(x.path(), "/available") {
			x.status, x.json = 200, map[string]any{"available": true}
		}
	}},
}

// inputMutants take what they should refuse.
var inputMutants = []mutant{
	{name: "takes the last of two members", by: "input/members-that-are-there-twice/at-the-top", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent != nil && x.errcode() == "M_BAD_JSON" {
			x.send(x.sent)
		}
	}},
	{name: "breaks on an array", by: "input/what-is-no-object/array", answer: func(_ *backend, x *exchange) {
		if bytes.HasPrefix(x.raw, []byte("[")) {
			x.refuse(500, "M_UNKNOWN")
		}
	}},
	{name: "takes an auth that is a string for none", by: "input/auth-that-is-no-object/string", answer: func(_ *backend, x *exchange) {
		if _, ok := x.sent["auth"].(string); ok {
			x.send(without(x.sent, "auth"))
		}
	}},
}
