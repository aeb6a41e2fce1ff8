package conformance

import (
	"crypto/rand"
	"strings"
)

// sessionMutants are broken in how sessions are kept.
var sessionMutants = []mutant{
	{name: "adopts any session", answer: func(_ *backend, x *exchange) {
		if x.register() && x.errcode() == "M_UNKNOWN" {
			id := x.authString("session")
			x.send(with(x.sent, "auth", without(x.auth(), "session")))
			x.json["session"] = id
		}
	}},
	{name: "gives everybody the same session", answer: func(b *backend, x *exchange) {
		if x.register() && x.json["session"] != nil && x.authString("session") == "" {
			if first := b.put("session", x.json["session"].(string)); first != "" {
				b.put("session", first)
				x.json["session"] = first
			}
		}
	}},
	{name: "ignores what was added to a session", answer: func(_ *backend, x *exchange) {
		if id, ok := strings.CutSuffix(x.authString("session"), "x"); ok && x.errcode() == "M_UNKNOWN" {
			x.send(with(x.sent, "auth", with(x.auth(), "session", id)))
		}
	}},
	{name: "changes the session with each leg", answer: func(_ *backend, x *exchange) {
		if x.register() && x.authString("session") != "" && x.json["session"] != nil {
			x.json["session"] = rand.Text()
		}
	}},
	{name: "lets a finished session make another account", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 401 && x.completed() == 2 && x.user() != "" {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "forgets finished sessions", answer: func(b *backend, x *exchange) {
		if x.register() && x.status == 200 && b.put(x.authString("session"), "done") == "done" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "makes a new access token for a repeated request", answer: freshAccessToken},
	{name: "logs in once more for each of racing requests", answer: freshAccessToken},
}

func freshAccessToken(_ *backend, x *exchange) {
	if x.register() && x.json["access_token"] != nil {
		x.json["access_token"] = rand.Text()
	}
}
