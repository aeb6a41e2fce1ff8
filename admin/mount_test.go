package admin_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/internal/admintest"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

func anybody(*http.Request) (string, error) { return "@admin:test", nil }

// get asks a real server for a path as it is written, and follows no redirect.
func get(t *testing.T, h http.Handler, method, path string) (int, string) {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, nil)
	require.NoError(t, err)
	resp, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestMounting(t *testing.T) {
	store := memstore.New(nil)
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "abcd"}, uia.Token{Value: ".."}, uia.Token{Value: "registration_tokens"}))
	h := handler(t, store, anybody, nil)
	both := func(prefix string) http.Handler {
		mux := http.NewServeMux()
		mux.Handle(prefix+admin.Path, h)
		mux.Handle(prefix+admin.Path+"/", h)
		return mux
	}
	for name, mounted := range map[string]struct {
		http.Handler
		prefix string
	}{
		"as Synapse":          {both(""), admin.Path},
		"under a prefix":      {both("/matrix"), "/matrix" + admin.Path},
		"behind StripPrefix":  {http.StripPrefix("/a/b", both("")), "/a/b" + admin.Path},
		"without a mux":       {h, admin.Path},
		"under another name":  {http.StripPrefix("/admin", h), "/admin/registration_tokens"},
		"encoded in between":  {h, "/%61dmin/registration_tokens"},
		"as a whole":          {h, "/registration_tokens"},
		"behind another name": {http.StripPrefix("/registration_tokens", h), "/registration_tokens/x/registration_tokens"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"", "/", "?valid=true", "/?valid=true"} {
				status, body := get(t, mounted, "GET", mounted.prefix+path)
				assert.Equal(t, 200, status, path)
				assert.Contains(t, body, `"token":"abcd"`, path)
			}
			for path, want := range map[string]string{
				"/abcd": "abcd", "/%61bcd": "abcd", "/%2E%2E": "..", "/%2e%2e": "..", "/registration_tokens": "registration_tokens",
			} {
				status, body := get(t, mounted, "GET", mounted.prefix+path)
				assert.Equal(t, 200, status, path)
				assert.Contains(t, body, `{"token":"`+want+`"`, path)
			}
			status, body := get(t, mounted, "GET", mounted.prefix+"/ab%2Fcd")
			assert.Equal(t, 404, status)
			assert.Contains(t, body, "M_NOT_FOUND")
		})
	}
	status, body := get(t, h, "GET", "/elsewhere")
	assert.Equal(t, 404, status)
	assert.Contains(t, body, "M_UNRECOGNIZED")
}

// handler is admin.Handler where nothing is wrong.
func handler(t *testing.T, store uia.TokenStore, authorize func(*http.Request) (string, error), opts *admin.Options) http.Handler {
	t.Helper()
	h, err := admin.Handler(store, authorize, opts)
	require.NoError(t, err)
	return h
}

func TestWrongOptions(t *testing.T) {
	_, err := admin.Handler(nil, nil, &admin.Options{
		InviteURL: "https://chat.example.org", Secrets: uia.FixedSecrets([]byte("short")), Path: "admin/tokens", Words: []string{"one", "two"},
	})
	for _, want := range []string{
		"admin: the store is nil\n", "admin: authorize is nil\n", "admin: InviteURL has no {token}\n", "admin: Secrets: secret 1 of 1 has 5 bytes",
		"admin: Path does not begin with a slash\n", "admin: only 2 of the Words",
	} {
		assert.ErrorContains(t, err, want)
	}
	_, err = admin.Handler(memstore.New(nil), anybody, &admin.Options{Secrets: uia.FixedSecrets(nil)})
	require.ErrorContains(t, err, "admin: Secrets: secret 1 of 1 has 0 bytes")
}

func TestPagesGoOnAtAnotherProcess(t *testing.T) {
	store := memstore.New(nil)
	secrets := func(all ...string) func(*admin.Options) {
		return func(o *admin.Options) {
			o.Secrets = uia.FixedSecrets([]byte(strings.Repeat(all[0], 32)), []byte(strings.Repeat(all[len(all)-1], 32)))
		}
	}
	one, two := admintest.New(t, store, secrets("old")), admintest.New(t, store, secrets("new", "old"))
	one.Create("a", "b")
	assert.Equal(t, []string{"b"}, two.Do("GET", "?from="+one.Do("GET", "?limit=1", nil).Next(), nil).Tokens())
}

// broken is a store whose database is gone, and says more than it should.
type broken struct{ uia.TokenStore }

var errGone = errors.New("the database is gone")

func (broken) ListTokens(context.Context, uia.TokenQuery, time.Time) (uia.TokenPage, error) {
	return uia.TokenPage{}, errGone
}
func (broken) Token(context.Context, string, time.Time) (uia.Token, error) {
	return uia.Token{}, errGone
}
func (broken) CreateTokens(context.Context, ...uia.Token) error { return errGone }
func (broken) DeleteToken(context.Context, string) error        { return errGone }

