package conformance

import (
	"time"

	"github.com/matrix-uia/uia"
)

// challengeMutants send a 401 that says something else than it should.
var challengeMutants = []mutant{
	{name: "answers the first request with 400", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "sends its first 401 without a Content-Type", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.header.Del("Content-Type")
		}
	}},
	{name: "offers no flow", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.json["flows"] = []any{}
		}
	}},
	{name: "names its flows and not their stages", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.json["flows"] = []string{uia.TokenType}
		}
	}},
	{name: "sends an empty list for no params", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.json["params"] = []any{}
		}
	}},
	{name: "counts its sessions in numbers", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.json["session"] = 7
		}
	}},
	{name: "lists what is to be completed as completed", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.json["completed"] = []string{uia.TokenType}
		}
	}},
	{name: "takes the name of a device for authentication", answer: func(_ *backend, x *exchange) {
		if x.first() && x.sent["initial_device_display_name"] != nil {
			x.status, x.json = 200, map[string]any{"user_id": "@a:example.org"}
		}
	}},
	{name: "has no path with a question mark", answer: func(_ *backend, x *exchange) {
		if x.register() && x.r.URL.ForceQuery {
			x.refuse(404, "M_UNRECOGNIZED")
		}
	}},
	{name: "puts an errcode on a poll", answer: func(_ *backend, x *exchange) {
		if x.poll() && x.status == 401 {
			x.json["errcode"] = "M_UNAUTHORIZED"
		}
	}},
	{name: "keeps the latest session only", answer: func(b *backend, x *exchange) {
		if x.first() {
			b.put("latest", x.json["session"].(string))
		} else if id := x.authString("session"); id != "" && id != b.get("latest") {
			x.refuse(400, "M_UNKNOWN")
		}
	}},
}

// stageMutants are wrong about what completes a stage, and what comes of it.
var stageMutants = []mutant{
	{name: "answers a stage out of order with 403", answer: func(_ *backend, x *exchange) {
		if x.authString("type") == "m.login.dummy" && x.status == 401 && x.errcode() == "M_FORBIDDEN" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "asks for one more stage than it offers", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 200 {
			x.status, x.json = 401, map[string]any{"flows": []any{}, "session": x.authString("session")}
		}
	}},
	{name: "fails a completed stage for a wrong token", answer: func(b *backend, x *exchange) {
		if token := x.authString("token"); x.completed() > 0 && token != "" && !b.exists(token) {
			x.json = with(without(x.json, "completed"), "errcode", "M_UNAUTHORIZED")
		}
	}},
	{name: "refuses a completed stage", answer: func(b *backend, x *exchange) {
		id := "passed in " + x.authString("session")
		if x.authString("token") != "" && b.get(id) != "" {
			x.refuse(403, "M_FORBIDDEN")
		} else if x.completed() > 0 {
			b.put(id, "once")
		}
	}},
	{name: "refuses another token for a completed stage", answer: func(b *backend, x *exchange) {
		token, id := x.authString("token"), x.authString("session")
		if x.completed() == 0 || token == "" {
			return
		}
		if first := b.put(id, token); first != "" && first != token && b.exists(token) {
			x.refuse(400, "M_FORBIDDEN")
		}
	}},
	{name: "answers a poll as if nothing were completed", answer: func(_ *backend, x *exchange) {
		if x.poll() {
			delete(x.json, "completed")
		}
	}},
	{name: "completes any stage", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if typ := x.authString("type"); typ != "" && typ != uia.TokenType && x.status == 401 {
			b.put(id, typ)
		} else if x.poll() && b.get(id) != "" {
			x.json["completed"] = []string{b.get(id)}
		}
	}},
	{name: "ends the session with a stage that it does not offer", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if x.authString("type") == "org.example.no.such.stage" {
			b.put(id, "dead")
		} else if b.get(id) == "dead" {
			x.refuse(400, "M_UNKNOWN")
		}
	}},
	{name: "breaks on a stage without a session", answer: breaks(func(x *exchange) bool {
		return x.authString("type") != "" && x.authString("session") == ""
	})},
	{name: "ends the session when the username is taken", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if id != "" && x.errcode() == "M_USER_IN_USE" {
			b.put(id, "dead")
		} else if b.get(id) == "dead" {
			x.refuse(400, "M_UNKNOWN")
		}
	}},
	{name: "wants more of m.login.dummy", answer: func(_ *backend, x *exchange) {
		if x.authString("type") == "m.login.dummy" && x.status == 200 {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
}

// finishedMutants refuse what comes to a session that is finished.
var finishedMutants = []mutant{
	{name: "answers a retried stage of a finished session with an error", answer: finished(func(x *exchange, _ string) bool {
		return x.authString("type") == uia.TokenType
	})},
	{name: "refuses other parameters in a finished session", answer: finished(func(x *exchange, user string) bool {
		return x.user() != "" && x.user() != user
	})},
	{name: "wants parameters in a finished session", answer: finished(func(x *exchange, _ string) bool { return len(x.sent) == 1 })},
	{name: "refuses a poll of a finished session", answer: finished(func(x *exchange, _ string) bool { return x.poll() })},
	{name: "forgets a finished session within minutes", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if since, err := time.Parse(time.RFC3339, b.get(id)); err == nil && time.Since(since) > time.Minute {
			x.refuse(400, "M_UNKNOWN")
		} else if x.register() && x.status == 200 {
			b.put(id, time.Now().Format(time.RFC3339))
		}
	}},
}

// finished refuses some of what comes to a session in which the user was made.
func finished(refused func(x *exchange, user string) bool) func(*backend, *exchange) {
	return func(b *backend, x *exchange) {
		id := x.authString("session")
		if user := b.get("made in " + id); id != "" && user != "" && refused(x, user) {
			x.refuse(403, "M_FORBIDDEN")
		} else if x.register() && x.status == 200 {
			b.put("made in "+id, x.user())
		}
	}
}
