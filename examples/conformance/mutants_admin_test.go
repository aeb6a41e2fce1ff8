package conformance

import (
	"context"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// makes reports whether the request is for a new token.
func (x *exchange) makes() bool {
	return x.admin() && x.r.Method == http.MethodPost && strings.HasSuffix(x.path(), "/new")
}

// record reports whether the answer is the record of one token.
func (x *exchange) record() bool { return x.admin() && x.json["pending"] != nil }

// one returns the token that the path names, "" if it is the list.
func (x *exchange) one() string {
	_, token, _ := strings.Cut(x.path(), "/registration_tokens/")
	return token
}

// adminMutants break the tools of administrators.
var adminMutants = []mutant{
	{name: "redirects the list", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.one() == "" && x.r.Method == "GET" {
			x.status = 301
			x.header.Set("Location", x.path()+"/")
		}
	}},
	{name: "lets everybody administer", answer: func(b *backend, x *exchange) {
		if x.admin() && x.errcode() == "M_FORBIDDEN" {
			x.r.Header.Set("Authorization", "Bearer "+b.admin)
			x.send(x.raw)
		}
	}},
	{name: "ignores the filter of the list", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.URL.RawQuery != "" {
			x.r.URL.RawQuery = ""
			x.send(x.raw)
		}
	}},
	{name: "refuses parameters of the list that it does not know", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.URL.Query().Has("order_by") {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "lists tokens without their counters", answer: func(_ *backend, x *exchange) {
		list, _ := x.json["registration_tokens"].([]any)
		for i, token := range list {
			list[i] = without(token.(map[string]any), "pending", "completed")
		}
	}},
	{name: "makes up every token", serve: func(_ *backend, x *exchange) {
		if x.makes() && x.sent["token"] != nil {
			x.send(without(x.sent, "token"))
			return
		}
		x.send(x.raw)
	}},
	{name: "makes tokens of three characters", serve: func(_ *backend, x *exchange) {
		if x.makes() && x.sent["token"] == nil {
			x.send(with(x.sent, "length", 3))
			return
		}
		x.send(x.raw)
	}},
	{name: "makes up one token", answer: func(b *backend, x *exchange) {
		if x.makes() && x.status == 200 {
			if first := b.get("token"); first != "" {
				x.json["token"] = first
			} else {
				b.put("token", x.json["token"].(string))
			}
		}
	}},
	{name: "makes tokens that nobody can use", answer: func(b *backend, x *exchange) {
		if x.makes() && x.status == 200 {
			b.revoke(x.json["token"].(string))
		}
	}},
	{name: "makes a token that exists", answer: func(_ *backend, x *exchange) {
		if x.makes() && x.status == 400 {
			x.status, x.json = 200, map[string]any{"token": x.sent["token"]}
		}
	}},
	{name: "breaks on nulls in a new token", answer: breaks(func(x *exchange) bool { return x.makes() && hasNull(x.sent) })},
	{name: "breaks on a body of the administration that is no object", answer: breaks(func(x *exchange) bool {
		return x.makes() && x.sent == nil && len(x.raw) > 0
	})},
	{name: "refuses a length beside a token", answer: func(_ *backend, x *exchange) {
		if x.makes() && x.sent["token"] != nil && x.sent["length"] != nil {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "refuses members of a token that it does not know", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.sent["id"] != nil {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "shows another token", answer: func(_ *backend, x *exchange) {
		if x.record() && x.r.Method == "GET" {
			x.json["token"] = "another"
		}
	}},
	{name: "shows tokens that there are not", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "GET" && x.status == 404 {
			x.status, x.json = 200, map[string]any{"token": x.one()}
		}
	}},
	{name: "does not decode what it is asked for", answer: func(_ *backend, x *exchange) {
		switch {
		case x.admin() && strings.Contains(x.r.URL.EscapedPath(), "%"):
			x.refuse(404, "M_NOT_FOUND")
		case x.validity() && strings.Contains(x.r.URL.RawQuery, "%"):
			x.json["valid"] = false
		}
	}},
	{name: "changes nothing", serve: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "PUT" {
			x.r.Method = "GET"
		}
		x.send(x.raw)
	}},
	{name: "takes null for absent", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "PUT" && x.status == 200 {
			sent := maps.Clone(x.sent)
			maps.DeleteFunc(sent, func(_ string, v any) bool { return v == nil })
			if len(sent) < len(x.sent) {
				x.json["uses_allowed"] = 1
			}
		}
	}},
	{name: "takes absent for null", serve: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "PUT" && x.sent["uses_allowed"] == nil {
			x.send(with(x.sent, "uses_allowed", nil))
			return
		}
		x.send(x.raw)
	}},
	{name: "keeps the expiry in seconds", answer: func(_ *backend, x *exchange) {
		if ms, ok := x.json["expiry_time"].(float64); ok {
			x.json["expiry_time"] = int64(ms) / 1000
		}
	}},
	{name: "deletes what is not there", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "DELETE" && x.status == 404 {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "deletes no token", serve: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "DELETE" {
			x.header, x.status, x.json = make(http.Header), 200, map[string]any{}
			return
		}
		x.send(x.raw)
	}},
	{name: "lets a deleted token be finished with", answer: func(b *backend, x *exchange) {
		if x.admin() && x.r.Method == "DELETE" {
			b.put("deleted", "yes")
		} else if x.authString("type") == "m.login.dummy" && x.status == 401 && b.get("deleted") != "" {
			x.status, x.json = 200, map[string]any{"user_id": "@" + x.user() + ":example.org"}
		}
	}},
	{name: "takes bad values", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.errcode() == "M_INVALID_PARAM" {
			x.send(without(x.sent, "uses_allowed", "expiry_time", "token", "length"))
		}
	}},
	{name: "knows no more of pending", answer: func(_ *backend, x *exchange) {
		if x.json["pending"] != nil {
			x.json["pending"] = 0
		}
	}},
	{name: "counts who only opens a session", answer: func(b *backend, x *exchange) {
		if x.first() {
			b.put("opened", "yes")
		} else if x.record() && b.get("opened") != "" {
			x.json["pending"] = 1
		}
	}},
	{name: "answers a missing access token with 403", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.errcode() == "M_MISSING_TOKEN" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "answers a wrong access token with 403", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.errcode() == "M_UNKNOWN_TOKEN" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "has no version", answer: func(_ *backend, x *exchange) {
		if strings.HasSuffix(x.path(), "/server_version") {
			x.refuse(404, "M_UNRECOGNIZED")
		}
	}},
}

// exists reports whether there is such a token.
func (b *backend) exists(token string) bool {
	_, err := b.tokens.Token(context.Background(), token, time.Now())
	return err == nil
}

// revoke makes a token useless.
func (b *backend) revoke(token string) {
	_, _ = b.tokens.UpdateToken(context.Background(), token, uia.TokenPatch{Revoked: new(true)}, time.Now())
}
