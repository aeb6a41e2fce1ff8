package fallback_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/memstore"
)

const (
	markup = `"><script>alert(1)</script><b a='`
	user   = "@alice:test"
)

var flowTD = uia.Flow{uia.TokenType, "m.login.dummy"}

// site is a homeserver with the page: POST /register, and DELETE /devices/{id} for
// its one user.
type site struct {
	t       testing.TB
	store   uia.Store
	engine  *uia.Engine
	handler *http.ServeMux
	made    []string // usernames
	deleted []string // devices
}

type dict = map[string]any

// newSite mounts the page with these options, which may be nil, for registration with
// these flows. change may be nil.
func newSite(t testing.TB, flow uia.Flow, opts *fallback.Options, change func(*uia.Config)) *site {
	t.Helper()
	h := &site{t: t, store: memstore.New(nil), handler: http.NewServeMux()}
	limiter, err := limit.New(nil)
	require.NoError(t, err)
	username := func(s *uia.Session) (name string) {
		_, _ = s.Param("username", &name)
		return name
	}
	cfg := uia.Config{
		Secrets:  uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)),
		Sessions: h.store,
		Limiter:  limiter,
		Client:   func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		Stages:   []uia.Stage{&uia.TokenStage{Store: h.store}, uia.DummyStage{}, noPage{}},
		Operations: []uia.Operation{{
			Name: "register", Flows: []uia.Flow{flow}, Mutable: true, Remember: []string{"username", "password"},
			Resolve: func(context.Context, string) (uia.Outcome, error) { return uia.Outcome{}, errors.New("never in doubt") },
			Describe: func(s *uia.Session, say form.Say) string {
				return say("create the account {user}", "user", "@"+username(s)+":test")
			},
		}, {
			Name: "delete_device", Flows: []uia.Flow{{"m.login.password"}},
		}},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if change != nil {
		change(&cfg)
	}
	h.engine, err = uia.New(cfg)
	require.NoError(t, err)
	h.handler.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
		h.engine.Serve(w, r, uia.Caller{Operation: "register"}, func(_ context.Context, s *uia.Session) (uia.Effect, error) {
			h.made = append(h.made, username(s))
			return uia.Effect{UserID: user, Body: dict{"user_id": "@" + username(s) + ":test"}}, nil
		})
	})
	h.handler.HandleFunc("DELETE /devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		c := uia.Caller{Operation: "delete_device", Subject: user, Target: r.PathValue("id")}
		h.engine.Serve(w, r, c, func(context.Context, *uia.Session) (uia.Effect, error) {
			h.deleted = append(h.deleted, c.Target)
			return uia.Effect{}, nil
		})
	})
	pages, err := fallback.New(h.engine, opts)
	require.NoError(t, err)
	h.handler.Handle(fallback.Path, pages)
	h.handler.Handle(fallback.PathR0, pages)
	h.handler.Handle("/plain/", pages)
	return h
}

// noPage is a stage without a form.
type noPage struct{}

func (noPage) Type() string { return "m.login.password" }

func (noPage) Attempt(context.Context, *uia.Session, json.RawMessage) (json.RawMessage, error) {
	return nil, nil
}

func (h *site) token(value string, uses int64) {
	h.t.Helper()
	require.NoError(h.t, h.store.CreateTokens(h.t.Context(), uia.Token{Value: value, UsesAllowed: &uses}))
}

type answer struct {
	Status  int
	JSON    dict
	Session string
}

// send makes a client's request.
func (h *site) send(method, path string, body any) (a answer) {
	h.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(h.t, err)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(encoded)))
	require.NoError(h.t, json.Unmarshal(w.Body.Bytes(), &a.JSON))
	a.Status = w.Code
	a.Session, _ = a.JSON["session"].(string)
	return a
}

// open opens a session.
func (h *site) open(body any) string {
	h.t.Helper()
	a := h.send("POST", "/register", body)
	require.Equal(h.t, 401, a.Status, a.JSON)
	return a.Session
}

func pagePath(typ, session string) string {
	return strings.Replace(fallback.Path, "{type}", typ, 1) + "?session=" + url.QueryEscape(session)
}

// page opens the page with form nil, or submits it.
func (h *site) page(path string, form url.Values) *httptest.ResponseRecorder {
	h.t.Helper()
	if form == nil {
		return h.browse("GET", path, "")
	}
	return h.browse("POST", path, form.Encode())
}

func (h *site) browse(method, path, body string) *httptest.ResponseRecorder {
	h.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	if w.Header().Get("Content-Type") == "text/html; charset=utf-8" {
		assertSafe(h.t, w)
	} else {
		assert.Equal(h.t, "application/json", w.Header().Get("Content-Type"))
	}
	return w
}

var inline = regexp.MustCompile(`(?s)<(style|script)>(.*?)</(?:style|script)>`)

// assertSafe checks what holds for every page.
func assertSafe(t testing.TB, w *httptest.ResponseRecorder) {
	t.Helper()
	header, body := w.Header(), w.Body.String()
	assert.Equal(t, "DENY", header.Get("X-Frame-Options"))
	assert.Equal(t, "nosniff", header.Get("X-Content-Type-Options"))
	assert.Equal(t, "no-referrer", header.Get("Referrer-Policy"))
	assert.Equal(t, "no-store", header.Get("Cache-Control"))
	assert.Equal(t, "*", header.Get("Access-Control-Allow-Origin"))
	assert.Empty(t, header.Get("Cross-Origin-Opener-Policy"))
	policy := header.Get("Content-Security-Policy")
	for _, directive := range []string{"default-src 'none'", "base-uri 'none'", "form-action 'self'", "frame-ancestors 'none'"} {
		assert.Contains(t, policy, directive)
	}
	assert.NotContains(t, policy, "unsafe")
	for _, m := range inline.FindAllStringSubmatch(body, -1) {
		sum := sha256.Sum256([]byte(m[2]))
		assert.Contains(t, policy, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'", "the policy allows what the page has")
	}
	assert.NotContains(t, body, "alert(1)</script>", "nothing is reflected unescaped")
	assert.NotContains(t, body, "<b a=")
}

// wait lets the bubble's clock pass.
func wait(t testing.TB, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}
