package conformance

import (
	"context"
	"crypto/rand"
	"strings"
	"time"
)

// validityMutants give wrong answers about validity.
var validityMutants = []mutant{
	{name: "says that every token is valid", answer: func(_ *backend, x *exchange) {
		if x.validity() && x.status == 200 {
			x.json["valid"] = true
		}
	}},
	{name: "says valid in a string", answer: func(_ *backend, x *exchange) {
		if x.json["valid"] == true {
			x.json["valid"] = "true"
		}
	}},
	{name: "spends a token that is asked for", answer: func(b *backend, x *exchange) {
		if x.json["valid"] == true {
			b.revoke(x.r.URL.Query().Get("token"))
		}
	}},
	{name: "says that no token is valid", answer: func(_ *backend, x *exchange) {
		if x.json["valid"] == true {
			x.json["valid"] = false
		}
	}},
	{name: "answers for a token that is missing", answer: func(_ *backend, x *exchange) {
		if x.validity() && x.asked() == "" && x.status == 400 {
			x.status, x.json = 200, map[string]any{"valid": false}
		}
	}},
	{name: "breaks on a long token", answer: breaks(func(x *exchange) bool { return x.validity() && len(x.asked()) > 64 })},
	{name: "breaks on odd characters in a query", answer: breaks(func(x *exchange) bool { return x.validity() && !grammar.MatchString(x.asked()) })},
	{name: "breaks on an empty token", answer: breaks(func(x *exchange) bool { return x.validity() && x.r.URL.Query().Has("token") && x.asked() == "" })},
	{name: "folds the case of tokens that are asked for", answer: func(_ *backend, x *exchange) {
		if x.json["valid"] == false {
			x.r.URL.RawQuery = strings.ToLower(x.r.URL.RawQuery)
			x.send(x.raw)
		}
	}},
	{name: "answers for validity whatever the method", serve: func(_ *backend, x *exchange) {
		if x.validity() {
			x.r.Method = "GET"
		}
		x.send(x.raw)
	}},
	{name: "tells how many uses are left", answer: func(_ *backend, x *exchange) {
		if x.json["valid"] != nil {
			x.json["uses_left"] = 1
		}
	}},
	{name: "counts no held uses in validity", answer: func(b *backend, x *exchange) {
		if x.json["valid"] == false {
			token, err := b.tokens.Token(context.Background(), x.r.URL.Query().Get("token"), time.Now())
			x.json["valid"] = err == nil && token.Pending > 0
		}
	}},
}

// asked is the token whose validity is asked for.
func (x *exchange) asked() string { return x.r.URL.Query().Get("token") }

