package stages_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/stages"
)

func matrixError(code spec.MatrixErrorCode) spec.MatrixError {
	return spec.MatrixError{ErrCode: code, Err: "text"}
}

func TestIdentifiers(t *testing.T) {
	var seen []stages.Identifier
	stage := &stages.PasswordStage{Verify: func(_ context.Context, id stages.Identifier, password string) (string, error) {
		seen = append(seen, id)
		switch {
		case id.Address == "nobody@example.org":
			return "", stages.ErrUnknownAddress
		case id.Address == "bob@example.org" && password == "builder":
			return "@bob:example.org", nil
		case password == "wonderland":
			return "@alice:example.org", nil
		}
		return "", nil
	}}
	alice := stages.Identifier{User: "@alice:example.org"}
	mail := stages.Identifier{Medium: "email", Address: "alice@example.org"}
	for name, c := range map[string]struct {
		auth    dict
		status  int // 401 without an errcode: passed
		errcode string
		seen    stages.Identifier // the zero value: the password was not looked at
	}{
		"user ID":        {dict{"identifier": dict{"type": "m.id.user", "user": alice.User}, "password": "wonderland"}, 401, "", alice},
		"localpart":      {dict{"identifier": dict{"type": "m.id.user", "user": "alice"}, "password": "wonderland"}, 401, "", stages.Identifier{User: "alice"}},
		"address":        {dict{"identifier": dict{"type": "m.id.thirdparty", "medium": "email", "address": mail.Address}, "password": "wonderland"}, 401, "", mail},
		"flat user":      {dict{"user": alice.User, "password": "wonderland"}, 401, "", alice},
		"flat address":   {dict{"medium": "email", "address": mail.Address, "password": "wonderland"}, 401, "", mail},
		"both":           {dict{"identifier": dict{"type": "m.id.user", "user": alice.User}, "user": "bob", "password": "wonderland"}, 401, "", alice},
		"another's":      {dict{"identifier": dict{"type": "m.id.user", "user": "bob"}, "password": "builder"}, 403, "M_FORBIDDEN", stages.Identifier{}},
		"another's ID":   {dict{"user": "@bob:example.org", "password": "builder"}, 403, "M_FORBIDDEN", stages.Identifier{}},
		"another server": {dict{"user": "@alice:evil.example", "password": "wonderland"}, 403, "M_FORBIDDEN", stages.Identifier{}},
		"another's mail": {dict{"medium": "email", "address": "bob@example.org", "password": "builder"}, 403, "M_FORBIDDEN", stages.Identifier{Medium: "email", Address: "bob@example.org"}},
		"nobody's mail":  {dict{"medium": "email", "address": "nobody@example.org", "password": "x"}, 403, "M_FORBIDDEN", stages.Identifier{Medium: "email", Address: "nobody@example.org"}},
		"a phone":        {dict{"identifier": dict{"type": "m.id.phone", "country": "GB", "phone": "1"}, "password": "x"}, 401, "M_INVALID_PARAM", stages.Identifier{}},
		"no type":        {dict{"identifier": dict{"user": "alice"}, "password": "x"}, 401, "M_MISSING_PARAM", stages.Identifier{}},
		"no user":        {dict{"identifier": dict{"type": "m.id.user"}, "password": "x"}, 401, "M_MISSING_PARAM", stages.Identifier{}},
		"empty password": {dict{"user": "alice", "password": ""}, 401, "M_FORBIDDEN", stages.Identifier{User: "alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			h := newHost(t, "@alice:example.org", stage)
			a := h.auth(h.open(), stages.PasswordType, c.auth)
			assert.Equal(t, c.status, a.Status, a.Body)
			assert.Equal(t, c.errcode, a.Errcode)
			if c.seen == (stages.Identifier{}) {
				assert.Empty(t, seen, "somebody else's password is not looked at")
			} else {
				assert.Equal(t, []stages.Identifier{c.seen}, seen)
			}
		})
	}
	h := newHost(t, "", stage)
	a := h.auth(h.open(), stages.PasswordType, dict{"user": "alice", "password": "wonderland"})
	assert.Equal(t, 403, a.Status, "nobody's session is authorised by nobody's password")
}

