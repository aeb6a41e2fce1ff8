package conformance

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/matrix-uia/uia"
)

// callback is what the specification prescribes for the fallback page.
const callback = `if (window.onAuthDone) { window.onAuthDone(); }
else if (window.opener && window.opener.postMessage) { window.opener.postMessage("authDone", "*"); }`

func script(text string) []byte { return []byte("<script>" + text + "</script>") }

// completes reports whether the page that is answered says that the stage is
// completed.
func (x *exchange) completes() bool {
	return x.fallback() && bytes.Contains(x.body, []byte("authDone"))
}

// fallbackMutants have a broken fallback page.
var fallbackMutants = []mutant{
	{name: "has no page", answer: func(_ *backend, x *exchange) {
		if x.fallback() {
			x.status, x.json = 200, map[string]any{}
			x.header.Set("Content-Type", "application/json")
		}
	}},
	{name: "has a page that completes nothing", serve: func(_ *backend, x *exchange) {
		if x.fallback() {
			x.r.Method = "GET"
		}
		x.send(x.raw)
	}},
	{name: "has a page that contains the callback without calling it", answer: func(_ *backend, x *exchange) {
		if x.completes() {
			x.page("<p>Done.</p>")
			x.body = append(x.body, script("function done() { "+callback+" }")...)
		}
	}},
	{name: "tells the client before anything is typed", answer: func(_ *backend, x *exchange) {
		if x.fallback() && x.r.Method == "GET" {
			x.body = append(x.body, script(callback)...)
		}
	}},
	{name: "has a page that tells the client of every token", answer: func(_ *backend, x *exchange) {
		if x.fallback() && x.r.Method == "POST" {
			x.body = append(x.body, script(callback)...)
		}
	}},
	{name: "has a page that takes any token", answer: func(b *backend, x *exchange) {
		if x.fallback() && x.r.Method == "POST" {
			b.put(x.r.URL.Query().Get("session"), "passed")
		} else if x.poll() && b.get(x.authString("session")) != "" {
			x.json["completed"] = []string{uia.TokenType}
		}
	}},
	{name: "has no form on the page with the error", answer: func(_ *backend, x *exchange) {
		if x.fallback() && x.r.Method == "POST" && !x.completes() {
			x.page("<p>Wrong.</p>")
		}
	}},
	{name: "shows a page for any session", answer: func(_ *backend, x *exchange) {
		if x.fallback() && x.r.Method == "GET" && x.status >= 400 {
			x.status = 200
		}
	}},
	{name: "shows a page once", answer: func(b *backend, x *exchange) {
		if x.fallback() && x.r.Method == "GET" && b.put(x.r.URL.Query().Get("session"), "shown") != "" {
			x.refuse(404, "M_NOT_FOUND")
		}
	}},
	{name: "shows its page whatever the method", serve: func(_ *backend, x *exchange) {
		if x.fallback() && x.r.Method != "POST" {
			x.r.Method = "GET"
		}
		x.send(x.raw)
	}},
	{name: "reflects the session on the page", answer: func(_ *backend, x *exchange) {
		if x.fallback() {
			x.page(`<input value="` + x.r.URL.Query().Get("session") + `">`)
		}
	}},
	{name: "reflects the token on the page", answer: func(_ *backend, x *exchange) {
		if values, err := url.ParseQuery(string(x.raw)); err == nil && x.fallback() && x.r.Method == "POST" {
			for _, typed := range values {
				x.body = append(x.body, `<input value="`+typed[0]+`">`...)
			}
		}
	}},
	{name: "strips the headers that protect", answer: func(_ *backend, x *exchange) {
		for _, name := range []string{"Cache-Control", "Content-Security-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"} {
			x.header.Del(name)
		}
	}},
	{name: "cuts the page off from its opener", answer: func(_ *backend, x *exchange) {
		if x.fallback() {
			x.header.Set("Cross-Origin-Opener-Policy", "same-origin")
		}
	}},
}

// devices reports whether the request is about devices.
func (x *exchange) devices() bool {
	return strings.Contains(x.path(), "/devices/") || strings.HasSuffix(x.path(), "/delete_devices")
}