func TestABrokenStoreIs500AndLogged(t *testing.T) {
	var log bytes.Buffer
	s := admintest.New(t, broken{}, func(o *admin.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	for _, request := range [][2]string{
		{"GET", ""}, {"GET", "/the-value"}, {"PUT", "/the-value"}, {"DELETE", "/the-value"}, {"POST", "/new"}, {"GET", "/the-value/uses"},
	} {
		log.Reset()
		a := s.Do(request[0], request[1], `{"token":"the-value"}`)
		assert.Equal(t, 500, a.Status, request)
		assert.Equal(t, "M_UNKNOWN", a.Code())
		assert.NotContains(t, a.Body, "database")
		assert.Contains(t, log.String(), "the database is gone")
		assert.NotContains(t, log.String(), "the-value")
	}
	assert.Empty(t, s.Events())
}

func TestAuthorizeDecides(t *testing.T) {
	var log bytes.Buffer
	store := memstore.New(nil)
	h := handler(t, store, func(*http.Request) (string, error) { return "@a:test", errGone }, &admin.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", admin.Path+"/new", strings.NewReader(`{}`)))
	assert.Equal(t, 500, w.Code, "an error that is no answer still refuses")
	assert.Contains(t, log.String(), "gone")
	page, err := store.ListTokens(t.Context(), uia.TokenQuery{}, admintest.Now)
	require.NoError(t, err)
	assert.Empty(t, page.Tokens)
}

func TestAnObserversPanicEndsThere(t *testing.T) {
	s := admintest.New(t, memstore.New(nil), func(o *admin.Options) {
		o.Observer = func(context.Context, uia.Event) { panic("a full disk") }
	})
	assert.Equal(t, 200, s.Do("POST", "/new", `{"token":"abcd"}`).Status)
	assert.Equal(t, 200, s.Do("DELETE", "/abcd", nil).Status)
}

func TestAFullStoreIsNoServerError(t *testing.T) {
	s := admintest.New(t, memstore.New(&memstore.Options{MaxTokens: 1}), nil)
	assert.Equal(t, 200, s.Do("POST", "/new", `{}`).Status)
	a := s.Do("POST", "/new", `{}`)
	assert.Equal(t, 403, a.Status)
	assert.Equal(t, "M_RESOURCE_LIMIT_EXCEEDED", a.Code())
}

func TestPath(t *testing.T) {
	store := memstore.New(nil)
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "abcd"}, uia.Token{Value: "tokens"}))
	for _, mount := range []string{"/admin/tokens", "/admin/tokens/", "/tokens", "/"} {
		h := handler(t, store, anybody, &admin.Options{Path: mount})
		base := strings.TrimSuffix(mount, "/")
		for path, want := range map[string]int{
			base: 200, base + "/": 200, base + "/abcd": 200, base + "/tokens": 200, base + "/abcd/uses": 200, base + "/nothing": 404,
			"/elsewhere" + base + "/abcd": 404, base + "/registration_tokens/abcd": 404,
		} {
			if path == "" {
				continue
			}
			status, body := get(t, h, "GET", path)
			assert.Equal(t, want, status, "%s at %s: %s", path, mount, body)
		}
	}
	status, _ := get(t, handler(t, store, anybody, &admin.Options{Path: "/admin/tokens"}), "GET", "/admin/tokensabcd")
	assert.Equal(t, 404, status)
}

func TestCheckMeta(t *testing.T) {
	reg := &register.Registration{ServerName: "example.org"}
	s := admintest.New(t, memstore.New(nil), func(o *admin.Options) { o.CheckMeta = reg.CheckMeta })
	for meta, want := range map[string]int{
		`{"username":"alice"}`: 200, `{"rooms":[]}`: 200, `{"username":"_irc_bob"}`: 400, `{"username":"` + strings.Repeat("a", 250) + `"}`: 400, `{"username":1}`: 400,
	} {
		a := s.Do("POST", "/new", `{"meta":`+meta+`}`)
		assert.Equal(t, want, a.Status, "%s: %s", meta, a.Body)
	}
	s.Create("abcd")
	assert.Equal(t, 400, s.Do("PUT", "/abcd", `{"meta":{"username":"123"}}`).Status)
}

// A page that an administrator visits makes their browser send what it likes, with
// whatever the browser sends along by itself. A web interface of another origin sends
// an access token.
func TestForgedRequests(t *testing.T) {
	store := memstore.New(nil)
	h := handler(t, store, anybody, nil) // as if by a cookie
	for name, c := range map[string]struct {
		header map[string]string
		want   int
	}{
		"a form of another site":             {map[string]string{"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}, 403},
		"of another subdomain":               {map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		"with the password of HTTP Basic":    {map[string]string{"Sec-Fetch-Site": "cross-site", "Authorization": "Basic YTpi"}, 403},
		"of an old browser":                  {map[string]string{"Origin": "https://evil.example"}, 403},
		"of a sandboxed frame":               {map[string]string{"Origin": "null"}, 403},
		"a web interface of another site":    {map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://ui.example", "Authorization": "Bearer x"}, 200},
		"one that spells the scheme so":      {map[string]string{"Sec-Fetch-Site": "cross-site", "Authorization": "bearer x"}, 200},
		"a web interface of this homeserver": {map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		"no browser":                         {nil, 200},
	} {
		t.Run(name, func(t *testing.T) {
			send := func(method, path, body string) int {
				r := httptest.NewRequest(method, "https://hs.example"+admin.Path+path, strings.NewReader(body))
				for key, value := range c.header {
					r.Header.Set(key, value)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				return w.Code
			}
			require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "abcd"}))
			assert.Equal(t, c.want, send("POST", "/new", `{"label":"x"}`))
			assert.Equal(t, c.want, send("PUT", "/abcd", `{"label":"x"}`))
			assert.Equal(t, 200, send("GET", "", ""))
			assert.Equal(t, c.want, send("DELETE", "/abcd", ""))
			_ = store.DeleteToken(t.Context(), "abcd")
		})
	}
}
