package conformance

import (
	"bytes"
	"maps"
	"strings"
)

// fallbackMutants have a broken fallback page.
var fallbackMutants = []mutant{
	{name: "cuts the page off from its opener", by: "fallback/the-opener-is-reached", answer: func(_ *backend, x *exchange) {
		if x.fallback() {
			x.header.Set("Cross-Origin-Opener-Policy", "same-origin")
		}
	}},
	{name: "does not tell the client", by: "fallback/the-page-tells-the-client", answer: func(_ *backend, x *exchange) {
		x.body = bytes.ReplaceAll(x.body, []byte("onAuthDone"), []byte("onDone"))
	}},
	{name: "shows a page for any session", by: "fallback/a-made-up-session", answer: func(_ *backend, x *exchange) {
		if x.fallback() && x.status == 400 {
			x.status = 200
		}
	}},
}

// deviceMutants are careless about what a password guards.
var deviceMutants = []mutant{
	{name: "deletes a device without a password", by: "devices/no-body-is-401", answer: func(_ *backend, x *exchange) {
		if strings.Contains(x.path(), "/devices/") && x.auth() == nil {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "lets a session delete any device", by: "devices/a-session-is-for-one-device", answer: func(_ *backend, x *exchange) {
		if strings.Contains(x.path(), "/devices/") && x.errcode() == "M_FORBIDDEN" && x.json["flows"] == nil {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "answers a wrong password without the flows", by: "devices/a-wrong-password-is-401", answer: func(_ *backend, x *exchange) {
		if strings.Contains(x.path(), "/devices/") && x.errcode() != "" && x.json["flows"] != nil {
			delete(x.json, "flows")
		}
	}},
}

// adminMutants break the tools of administrators.
var adminMutants = []mutant{
	{name: "redirects the list", by: "admin/the-list-is-not-redirected", answer: func(_ *backend, x *exchange) {
		if x.admin() && strings.HasSuffix(x.path(), "_tokens") && x.r.Method == "GET" {
			x.status = 301
			x.header.Set("Location", x.path()+"/")
		}
	}},
	{name: "lets everybody administer", by: "admin/not-an-administrator", answer: func(b *backend, x *exchange) {
		if x.admin() && x.errcode() == "M_FORBIDDEN" {
			x.r.Header.Set("Authorization", "Bearer "+b.admin)
			x.send(x.raw)
		}
	}},
	{name: "ignores the filter of the list", by: "admin/valid-true-lists-valid-tokens", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.URL.RawQuery != "" {
			x.r.URL.RawQuery = ""
			x.send(x.raw)
		}
	}},
	{name: "takes null for absent", by: "admin/null-makes-it-unlimited", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "PUT" && x.status == 200 {
			sent := maps.Clone(x.sent)
			maps.DeleteFunc(sent, func(_ string, v any) bool { return v == nil })
			if len(sent) < len(x.sent) {
				x.json["uses_allowed"] = 1
			}
		}
	}},
	{name: "keeps the expiry in seconds", by: "admin/an-expiry-in-milliseconds", answer: func(_ *backend, x *exchange) {
		if ms, ok := x.json["expiry_time"].(float64); ok {
			x.json["expiry_time"] = int64(ms) / 1000
		}
	}},
	{name: "deletes what is not there", by: "admin/two-deletes-at-once", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.r.Method == "DELETE" && x.status == 404 {
			x.status, x.json = 200, map[string]any{}
		}
	}},
	{name: "takes bad values", by: "admin/bad-values-are-400/uses-float", answer: func(_ *backend, x *exchange) {
		if x.admin() && x.errcode() == "M_INVALID_PARAM" {
			x.send(without(x.sent, "uses_allowed", "expiry_time", "token", "length"))
		}
	}},
	{name: "knows no more of pending", by: "admin/pending-counts-who-is-at-it", answer: func(_ *backend, x *exchange) {
		if x.json["pending"] != nil {
			x.json["pending"] = 0
		}
	}},
}

// limitMutants are limited and do not say so.
var limitMutants = []mutant{
	{name: "limits without saying for how long", by: "limits/a-limit-says-how-long", answer: func(_ *backend, x *exchange) {
		if x.status == 429 {
			x.refuse(429, "M_LIMIT_EXCEEDED")
			x.header.Del("Retry-After")
		}
	}},
	{name: "limits with another errcode", by: "limits/a-limit-has-its-error-code", answer: func(_ *backend, x *exchange) {
		if x.status == 429 {
			x.json["errcode"] = "M_FORBIDDEN"
		}
	}},
}
