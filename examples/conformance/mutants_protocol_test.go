package conformance

import (
	"maps"
	"net/http"
	"strings"

	"github.com/matrix-uia/uia"
)

// protocolMutants break the protocol.
var protocolMutants = []mutant{
	{name: "ignores the order of stages", answer: func(b *backend, x *exchange) {
		id, typ := x.authString("session"), x.authString("type")
		if typ == "m.login.dummy" && x.errcode() == "M_FORBIDDEN" && x.completed() == 0 {
			b.put(id, "dummy")
			x.json = with(without(x.json, "errcode", "error"), "completed", []string{typ})
		} else if x.poll() && b.get(id) == "dummy" {
			x.json["completed"] = []string{"m.login.dummy"}
		} else if x.completed() > 0 && b.get(id) == "dummy" {
			x.send(with(x.sent, "auth", map[string]any{"type": "m.login.dummy", "session": id}))
		}
	}},
	{name: "makes an account without auth", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent["password"] != nil && x.auth() == nil {
			x.status, x.json = 200, map[string]any{"user_id": "@a:example.org"}
		}
	}},
	{name: "answers a wrong token with 403", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "answers a wrong token without the flows", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			x.refuse(401, "M_UNAUTHORIZED")
		}
	}},
	{name: "ends the session with a wrong token", answer: func(b *backend, x *exchange) {
		if id := x.authString("session"); x.errcode() == "M_UNAUTHORIZED" {
			b.put(id, "dead")
		} else if id != "" && b.get(id) == "dead" {
			x.refuse(400, "M_UNKNOWN")
		}
	}},
	{name: "puts an errcode on the first 401", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 401 && x.completed() == 0 && x.errcode() == "" {
			x.json["errcode"], x.json["error"] = "M_UNAUTHORIZED", "Authentication required"
		}
	}},
	{name: "puts an errcode on progress", answer: func(_ *backend, x *exchange) {
		if x.register() && x.completed() > 0 {
			x.json["errcode"] = "M_UNAUTHORIZED"
		}
	}},
	{name: "does not say what is completed", answer: func(_ *backend, x *exchange) {
		delete(x.json, "completed")
	}},
	{name: "says completed twice when asked twice", answer: func(b *backend, x *exchange) {
		if list, ok := x.json["completed"].([]any); ok && x.authString("type") == "" {
			x.json["completed"] = append(list, list...)
		}
	}},
	{name: "attempts a completed stage again", answer: func(b *backend, x *exchange) {
		if x.completed() > 0 && x.authString("token") != "" && b.put(x.authString("session"), "once") != "" {
			x.json = with(without(x.json, "completed"), "errcode", "M_UNAUTHORIZED")
		}
	}},
	{name: "takes no poll", answer: func(_ *backend, x *exchange) {
		if x.register() && x.authString("session") != "" && x.authString("type") == "" {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "drops the session after four polls", answer: func(b *backend, x *exchange) {
		if id := x.authString("session"); x.register() && id != "" && x.authString("type") == "" {
			if polls := b.get(id); len(polls) == 4 {
				x.refuse(400, "M_UNKNOWN")
			} else {
				b.put(id, polls+".")
			}
		}
	}},
	{name: "shares completed stages between sessions", answer: func(b *backend, x *exchange) {
		user, _ := x.sent["username"].(string)
		if x.completed() > 0 {
			b.put(user, "completed")
		} else if x.register() && x.status == 401 && user != "" && b.get(user) != "" {
			x.json["completed"] = []string{uia.TokenType}
		}
	}},
	{name: "has no null auth", answer: func(_ *backend, x *exchange) {
		if auth, there := x.sent["auth"]; there && auth == nil {
			x.refuse(400, "M_BAD_JSON")
		}
	}},
	{name: "has no auth without a type", answer: func(_ *backend, x *exchange) {
		if x.auth() != nil && x.authString("type") == "" && x.authString("session") == "" {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "checks the content type", answer: func(_ *backend, x *exchange) {
		if x.r.Header.Get("Content-Type") == "text/plain" {
			x.refuse(415, "M_UNKNOWN")
		}
	}},
	{name: "has no r0", answer: func(_ *backend, x *exchange) {
		if strings.Contains(x.path(), "/r0/") {
			x.refuse(404, "M_UNRECOGNIZED")
		}
	}},
	{name: "takes Auth for auth", answer: func(_ *backend, x *exchange) {
		if x.sent["Auth"] != nil {
			x.send(with(without(x.sent, "Auth", "AUTH"), "auth", x.sent["Auth"]))
		}
	}},
	{name: "sticks to the first username", answer: func(b *backend, x *exchange) {
		user, _ := x.sent["username"].(string)
		session, _ := x.json["session"].(string)
		if x.register() && x.auth() == nil && user != "" {
			b.put(session, user)
		} else if first := b.get(x.authString("session")); x.status == 200 && first != "" {
			x.json["user_id"] = "@" + first + ":example.org"
		}
	}},
	{name: "remembers no parameters", answer: func(_ *backend, x *exchange) {
		if x.register() && x.auth() != nil && len(x.sent) == 1 && x.status == 200 {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "answers errors in HTML", answer: func(_ *backend, x *exchange) {
		if x.status == 400 {
			x.json, x.body = nil, []byte("<h1>Bad Request</h1>")
			x.header.Set("Content-Type", "text/html")
		}
	}},
	{name: "names no flows in an error", answer: func(_ *backend, x *exchange) {
		if x.status >= 400 && x.status != 401 {
			delete(x.json, "flows")
		}
	}},
	{name: "has no CORS", answer: func(_ *backend, x *exchange) {
		maps.DeleteFunc(x.header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Access-Control-") })
	}},
	{name: "has no CORS on errors", answer: func(_ *backend, x *exchange) {
		if x.status == 400 {
			x.header.Del("Access-Control-Allow-Origin")
		}
	}},
	{name: "has no OPTIONS", answer: func(_ *backend, x *exchange) {
		if x.r.Method == http.MethodOptions {
			x.refuse(405, "M_UNRECOGNIZED")
		}
	}},
}