// deviceMutants are careless about what a password guards.
var deviceMutants = []mutant{
	{name: "deletes a device without a password", answer: func(_ *backend, x *exchange) {
		if x.devices() && x.auth() == nil {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "lets a session delete any device", answer: func(_ *backend, x *exchange) {
		if x.devices() && x.errcode() == "M_FORBIDDEN" && x.status == 403 {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "takes any user's password", answer: func(_ *backend, x *exchange) {
		if x.devices() && x.authString("password") != "" && x.status >= 400 {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "answers a wrong password without the flows", answer: func(_ *backend, x *exchange) {
		if x.devices() && x.errcode() != "" && x.json["flows"] != nil {
			delete(x.json, "flows")
		}
	}},
	{name: "takes no poll for a device", answer: func(_ *backend, x *exchange) {
		if x.devices() && x.auth() != nil && x.authString("type") == "" {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "deletes no device", serve: func(_ *backend, x *exchange) {
		if x.devices() && x.auth() != nil {
			x.header, x.status, x.json = make(http.Header), 200, map[string]any{}
			return
		}
		x.send(x.raw)
	}},
	{name: "registers in any session", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 403 {
			x.pass()
			x.status = 401
		}
	}},
	{name: "renames no device", serve: func(_ *backend, x *exchange) {
		if x.devices() && x.r.Method == "PUT" && x.r.Header.Get("Authorization") != "" {
			x.header, x.status, x.json = make(http.Header), 200, map[string]any{}
			return
		}
		x.send(x.raw)
	}},
	{name: "renames devices that there are not", answer: func(_ *backend, x *exchange) {
		if x.devices() && x.r.Method == "PUT" && x.status == 404 {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "breaks on a device's name of the wrong type", answer: breaks(func(x *exchange) bool {
		return x.devices() && x.r.Method == "PUT" && x.status == 400
	})},
}

// keys reports whether the request uploads keys for cross-signing.
func (x *exchange) keys() bool { return strings.HasSuffix(x.path(), "/device_signing/upload") }

// keyMutants are wrong about which keys for cross-signing need a password.
var keyMutants = []mutant{
	{name: "asks for a password before the first keys", answer: func(_ *backend, x *exchange) {
		if x.keys() && x.status == 200 && x.auth() == nil {
			x.status, x.json = 401, map[string]any{"flows": []any{}, "session": "s"}
		}
	}},
	{name: "asks for a password before the same keys", answer: func(b *backend, x *exchange) {
		if key, _ := json.Marshal(x.sent["master_key"]); x.keys() && b.put("master", string(key)) == string(key) {
			x.status, x.json = 401, map[string]any{"flows": []any{}, "session": "s"}
		}
	}},
	{name: "replaces keys without a password", answer: func(_ *backend, x *exchange) {
		if x.keys() && x.json["flows"] != nil {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "replaces no keys", answer: func(_ *backend, x *exchange) {
		if x.keys() && x.auth() != nil {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
}

// closedMutants have registration off and do not keep to it.
var closedMutants = []mutant{
	{name: "hides that registration is closed", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 403 {
			x.refuse(403, "M_UNKNOWN")
		}
	}},
	{name: "registers though registration is closed", answer: func(_ *backend, x *exchange) {
		if x.register() && x.auth() != nil {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "answers for tokens though registration is closed", answer: func(_ *backend, x *exchange) {
		if x.validity() && x.status == 403 {
			x.status, x.json = 200, map[string]any{"valid": false}
		}
	}},
}

// limitMutants are limited and do not say so, or not where they should be.
var limitMutants = []mutant{
	{name: "has no limit", answer: func(_ *backend, x *exchange) {
		if x.status == 429 {
			x.refuse(401, "M_UNAUTHORIZED")
		}
	}},
	{name: "limits everything at once", answer: func(b *backend, x *exchange) {
		if x.status == 429 {
			b.put("limited", "yes")
		} else if b.get("limited") != "" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "limits without saying for how long", answer: func(_ *backend, x *exchange) {
		if x.status == 429 {
			x.refuse(429, "M_LIMIT_EXCEEDED")
			x.header.Del("Retry-After")
		}
	}},
	{name: "limits with another errcode", answer: func(_ *backend, x *exchange) {
		if x.status == 429 {
			x.json["errcode"] = "M_FORBIDDEN"
		}
	}},
}
