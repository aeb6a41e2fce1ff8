package stages_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/stages"
)

type dict = map[string]any

// gate is the stage before the one that is tested.
type gate struct{ uia.DummyStage }

func (gate) Type() string { return "example.gate" }

const gateType = "example.gate"

// host is a homeserver with one operation, of @alice:example.org, whose flow is the
// gate, the stage, and the dummy stage.
type host struct {
	t       *testing.T
	engine  *uia.Engine
	pages   *fallback.Handler
	handler *http.ServeMux
	client  netip.Addr                 // who sends the requests
	results map[string]json.RawMessage // what the operation has found
	decoded map[string]any             // and by type what it was decoded to
}

func newHost(t *testing.T, subject string, stage uia.Stage) *host {
	h := &host{t: t, handler: http.NewServeMux(), client: netip.MustParseAddr("192.0.2.1")}
	var err error
	h.engine, err = uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("a secret of the tests, 32 bytes long or more")),
		Stages:     []uia.Stage{gate{}, stage, uia.DummyStage{}},
		Operations: []uia.Operation{{Name: "op", Flows: []uia.Flow{{gateType, stage.Type(), "m.login.dummy"}}}},
		Sessions:   memstore.New(nil),
		Client:     func(*http.Request) netip.Addr { return h.client },
	})
	require.NoError(t, err)
	h.pages, err = fallback.New(h.engine, nil)
	require.NoError(t, err)
	h.handler.Handle(fallback.Path, h.pages)
	h.serveOp(subject, stage)
	return h
}

// serveOp mounts the operation.
func (h *host) serveOp(subject string, stage uia.Stage) {
	h.handler.HandleFunc("POST /op", func(w http.ResponseWriter, r *http.Request) {
		h.engine.Serve(w, r, uia.Caller{Operation: "op", Subject: subject}, func(_ context.Context, s *uia.Session) (uia.Effect, error) {
			h.results = map[string]json.RawMessage{stage.Type(): s.Result(stage.Type())}
			h.decoded = map[string]any{}
			if r, ok := stages.EmailOf(s); ok {
				h.decoded[stages.EmailType] = r
			}
			if r, ok := stages.TermsOf(s); ok {
				h.decoded[stages.TermsType] = r
			}
			if r, ok := stages.OutOfBandOf(s, stages.SSOType); ok {
				h.decoded[stages.SSOType] = r
			}
			return uia.Effect{}, nil
		})
	})
}

type answer struct {
	Status    int
	Errcode   string                     `json:"errcode"`
	Session   string                     `json:"session"`
	SID       string                     `json:"sid"`
	Completed []string                   `json:"completed"`
	Params    map[string]json.RawMessage `json:"params"`
	Body      string
}

func (h *host) post(path string, body dict) (a answer) {
	h.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(h.t, err)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(string(encoded))))
	require.NoError(h.t, json.Unmarshal(w.Body.Bytes(), &a), w.Body)
	a.Status, a.Body = w.Code, w.Body.String()
	return a
}

// auth sends auth data of the session.
func (h *host) auth(session, typ string, data dict) answer {
	h.t.Helper()
	auth := dict{"type": typ, "session": session}
	maps.Copy(auth, data)
	return h.post("/op", dict{"auth": auth})
}

// open opens a session that has passed the gate.
func (h *host) open() string {
	h.t.Helper()
	a := h.post("/op", dict{"auth": dict{"type": gateType}})
	require.Equal(h.t, []string{gateType}, a.Completed, a.Body)
	return a.Session
}

