package conformance

import (
	"html"
	"net/http"
	"net/url"
	"regexp"

	"github.com/matrix-uia/uia"
)

// signup reports whether the request is about the page on which an invite link ends.
func (x *exchange) signup() bool { return x.path() == "/register" }

// followed reports whether somebody opens the page.
func (x *exchange) followed() bool { return x.signup() && x.r.Method == http.MethodGet }

// pressed returns what was typed into the page; nil if nothing was.
func (x *exchange) pressed() url.Values {
	if !x.signup() || x.r.Method != http.MethodPost {
		return nil
	}
	typed, _ := url.ParseQuery(string(x.raw))
	return typed
}

var fieldPassword = regexp.MustCompile(`type="?password`)

// asks reports whether the page that is answered has a field for a password.
func (x *exchange) asks() bool { return fieldPassword.Match(x.body) }

// refuseSpent refuses a token at its stage of which the page has noted that it is spent.
func (b *backend) refuseSpent(x *exchange) {
	if token := x.authString("token"); x.register() && token != "" && b.get("spent:"+token) != "" {
		x.refuse(401, "M_UNAUTHORIZED")
	}
}

// signupMutants have a broken page on which an invite link ends.
var signupMutants = []mutant{
	{name: "takes a use when a link is followed", answer: func(b *backend, x *exchange) {
		if x.followed() {
			b.put("spent:"+x.r.URL.Query().Get("token"), "yes")
		}
		b.refuseSpent(x)
	}},
	{name: "asks for a password whatever the token", answer: func(_ *backend, x *exchange) {
		if x.followed() && !x.asks() {
			x.page(`<form method="post"><input name="username"><input type="password" name="password"></form>`)
		}
	}},
	{name: "makes no account on its page", serve: func(_ *backend, x *exchange) {
		if x.pressed() != nil {
			x.header, x.status = make(http.Header), 200
			x.page("<p>Your account is ready.</p>")
			return
		}
		x.send(x.raw)
	}},
	{name: "makes accounts on its page without spending a use", answer: func(b *backend, x *exchange) {
		if typed := x.pressed(); typed != nil {
			b.put("free:"+typed.Get("token"), "yes")
		} else if token := x.authString("token"); x.register() && x.errcode() == "M_UNAUTHORIZED" && b.get("free:"+token) != "" {
			x.pass()
			x.json["completed"] = []string{uia.TokenType}
		}
	}},
	{name: "spends a use with each press", answer: func(b *backend, x *exchange) {
		if typed := x.pressed(); typed != nil && b.put("pressed:"+typed.Get("token"), "yes") != "" {
			b.put("spent:"+typed.Get("token"), "yes")
		}
		b.refuseSpent(x)
	}},
	{name: "has no form where a name is taken", answer: func(_ *backend, x *exchange) {
		if x.pressed() != nil && x.asks() {
			x.page("<p>This name is taken.</p>")
		}
	}},
	{name: "spends the invitation on a taken name", serve: func(b *backend, x *exchange) {
		typed := x.pressed()
		if typed != nil && b.get("spent:"+typed.Get("token")) != "" {
			x.header, x.status = make(http.Header), 410
			x.page("<p>This invitation has been used.</p>")
			return
		}
		x.send(x.raw)
		if typed != nil && x.asks() {
			b.put("spent:"+typed.Get("token"), "yes")
		}
	}},
	{name: "sends the password back", answer: func(_ *backend, x *exchange) {
		if typed := x.pressed(); typed != nil {
			x.body = append(x.body, `<input type="password" value="`+html.EscapeString(typed.Get("password"))+`">`...)
		}
	}},
	{name: "reflects the name on the page", answer: func(_ *backend, x *exchange) {
		if typed := x.pressed(); typed != nil {
			x.body = append(x.body, `<input value="`+typed.Get("username")+`">`...)
		}
	}},
	{name: "loads a script from another site", answer: func(_ *backend, x *exchange) {
		if x.followed() {
			x.body = append(x.body, `<script src="https://cdn.example.com/meter.js"></script>`...)
		}
	}},
}