func TestTermsRemainThoseThatWereShown(t *testing.T) {
	text := map[string]stages.PolicyText{"en": {Name: "Terms", URL: "https://example.org/terms"}}
	one := stages.Policy{ID: "terms", Version: "1", Texts: text}
	two := stages.Policy{ID: "terms", Version: "2", Texts: map[string]stages.PolicyText{"de": {Name: "Bedingungen", URL: "https://example.org/de"}}}
	h := map[string]*host{}
	store := memstore.New(nil) // the process is restarted with other policies
	for name, policies := range map[string][]stages.Policy{"old": {one}, "new": {two, one}, "forgetful": {two}} {
		stage, err := stages.NewTermsStage(policies...)
		require.NoError(t, err)
		h[name] = newHostOn(t, store, stage)
	}
	a := h["old"].post("/op", dict{"auth": dict{"type": gateType}})
	want := `{"policies":{"terms":{"version":"1","en":{"name":"Terms","url":"https://example.org/terms"}}}}`
	assert.JSONEq(t, want, string(a.Params[stages.TermsType]))
	poll := dict{"auth": dict{"session": a.Session}}
	assert.JSONEq(t, want, string(h["new"].post("/op", poll).Params[stages.TermsType]))
	assert.Contains(t, h["new"].page(a.Session, stages.TermsType, nil).Body.String(), "https://example.org/terms")
	w := h["forgetful"].page(a.Session, stages.TermsType, nil)
	assert.Equal(t, 400, w.Code)
	assert.Contains(t, w.Body.String(), "The terms have changed")

	require.Equal(t, 401, h["new"].auth(a.Session, stages.TermsType, nil).Status)
	require.Equal(t, 200, h["new"].auth(a.Session, "m.login.dummy", nil).Status)
	assert.JSONEq(t, `{"accepted":{"terms":"1"}}`, string(h["new"].results[stages.TermsType]))

	session := h["new"].open()
	assert.Contains(t, h["new"].page(session, stages.TermsType, nil).Body.String(), `href="https://example.org/de" lang="de" hreflang="de"`)
}

// TestTermsProveNothing lets a session begin with the acceptance of terms: a stranger's
// request then costs a database write, of which New warns.
func TestTermsProveNothing(t *testing.T) {
	for _, c := range []struct {
		stage uia.Stage
		free  bool
	}{
		{termsStage(t), true},
		{&stages.PasswordStage{Verify: func(context.Context, stages.Identifier, string) (string, error) { return "", nil }}, false},
	} {
		var log bytes.Buffer
		_, err := uia.New(uia.Config{
			Secrets:    uia.FixedSecrets([]byte("a secret of the tests, 32 bytes long or more")),
			Stages:     []uia.Stage{c.stage, gate{}},
			Operations: []uia.Operation{{Name: "op", Flows: []uia.Flow{{c.stage.Type(), gateType}}}},
			Sessions:   memstore.New(nil),
			Logger:     slog.New(slog.NewTextHandler(&log, nil)),
		})
		require.NoError(t, err)
		assert.Equal(t, c.free, strings.Contains(log.String(), "operation=op stage="+c.stage.Type()), "%s: %q", c.stage.Type(), &log)
	}
}

func newHostOn(t *testing.T, store uia.Store, stage uia.Stage) *host {
	h := newHost(t, "", stage)
	var err error
	h.engine, err = uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("a secret of the tests, 32 bytes long or more")),
		Stages:     []uia.Stage{gate{}, stage, uia.DummyStage{}},
		Operations: []uia.Operation{{Name: "op", Flows: []uia.Flow{{gateType, stage.Type(), "m.login.dummy"}}}},
		Sessions:   store,
	})
	require.NoError(t, err)
	h.pages, err = fallback.New(h.engine, nil)
	require.NoError(t, err)
	pages := h.pages
	h.handler = http.NewServeMux()
	h.handler.Handle(fallback.Path, pages)
	h.serveOp("", stage)
	return h
}

func TestPoliciesInTheUsersLanguage(t *testing.T) {
	h := newHost(t, "", termsStage(t))
	session := h.open()
	for header, want := range map[string]string{
		"fr-CH, fr;q=0.9, en;q=0.8": "terms-1.2-fr", "de, en;q=0.5": "terms-1.2-en", "en;q=0.2,fr;q=0.7": "terms-1.2-fr",
		"": "terms-1.2-en", "*": "terms-1.2-en", "FR": "terms-1.2-fr", ";;q=,,;": "terms-1.2-en",
	} {
		r := httptest.NewRequest("GET", strings.Replace(fallback.Path, "{type}", stages.TermsType, 1)+"?session="+session, nil)
		r.Header.Set("Accept-Language", header)
		w := httptest.NewRecorder()
		h.handler.ServeHTTP(w, r)
		assert.Contains(t, w.Body.String(), want, header)
	}
}

func TestPoliciesThatAreWrong(t *testing.T) {
	text := map[string]stages.PolicyText{"en": {Name: "n", URL: "https://example.org"}}
	for name, policies := range map[string][]stages.Policy{
		"none":           nil,
		"no ID":          {{Version: "1", Texts: text}},
		"no version":     {{ID: "a", Texts: text}},
		"no text":        {{ID: "a", Version: "1"}},
		"equals":         {{ID: "a=b", Version: "1", Texts: text}},
		"twice":          {{ID: "a", Version: "1", Texts: text}, {ID: "a", Version: "1", Texts: text}},
		"no name":        {{ID: "a", Version: "1", Texts: map[string]stages.PolicyText{"en": {URL: "https://example.org"}}}},
		"a script":       {{ID: "a", Version: "1", Texts: map[string]stages.PolicyText{"en": {Name: "n", URL: "javascript:alert(1)"}}}},
		"no host":        {{ID: "a", Version: "1", Texts: map[string]stages.PolicyText{"en": {Name: "n", URL: "/terms"}}}},
		"a language not": {{ID: "a", Version: "1", Texts: map[string]stages.PolicyText{"version": {Name: "n", URL: "https://example.org"}}}},
		"too long":       {{ID: strings.Repeat("a", 511), Version: "1", Texts: text}},
	} {
		_, err := stages.NewTermsStage(policies...)
		assert.ErrorContains(t, err, "stages: ", name)
	}
}