// page opens the stage's page with form nil, or submits it.
func (h *host) page(session, typ string, form url.Values) *httptest.ResponseRecorder {
	h.t.Helper()
	path := strings.Replace(fallback.Path, "{type}", typ, 1) + "?session=" + session
	r := httptest.NewRequest("GET", path, nil)
	if form != nil {
		r = httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	assert.Equal(h.t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	return w
}

// subject is a stage with what one has to know of it to test it.
type subject struct {
	user  string // whose session it is
	stage uia.Stage
	// prepare is what the client or the user does elsewhere; nil for nothing.
	prepare func(h *host, session string)

	right     dict
	result    string // what it leaves; empty for nothing
	wrong     dict   // nil: nothing is wrong
	status    int    // of wrong
	errcode   string
	missing   dict // nil: nothing can be missing
	wrongType dict

	form, formWrong, formMissing url.Values // nil: there is none

	down  func(bool) // what the stage needs fails; nil: it needs nothing
	calls func() int // how often the stage has asked for it
}

// passed is the answer that says that the stage is completed.
func assertPassed(t *testing.T, a answer, typ string) {
	t.Helper()
	assert.Equal(t, 401, a.Status)
	assert.Empty(t, a.Errcode, "progress carries no errcode")
	assert.Equal(t, []string{gateType, typ}, a.Completed, a.Body)
}

func TestStages(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *subject{
		"terms": termsSubject, "password": passwordSubject, "captcha": captchaSubject, "e-mail": emailSubject, "out of band": outOfBandSubject,
	} {
		t.Run(name, func(t *testing.T) {
			for behaviour, check := range map[string]func(*testing.T, *subject, *host){
				"right": right, "wrong": wrong, "missing field": missing, "wrong type": wrongType, "provider down": providerDown,
				"repeated": repeated, "out of order": outOfOrder, "its page": itsPage,
			} {
				t.Run(behaviour, func(t *testing.T) {
					s := make(t)
					check(t, s, newHost(t, s.user, s.stage))
				})
			}
		})
	}
}

func (s *subject) session(h *host) string {
	session := h.open()
	if s.prepare != nil {
		s.prepare(h, session)
	}
	return session
}

func right(t *testing.T, s *subject, h *host) {
	session, typ := s.session(h), s.stage.Type()
	assertPassed(t, h.auth(session, typ, s.right), typ)
	a := h.auth(session, "m.login.dummy", nil)
	assert.Equal(t, 200, a.Status, a.Body)
	if s.result == "" {
		assert.Nil(t, h.results[typ])
		assert.Empty(t, h.decoded)
		return
	}
	assert.JSONEq(t, s.result, string(h.results[typ]))
	decoded, err := json.Marshal(h.decoded)
	require.NoError(t, err)
	assert.JSONEq(t, `{"`+typ+`":`+s.result+`}`, string(decoded), "by the function of this stage, and by no other")
}

func wrong(t *testing.T, s *subject, h *host) {
	if s.wrong == nil {
		return
	}
	session, typ := s.session(h), s.stage.Type()
	a := h.auth(session, typ, s.wrong)
	assert.Equal(t, s.status, a.Status, a.Body)
	assert.Equal(t, s.errcode, a.Errcode)
	if s.status == 401 {
		assert.Equal(t, []string{gateType}, a.Completed)
		assert.Equal(t, session, a.Session)
	}
	assertPassed(t, h.auth(session, typ, s.right), typ)
}

func missing(t *testing.T, s *subject, h *host) {
	if s.missing == nil {
		return
	}
	session, typ := s.session(h), s.stage.Type()
	for _, data := range []dict{s.missing, {}} {
		a := h.auth(session, typ, data)
		assert.Equal(t, 401, a.Status, a.Body)
		assert.Equal(t, "M_MISSING_PARAM", a.Errcode)
	}
	assertPassed(t, h.auth(session, typ, s.right), typ)
}

func wrongType(t *testing.T, s *subject, h *host) {
	if s.wrongType == nil {
		return
	}
	session, typ := s.session(h), s.stage.Type()
	for name, value := range s.wrongType {
		data := maps.Clone(s.right)
		data[name] = value
		a := h.auth(session, typ, data)
		assert.Equal(t, 401, a.Status, a.Body)
		assert.Equal(t, "M_INVALID_PARAM", a.Errcode)
	}
	assertPassed(t, h.auth(session, typ, s.right), typ)
}

func providerDown(t *testing.T, s *subject, h *host) {
	if s.down == nil {
		return
	}
	session, typ := s.session(h), s.stage.Type()
	s.down(true)
	a := h.auth(session, typ, s.right)
	assert.Equal(t, 500, a.Status, a.Body)
	assert.Equal(t, "M_UNKNOWN", a.Errcode)
	assert.NotContains(t, a.Body, "down", "the cause is nobody's business")
	if s.form != nil {
		w := h.page(session, typ, s.form)
		assert.Equal(t, 500, w.Code)
		assert.Contains(t, w.Body.String(), "Please try again in a moment")
		assert.Contains(t, w.Body.String(), "<button>", "and can be")
	}
	a = h.post("/op", dict{"auth": dict{"session": session}})
	assert.Equal(t, []string{gateType}, a.Completed, "it fails closed")
	s.down(false)
	assertPassed(t, h.auth(session, typ, s.right), typ)
}

func repeated(t *testing.T, s *subject, h *host) {
	session, typ := s.session(h), s.stage.Type()
	assertPassed(t, h.auth(session, typ, s.right), typ)
	calls := s.calls()
	for _, data := range []dict{s.right, s.wrong, {}} {
		assertPassed(t, h.auth(session, typ, data), typ)
	}
	assert.Equal(t, calls, s.calls(), "a completed stage is not attempted again")
}

func outOfOrder(t *testing.T, s *subject, h *host) {
	a := h.auth(h.post("/op", dict{}).Session, s.stage.Type(), s.right)
	assert.Equal(t, 401, a.Status, a.Body)
	assert.Equal(t, "M_FORBIDDEN", a.Errcode)
	assert.Empty(t, a.Completed)
	assert.Zero(t, s.calls())
	w := h.page(a.Session, s.stage.Type(), url.Values{})
	assert.Equal(t, 403, w.Code)
}

func itsPage(t *testing.T, s *subject, h *host) {
	session, typ := h.open(), s.stage.Type()
	w := h.page(session, typ, nil)
	assert.Equal(t, 200, w.Code)
	if s.prepare != nil {
		s.prepare(h, session)
	}
	if s.formMissing != nil {
		w = h.page(session, typ, s.formMissing)
		assert.Equal(t, 400, w.Code)
		assert.Contains(t, w.Body.String(), `role="alert"`)
		assert.Contains(t, w.Body.String(), "<button>")
	}
	if s.formWrong != nil {
		w = h.page(session, typ, s.formWrong)
		assert.Equal(t, 401, w.Code)
		assert.Contains(t, w.Body.String(), `role="alert"`)
		assert.Contains(t, w.Body.String(), "<button>")
		assert.NotContains(t, w.Body.String(), "onAuthDone")
	}
	if s.form != nil {
		w = h.page(session, typ, s.form)
		assert.Equal(t, 200, w.Code)
	} else {
		w = h.page(session, typ, nil)
	}
	assert.Contains(t, w.Body.String(), "window.onAuthDone()", "the client is told")
	assertPassed(t, h.post("/op", dict{"auth": dict{"session": session}}), typ)
}

var errDown = errors.New("down")

func never() int { return 0 }

func termsStage(t *testing.T) *stages.TermsStage {
	stage, err := stages.NewTermsStage(
		stages.Policy{ID: "terms_of_service", Version: "1.2", Texts: map[string]stages.PolicyText{
			"en": {Name: "Terms of Service", URL: "https://example.org/terms-1.2-en.html"},
			"fr": {Name: "Conditions d'utilisation", URL: "https://example.org/terms-1.2-fr.html"},
		}},
		stages.Policy{ID: "privacy", Version: "7", Texts: map[string]stages.PolicyText{"en": {Name: "Privacy", URL: "https://example.org/privacy"}}},
	)
	require.NoError(t, err)
	return stage
}

func termsSubject(t *testing.T) *subject {
	return &subject{
		stage: termsStage(t), right: dict{}, calls: never,
		result:      `{"accepted":{"terms_of_service":"1.2","privacy":"7"}}`,
		form:        url.Values{"terms_of_service": {"yes"}, "privacy": {"yes"}},
		formMissing: url.Values{"terms_of_service": {"yes"}},
	}
}

func passwordSubject(*testing.T) *subject {
	calls, down := 0, false
	verify := func(_ context.Context, id stages.Identifier, password string) (string, error) {
		calls++
		switch {
		case down:
			return "", errDown
		case strings.Contains(id.User, "alice") && password == "wonderland":
			return "@alice:example.org", nil
		}
		return "", nil
	}
	alice := dict{"type": "m.id.user", "user": "alice"}
	return &subject{
		user: "@alice:example.org", stage: &stages.PasswordStage{Verify: verify},
		right: dict{"identifier": alice, "password": "wonderland"},
		wrong: dict{"identifier": alice, "password": "looking-glass"}, status: 401, errcode: "M_FORBIDDEN",
		missing:     dict{"identifier": alice},
		wrongType:   dict{"identifier": "alice", "password": 7},
		form:        url.Values{"password": {"wonderland"}},
		formWrong:   url.Values{"password": {"looking-glass"}},
		formMissing: url.Values{"password": {""}},
		down:        func(now bool) { down = now },
		calls:       func() int { return calls },
	}
}

func captchaSubject(t *testing.T) *subject {
	calls, down := 0, false
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		switch {
		case down:
			http.Error(w, "down", http.StatusServiceUnavailable)
		case r.PostFormValue("secret") == "shh" && r.PostFormValue("response") == "human":
			_, _ = w.Write([]byte(`{"success":true,"hostname":"example.org"}`))
		default:
			_, _ = w.Write([]byte(`{"success":false,"error-codes":["invalid-input-response"]}`))
		}
	}))
	t.Cleanup(provider.Close)
	p := stages.HCaptcha
	p.VerifyURL = provider.URL
	return &subject{
		stage: &stages.CaptchaStage{Provider: p, SiteKey: "site", Secret: "shh", Hostnames: []string{"example.org"}},
		right: dict{"response": "human"},
		wrong: dict{"response": "robot"}, status: 401, errcode: "M_CAPTCHA_INVALID",
		missing:     dict{"response": ""},
		wrongType:   dict{"response": []int{1}},
		form:        url.Values{"h-captcha-response": {"human"}},
		formWrong:   url.Values{"h-captcha-response": {"robot"}},
		formMissing: url.Values{"h-captcha-response": {""}},
		down:        func(now bool) { down = now },
		calls:       func() int { return calls },
	}
}

func outOfBandSubject(t *testing.T) *subject {
	stage := &stages.OutOfBandStage{URL: func(context.Context, *uia.Session) (string, error) { return "https://sso.example/", nil }}
	return &subject{
		user: "@alice:example.org", stage: stage, right: dict{}, calls: never,
		result: `{"user_id":"@alice:example.org"}`,
		prepare: func(h *host, session string) {
			assert.ErrorContains(t, stage.Complete(t.Context(), h.engine, session, "@bob:example.org"), "M_FORBIDDEN")
			assert.ErrorContains(t, stage.Complete(t.Context(), h.engine, session, ""), "M_FORBIDDEN")
			a := h.auth(session, stages.SSOType, dict{})
			assert.Equal(t, []string{gateType}, a.Completed, "an attempt of the client completes nothing")
			assert.Empty(t, a.Errcode)
			require.NoError(t, stage.Complete(t.Context(), h.engine, session, "@alice:example.org"))
		},
	}
}
