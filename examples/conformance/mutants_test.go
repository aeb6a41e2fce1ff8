package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// mutants are the broken homeservers.
var mutants = []mutant{
	// Sessions
	{name: "adopts any session", by: "uia/a-made-up-session-is-refused", answer: func(_ *backend, x *exchange) {
		if x.register() && x.errcode() == "M_UNKNOWN" {
			id := x.authString("session")
			x.send(with(x.sent, "auth", without(x.auth(), "session")))
			x.json["session"] = id
		}
	}},
	{name: "gives everybody the same session", by: "uia/sessions-differ", answer: func(b *backend, x *exchange) {
		if x.register() && x.json["session"] != nil && x.authString("session") == "" {
			if first := b.put("session", x.json["session"].(string)); first != "" {
				b.put("session", first)
				x.json["session"] = first
			}
		}
	}},
	{name: "ignores what was added to a session", by: "uia/an-altered-session-is-refused", answer: func(_ *backend, x *exchange) {
		if id, ok := strings.CutSuffix(x.authString("session"), "x"); ok && x.errcode() == "M_UNKNOWN" {
			x.send(with(x.sent, "auth", with(x.auth(), "session", id)))
		}
	}},
	{name: "changes the session with each leg", by: "uia/the-same-object-after-a-stage", answer: func(_ *backend, x *exchange) {
		if x.register() && x.authString("session") != "" && x.json["session"] != nil {
			x.json["session"] = rand.Text()
		}
	}},
	{name: "lets a finished session make another account", by: "uia/a-finished-session-makes-no-second-account", answer: func(_ *backend, x *exchange) {
		if user, _ := x.sent["username"].(string); x.register() && x.status == 403 && user != "" {
			x.status, x.json = 200, map[string]any{"user_id": "@" + user + ":example.org"}
		}
	}},
	{name: "forgets finished sessions", by: "uia/the-last-stage-again", answer: func(b *backend, x *exchange) {
		if x.register() && x.status == 200 && b.put(x.authString("session"), "done") == "done" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "makes a new access token for a repeated request", by: "uia/the-same-final-request-gets-the-same-answer", answer: freshAccessToken},
	{name: "logs in once more for each of racing requests", by: "races/one-session-one-account", answer: freshAccessToken},

	// The protocol
	{name: "ignores the order of stages", by: "uia/out-of-order-completes-nothing", answer: func(b *backend, x *exchange) {
		id, typ := x.authString("session"), x.authString("type")
		if typ == "m.login.dummy" && x.errcode() == "M_FORBIDDEN" && x.json["completed"] == nil {
			b.put(id, "dummy")
			x.json = with(without(x.json, "errcode", "error"), "completed", []string{typ})
		} else if x.json["completed"] != nil && b.get(id) == "dummy" {
			x.send(with(x.sent, "auth", map[string]any{"type": "m.login.dummy", "session": id}))
		}
	}},
	{name: "makes an account without auth", by: "uia/never-succeeds-without-auth", answer: func(_ *backend, x *exchange) {
		if x.register() && x.sent["password"] != nil && x.auth() == nil {
			x.status, x.json = 200, map[string]any{"user_id": "@a:example.org"}
		}
	}},
	{name: "answers a wrong token with 403", by: "uia/a-failed-attempt-is-401", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "answers a wrong token without the flows", by: "uia/a-failed-attempt-names-its-session", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			x.refuse(401, "M_UNAUTHORIZED")
		}
	}},
	{name: "ends the session with a wrong token", by: "uia/a-second-attempt-passes", answer: func(b *backend, x *exchange) {
		if id := x.authString("session"); x.errcode() == "M_UNAUTHORIZED" {
			b.put(id, "dead")
		} else if id != "" && b.get(id) == "dead" {
			x.refuse(400, "M_UNKNOWN")
		}
	}},
	{name: "puts an errcode on the first 401", by: "uia/the-first-401-has-no-errcode", answer: func(_ *backend, x *exchange) {
		if x.register() && x.status == 401 && x.json["completed"] == nil && x.errcode() == "" {
			x.json["errcode"], x.json["error"] = "M_UNAUTHORIZED", "Authentication required"
		}
	}},
	{name: "puts an errcode on progress", by: "uia/progress-has-no-errcode", answer: func(_ *backend, x *exchange) {
		if x.register() && x.json["completed"] != nil {
			x.json["errcode"] = "M_UNAUTHORIZED"
		}
	}},
	{name: "does not say what is completed", by: "uia/a-passed-stage-is-completed", answer: func(_ *backend, x *exchange) {
		delete(x.json, "completed")
	}},
	{name: "says completed twice when asked twice", by: "uia/completed-is-exact", answer: func(b *backend, x *exchange) {
		if list, ok := x.json["completed"].([]any); ok && x.authString("type") == "" {
			x.json["completed"] = append(list, list...)
		}
	}},
	{name: "attempts a completed stage again", by: "uia/a-completed-stage-again", answer: func(b *backend, x *exchange) {
		if x.json["completed"] != nil && x.authString("token") != "" && b.put(x.authString("session"), "once") != "" {
			x.json = with(without(x.json, "completed"), "errcode", "M_UNAUTHORIZED")
		}
	}},
	{name: "takes no poll", by: "uia/a-poll-of-a-fresh-session", answer: func(_ *backend, x *exchange) {
		if x.register() && x.authString("session") != "" && x.authString("type") == "" {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "drops the session after four polls", by: "uia/polls-are-not-attempts", answer: func(b *backend, x *exchange) {
		if id := x.authString("session"); x.register() && id != "" && x.authString("type") == "" {
			if polls := b.get(id); len(polls) == 4 {
				x.refuse(400, "M_UNKNOWN")
			} else {
				b.put(id, polls+".")
			}
		}
	}},
	{name: "shares completed stages between sessions", by: "uia/another-sessions-stages-do-not-count", answer: func(b *backend, x *exchange) {
		user, _ := x.sent["username"].(string)
		if list := x.json["completed"]; list != nil {
			b.put(user, "completed")
		} else if x.register() && x.status == 401 && user != "" && b.get(user) != "" {
			x.json["completed"] = []string{uia.TokenType}
		}
	}},
	{name: "has no null auth", by: "uia/null-auth-opens-a-session", answer: func(_ *backend, x *exchange) {
		if auth, there := x.sent["auth"]; there && auth == nil {
			x.refuse(400, "M_BAD_JSON")
		}
	}},
	{name: "has no empty body", by: "uia/an-empty-body-opens-a-session", answer: func(_ *backend, x *exchange) {
		if x.register() && len(x.raw) == 0 {
			x.refuse(400, "M_NOT_JSON")
		}
	}},
	{name: "has no auth without a type", by: "uia/auth-without-type-and-session-opens-a-session", answer: func(_ *backend, x *exchange) {
		if x.auth() != nil && x.authString("type") == "" && x.authString("session") == "" {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "checks the content type", by: "uia/text-plain-is-json", answer: func(_ *backend, x *exchange) {
		if x.register() && x.r.Header.Get("Content-Type") == "text/plain" {
			x.refuse(415, "M_UNKNOWN")
		}
	}},
	{name: "has no r0", by: "uia/r0-is-served", answer: func(_ *backend, x *exchange) {
		if strings.Contains(x.path(), "/r0/") {
			x.refuse(404, "M_UNRECOGNIZED")
		}
	}},
	{name: "takes Auth for auth", by: "uia/member-names-are-case-sensitive", answer: func(_ *backend, x *exchange) {
		if x.sent["Auth"] != nil {
			x.send(with(without(x.sent, "Auth", "AUTH"), "auth", x.sent["Auth"]))
		}
	}},
	{name: "sticks to the first username", by: "uia/the-latest-parameters-win", answer: func(b *backend, x *exchange) {
		user, _ := x.sent["username"].(string)
		session, _ := x.json["session"].(string)
		if x.register() && x.auth() == nil && user != "" {
			b.put(session, user)
		} else if first := b.get(x.authString("session")); x.status == 200 && first != "" {
			x.json["user_id"] = "@" + first + ":example.org"
		}
	}},
	{name: "remembers no parameters", by: "uia/the-parameters-are-remembered", answer: func(_ *backend, x *exchange) {
		if x.register() && x.auth() != nil && len(x.sent) == 1 && x.status == 200 {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "answers errors in HTML", by: "uia/other-errors-are-in-the-standard-format", answer: func(_ *backend, x *exchange) {
		if x.status == 400 {
			x.json, x.body = nil, []byte("<h1>Bad Request</h1>")
			x.header.Set("Content-Type", "text/html")
		}
	}},
	{name: "has no CORS", by: "uia/a-browser-may-read-a-challenge", answer: func(_ *backend, x *exchange) {
		maps.DeleteFunc(x.header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Access-Control-") })
	}},
	{name: "has no CORS on errors", by: "uia/a-browser-may-read-an-error", answer: func(_ *backend, x *exchange) {
		if x.status == 400 {
			x.header.Del("Access-Control-Allow-Origin")
		}
	}},
	{name: "has no OPTIONS", by: "uia/a-browser-may-ask", answer: func(_ *backend, x *exchange) {
		if x.r.Method == http.MethodOptions {
			x.refuse(405, "M_UNRECOGNIZED")
		}
	}},

	// Tokens
	{name: "spends at the stage", by: "token/the-stage-alone-spends-nothing", store: func(s uia.Store) uia.Store { return spendsAtStage{s} }},
	{name: "forgets to give back", by: "token/a-refused-registration-keeps-the-token", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if token := x.authString("token"); token != "" {
			b.put(id, token)
		}
		if x.errcode() == "M_USER_IN_USE" && b.get(id) != "" {
			_, _ = b.tokens.UpdateToken(context.Background(), b.get(id), uia.TokenPatch{Revoked: new(true)}, time.Now())
		}
	}},
	{name: "double-spends in a race", by: "races/one-use-one-account", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "double-spends in a race of single stages", flow: "T", by: "races/one-use-one-account", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "lets two sessions hold one use", by: "token/a-held-use-is-nobody-elses", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "takes expired tokens", by: "token/an-expired-token-is-401", store: func(s uia.Store) uia.Store { return neverExpires{s} }},
	{name: "has no unlimited tokens", by: "token/an-unlimited-token-has-no-limit", store: func(s uia.Store) uia.Store { return alwaysLimited{s} }},
	{name: "leaks the reason", by: "token/the-reason-is-not-told", answer: func(b *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			if _, err := b.tokens.Token(context.Background(), x.authString("token"), time.Now()); err == nil {
				x.json["error"] = "The token has been used."
			}
		}
	}},
	{name: "echoes the token", by: "token/the-token-is-not-echoed", answer: func(_ *backend, x *exchange) {
		if token := x.authString("token"); token != "" && x.json != nil {
			x.json["token"] = token
		}
	}},
	{name: "folds the case of tokens", by: "token/tokens-are-case-sensitive", answer: func(_ *backend, x *exchange) {
		if token := x.authString("token"); x.errcode() == "M_UNAUTHORIZED" {
			x.send(with(x.sent, "auth", with(x.auth(), "token", strings.ToLower(token))))
		}
	}},
	{name: "breaks on a token that is no string", by: "token/a-token-that-is-no-string/number", answer: func(_ *backend, x *exchange) {
		if _, ok := x.auth()["token"].(float64); ok {
			x.refuse(500, "M_UNKNOWN")
		}
	}},
	{name: "has tokens of 63 characters at most", by: "token/a-token-of-64-characters", answer: func(_ *backend, x *exchange) {
		if len(x.authString("token")) == 64 && x.status < 402 {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},

	// Validity
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

	// Registration
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

	// Bad input
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

	// Fallback
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

	// Administration
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

	// Limits
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

func freshAccessToken(_ *backend, x *exchange) {
	if x.register() && x.json["access_token"] != nil {
		x.json["access_token"] = rand.Text()
	}
}

// spendsAtStage shows a held use as spent.
type spendsAtStage struct{ uia.Store }

func (s spendsAtStage) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	t, err := s.Store.Token(ctx, value, now)
	t.Completed, t.Pending = t.Completed+t.Pending, 0
	return t, err
}

// overdraws makes room for whoever comes while the last use is not spent yet.
type overdraws struct{ uia.Store }

func (s overdraws) Reserve(ctx context.Context, h uia.Hold, now time.Time) (uia.Token, error) {
	for {
		t, err := s.Store.Reserve(ctx, h, now)
		if !errors.Is(err, uia.ErrExhausted) {
			return t, err
		}
		t, err = s.Store.Token(ctx, h.Token, now)
		if err != nil {
			return t, err
		}
		more := new(*t.UsesAllowed + 1)
		if _, err := s.UpdateToken(ctx, h.Token, uia.TokenPatch{UsesAllowed: &more}, now); err != nil {
			return t, err
		}
	}
}

// neverExpires forgets when tokens expire.
type neverExpires struct{ uia.Store }

func (s neverExpires) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	for i := range tokens {
		tokens[i].Expires = time.Time{}
	}
	return s.Store.CreateTokens(ctx, tokens...)
}

// alwaysLimited takes any number of uses for one.
type alwaysLimited struct{ uia.Store }

func (s alwaysLimited) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	for i, t := range tokens {
		if t.UsesAllowed == nil {
			tokens[i].UsesAllowed = new(int64(1))
		}
	}
	return s.Store.CreateTokens(ctx, tokens...)
}