// registrationMutants break registration.
var registrationMutants = []mutant{
	{name: "checks the username at the end", answer: func(_ *backend, x *exchange) {
		if x.register() && x.auth() == nil && x.errcode() == "M_USER_IN_USE" {
			x.send(without(x.sent, "username"))
		}
	}},
	{name: "takes any username", answer: breaks(func(x *exchange) bool { return x.register() && x.errcode() == "M_INVALID_USERNAME" })},
	{name: "refuses capitals", answer: func(_ *backend, x *exchange) {
		if x.register() && strings.ToLower(x.user()) != x.user() {
			x.refuse(400, "M_INVALID_USERNAME")
		}
	}},
	{name: "has usernames in capitals", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 400 && strings.ToLower(x.user()) != x.user() {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "has user IDs of 254 bytes at most", answer: func(_ *backend, x *exchange) {
		if x.register() && len("@:example.org")+len(x.user()) > 254 {
			x.refuse(400, "M_INVALID_USERNAME")
		}
	}},
	{name: "has usernames of any length", answer: func(_ *backend, x *exchange) {
		switch {
		case x.errcode() != "M_INVALID_USERNAME":
		case x.available():
			x.status, x.json = 200, map[string]any{"available": true}
		default:
			x.send(without(x.sent, "username"))
		}
	}},
	{name: "gives everybody names with an underscore", answer: func(_ *backend, x *exchange) {
		if x.register() && strings.HasPrefix(x.user(), "_") && x.sent["type"] == nil {
			x.send(without(x.sent, "username"))
		}
	}},
	{name: "makes up no username", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 200 && x.user() == "" {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "breaks on a username that was taken meanwhile", answer: breaks(func(x *exchange) bool {
		return x.errcode() == "M_USER_IN_USE" && x.authString("session") != ""
	})},
	{name: "breaks on a username of its own", answer: breaks(func(x *exchange) bool { return x.user() == "user" })},
	{name: "breaks on an account without a password", answer: breaks(func(x *exchange) bool {
		return x.user() != "" && x.sent["password"] == nil
	})},
	{name: "sets another password", serve: func(_ *backend, x *exchange) {
		if x.register() && x.sent["password"] != nil {
			x.send(with(x.sent, "password", "another password"))
			return
		}
		x.send(x.raw)
	}},
	{name: "refuses parameters that it does not know", answer: func(_ *backend, x *exchange) {
		if x.register() && (x.sent["x"] != nil || x.sent["org.example.unknown"] != nil) {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "refuses who asks for a refresh token", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent["refresh_token"] != nil {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "refuses a kind in the body", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent["kind"] != nil {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "knows no kind", answer: func(_ *backend, x *exchange) {
		if x.register() && x.r.URL.Query().Get("kind") == "user" {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "takes any kind", answer: func(_ *backend, x *exchange) {
		if x.register() && x.r.URL.Query().Has("kind") && x.status == 400 {
			x.r.URL.RawQuery = ""
			x.send(x.raw)
		}
	}},
	{name: "registers guests if nothing else is said", answer: func(_ *backend, x *exchange) {
		if x.first() {
			x.status, x.json = 200, map[string]any{"user_id": "@1:example.org"}
		}
	}},
	{name: "reserves a username with the first request", answer: func(b *backend, x *exchange) {
		switch name := x.user() + x.r.URL.Query().Get("username"); {
		case name != "" && b.get(name) != "":
			x.refuse(400, "M_USER_IN_USE")
		case x.first():
			b.put(name, "reserved")
		}
	}},
	{name: "knows no user IDs at the login", answer: func(_ *backend, x *exchange) {
		if id, ok := x.sent["identifier"].(map[string]any); ok && strings.HasPrefix(id["user"].(string), "@") {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "asks guests for a token", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_GUEST_ACCESS_FORBIDDEN" {
			x.r.URL.RawQuery = ""
			x.send(x.raw)
		}
	}},
	{name: "lists new versions only", answer: func(_ *backend, x *exchange) {
		if x.json["versions"] != nil {
			x.json["versions"] = []string{"v1.11", "v1.12"}
		}
	}},
}

// availableMutants are wrong about what username can be had.
var availableMutants = []mutant{
	{name: "says that every username is available", answer: func(_ *backend, x *exchange) {
		if x.available() && x.status == 400 {
			x.status, x.json = 200, map[string]any{"available": true}
		}
	}},
	{name: "says that no username is available", answer: func(_ *backend, x *exchange) {
		if x.available() && x.status == 200 {
			x.refuse(400, "M_USER_IN_USE")
		}
	}},
	{name: "answers for a username that is missing", answer: func(_ *backend, x *exchange) {
		if x.available() && x.r.URL.Query().Get("username") == "" {
			x.status, x.json = 200, map[string]any{"available": true}
		}
	}},
	{name: "reserves a username that is asked for", answer: func(b *backend, x *exchange) {
		if x.available() {
			b.put(x.r.URL.Query().Get("username"), "reserved")
		} else if x.register() && b.get(x.user()) != "" {
			x.refuse(400, "M_USER_IN_USE")
		}
	}},
	{name: "refuses to register what is available", answer: func(_ *backend, x *exchange) {
		if x.first() && x.user() != "" {
			x.refuse(400, "M_INVALID_USERNAME")
		}
	}},
}

// answerMutants answer a registration that has succeeded with something else.
var answerMutants = []mutant{
	{name: "does not say who was registered", answer: registered(func(x *exchange) { delete(x.json, "user_id") })},
	{name: "makes up every username", answer: registered(func(x *exchange) { x.json["user_id"] = "@a:example.org" })},
	{name: "makes user IDs in capitals", answer: registered(func(x *exchange) {
		x.json["user_id"] = "@" + strings.ToUpper(x.user()) + ":example.org"
	})},
	{name: "logs nobody in", answer: registered(func(x *exchange) { x.json = without(x.json, "access_token", "device_id") })},
	{name: "logs in only who asks for it", answer: registered(func(x *exchange) {
		if x.sent["inhibit_login"] == nil {
			x.json = without(x.json, "access_token", "device_id")
		}
	})},
	{name: "logs in though inhibited", answer: registered(func(x *exchange) {
		x.json["access_token"], x.json["device_id"] = rand.Text(), "A"
	})},
	{name: "gives an access token that does not work", answer: registered(func(x *exchange) { x.json["access_token"] = rand.Text() })},
	{name: "makes up no device ID", answer: registered(func(x *exchange) {
		if x.sent["device_id"] == nil {
			delete(x.json, "device_id")
		}
	})},
	{name: "makes up every device ID", answer: registered(func(x *exchange) { x.json["device_id"] = rand.Text() })},
	{name: "names another device than the token's", answer: registered(func(x *exchange) { x.json["device_id"] = "another" })},
}

// registered changes the answer to a registration that has succeeded.
func registered(change func(x *exchange)) func(*backend, *exchange) {
	return func(_ *backend, x *exchange) {
		if x.register() && x.status == 200 {
			change(x)
		}
	}
}
