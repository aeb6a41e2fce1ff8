package conformance

import (
	"crypto/rand"
	"strings"

	"github.com/matrix-uia/uia/stages"
)

func (x *exchange) guest() bool { return x.register() && x.r.URL.Query().Get("kind") == "guest" }

func (x *exchange) refreshes() bool { return strings.HasSuffix(x.path(), "/refresh") }

func (x *exchange) mails() bool { return strings.HasSuffix(x.path(), "/email/requestToken") }

func (x *exchange) service() bool {
	return x.register() && x.sent["type"] == "m.login.application_service"
}

// kindMutants are wrong about accounts and stages that not every homeserver has.
var kindMutants = []mutant{
	{name: "gives guests the username they ask for", answer: func(_ *backend, x *exchange) {
		if x.guest() && x.user() != "" {
			x.json["user_id"] = x.made()["user_id"]
		}
	}},
	{name: "gives guests the device they ask for", answer: func(_ *backend, x *exchange) {
		if x.guest() && x.sent["device_id"] != nil {
			x.json["device_id"] = x.sent["device_id"]
		}
	}},
	{name: "looks at what guests send", answer: func(_ *backend, x *exchange) {
		if x.guest() && strings.Contains(x.user(), " ") {
			x.refuse(400, "M_INVALID_USERNAME")
		}
	}},
	{name: "takes guests for users", answer: func(_ *backend, x *exchange) {
		delete(x.json, "is_guest")
	}},
	{name: "has one guest", answer: func(_ *backend, x *exchange) {
		if x.guest() {
			x.json["user_id"] = "@1:example.org"
		}
	}},
	{name: "upgrades guests without asking", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent["guest_access_token"] != nil {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "gives a refresh token that does not work", answer: func(_ *backend, x *exchange) {
		if x.refreshes() {
			x.refuse(401, "M_UNKNOWN_TOKEN")
		}
	}},
	{name: "takes any refresh token", answer: func(_ *backend, x *exchange) {
		if x.refreshes() {
			x.status, x.json = 200, map[string]any{"access_token": rand.Text()}
		}
	}},
	{name: "gives a refresh token without a login", answer: registered(func(x *exchange) {
		if x.sent["refresh_token"] == true {
			x.json["refresh_token"] = rand.Text()
		}
	})},
	{name: "gives a refresh token to who asks for none", answer: registered(func(x *exchange) { x.json["refresh_token"] = rand.Text() })},
	{name: "asks application services for a token", answer: func(_ *backend, x *exchange) {
		if x.service() && x.status == 200 {
			x.send(without(x.sent, "type"))
		}
	}},
	{name: "lets application services have any name", answer: func(_ *backend, x *exchange) {
		if x.service() && x.errcode() == "M_EXCLUSIVE" {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "takes everybody's word for an application service", answer: func(_ *backend, x *exchange) {
		if x.service() {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "names no policies", answer: terms(func(params map[string]any) { delete(params, "policies") })},
	{name: "has policies without a version", answer: terms(func(params map[string]any) {
		for _, policy := range params["policies"].(map[string]any) {
			delete(policy.(map[string]any), "version")
		}
	})},
	{name: "has policies without an address", answer: terms(func(params map[string]any) {
		for _, policy := range params["policies"].(map[string]any) {
			policy.(map[string]any)["en"] = map[string]any{"name": "Terms", "url": "javascript:alert(1)"}
		}
	})},
	{name: "answers a request for a mail without a sid", answer: func(_ *backend, x *exchange) {
		if x.mails() {
			delete(x.json, "sid")
		}
	}},
	{name: "counts attempts from one", answer: func(_ *backend, x *exchange) {
		if x.mails() && x.sent["send_attempt"] == 0.0 {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "makes a new session for each request for a mail", answer: func(_ *backend, x *exchange) {
		if x.mails() {
			x.json["sid"] = rand.Text()
		}
	}},
	{name: "sends mails to anything", answer: func(_ *backend, x *exchange) {
		if x.mails() {
			x.status, x.json = 200, map[string]any{"sid": rand.Text()}
		}
	}},
	{name: "passes the e-mail stage without a mail", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if x.authString("type") == stages.EmailType {
			b.put(id, "passed")
		} else if x.poll() && b.get(id) != "" {
			x.json["completed"] = []string{stages.EmailType}
		}
	}},
}

// terms changes the params of m.login.terms.
func terms(change func(params map[string]any)) func(*backend, *exchange) {
	return func(_ *backend, x *exchange) {
		all, _ := x.json["params"].(map[string]any)
		if params, ok := all[stages.TermsType].(map[string]any); ok {
			change(params)
		}
	}
}