func TestCaptchaProviders(t *testing.T) {
	for name, p := range map[string]stages.CaptchaProvider{"reCAPTCHA": stages.ReCAPTCHA, "hCaptcha": stages.HCaptcha, "Turnstile": stages.Turnstile} {
		h := newHost(t, "", &stages.CaptchaStage{Provider: p, SiteKey: "site", Secret: "shh"})
		session := h.open()
		assert.JSONEq(t, `{"public_key":"site"}`, string(h.post("/op", dict{}).Params[stages.CaptchaType]))
		w := h.page(session, stages.CaptchaType, nil)
		assert.Contains(t, w.Body.String(), `<div class="`+p.Class+`" data-sitekey="site">`, name)
		assert.Contains(t, w.Body.String(), `<script src="`+p.Script+`" async defer>`)
		for directive, sources := range p.Sources {
			assert.Regexp(t, directive+" [^;]*"+regexp.QuoteMeta(strings.Join(sources, " ")), w.Header().Get("Content-Security-Policy"))
		}
		assert.Regexp(t, "script-src [^;]*https://", w.Header().Get("Content-Security-Policy"))
	}
}

// Whatever a provider answers that is no verdict, the stage does not pass.
func TestCaptchaFailsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		status int // what the provider answers
		want   int
	}{
		"another host's":  {`{"success":true,"hostname":"evil.example"}`, 200, 401},
		"a used one":      {`{"success":false,"error-codes":["timeout-or-duplicate"]}`, 200, 401},
		"rejected, 400":   {`{"success":false,"error-codes":["invalid-input-response"]}`, 400, 401},
		"a wrong secret":  {`{"success":false,"error-codes":["invalid-input-secret"]}`, 200, 500},
		"no JSON":         {`<h1>success</h1>`, 200, 500},
		"nothing":         {``, 200, 500},
		"a page":          {`{}`, 404, 500},
		"a truth of text": {`{"success":"true"}`, 200, 500},
		"an endless one":  {`{"error-codes":["` + strings.Repeat("a", 1<<20) + `"],"success":true}`, 200, 500},
	} {
		t.Run(name, func(t *testing.T) {
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			}))
			defer provider.Close()
			p := stages.ReCAPTCHA
			p.VerifyURL = provider.URL
			h := newHost(t, "", &stages.CaptchaStage{Provider: p, SiteKey: "site", Secret: "shh", Hostnames: []string{"example.org"}})
			a := h.auth(h.open(), stages.CaptchaType, dict{"response": "x"})
			assert.Equal(t, c.want, a.Status, a.Body)
			assert.NotContains(t, a.Body, "shh")
		})
	}
}

// silent is a provider that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestCaptchaDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, "", &stages.CaptchaStage{Provider: stages.Turnstile, SiteKey: "site", Secret: "shh", HTTP: &http.Client{Transport: silent{}}})
		a := h.auth(h.open(), stages.CaptchaType, dict{"response": "x"})
		assert.Equal(t, 500, a.Status)
	})
}

func TestOutOfBandPageLinks(t *testing.T) {
	stage := &stages.OutOfBandStage{Provider: "Example <b>SSO</b>", URL: func(_ context.Context, s *uia.Session) (string, error) {
		return "https://sso.example/?for=" + url.QueryEscape(s.Key), nil
	}}
	h := newHost(t, "@alice:example.org", stage)
	body := h.page(h.open(), stages.SSOType, nil).Body.String()
	assert.Contains(t, body, `href="https://sso.example/?for=op.`)
	assert.NotContains(t, body, "<b>")
	assert.NotContains(t, body, "<button>")
}

func TestStagesThatAreConfiguredWrongly(t *testing.T) {
	_, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets([]byte("a secret of the tests, 32 bytes long or more")), Sessions: memstore.New(nil),
		Stages: []uia.Stage{&stages.PasswordStage{}, &stages.CaptchaStage{}, &stages.EmailStage{}, &stages.OutOfBandStage{}, &stages.TermsStage{}},
	})
	for _, part := range []string{"Verify", "Provider", "SiteKey", "Secret is", "Mailer", "Store", "Secrets is", "ConfirmURL", "Limiter", "URL is required", "use NewTermsStage"} {
		assert.ErrorContains(t, err, part)
	}
}
