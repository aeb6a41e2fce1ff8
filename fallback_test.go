package uia_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

const markup = `"><script>alert(1)</script><b a='`

// pageSetup is a homeserver with the fallback page, a limiter and a validity endpoint.
func pageSetup(t testing.TB, s setup, opts *uia.FallbackOptions) *homeserver {
	t.Helper()
	change := s.change
	s.change = func(c *uia.Config) {
		c.Limiter = newLimiter(t, nil)
		c.Operations[0].Describe = func(s *uia.Session) string {
			var username string
			_, _ = s.Param("username", &username)
			return "create the account @" + username + ":test"
		}
		if change != nil {
			change(c)
		}
	}
	h := newHomeserver(t, s)
	pages, err := uia.FallbackHandler(h.engine, opts)
	require.NoError(t, err)
	mux := h.handler.(*http.ServeMux)
	mux.Handle(uia.FallbackPath, pages)
	mux.Handle(uia.FallbackPathR0, pages)
	mux.Handle("/plain/", pages)
	mux.Handle(uia.ValidityPath, uia.ValidityHandler(h.engine, h.store, nil))
	return h
}

func pagePath(typ, session string) string {
	return strings.Replace(uia.FallbackPath, "{type}", typ, 1) + "?session=" + url.QueryEscape(session)
}

// page opens the page with form nil, or submits it.
func (h *homeserver) page(path string, form url.Values) *httptest.ResponseRecorder {
	h.t.Helper()
	if form == nil {
		return h.browse("GET", path, "")
	}
	return h.browse("POST", path, form.Encode())
}

func (h *homeserver) browse(method, path, body string) *httptest.ResponseRecorder {
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

func TestFallbackCompletesTheTokenStage(t *testing.T) {
	h := pageSetup(t, setup{flows: []uia.Flow{flowT}}, nil)
	h.token("right", 1)
	session := h.post(map[string]any{"username": "alice", "password": "secret"}).session()
	for _, version := range []string{"v3", "r0"} {
		path := strings.Replace(pagePath(uia.TokenType, session), "v3", version, 1)
		w := h.page(path, nil)
		require.Equal(t, 200, w.Code)
		assert.Contains(t, w.Body.String(), `<html lang="en">`)
		assert.Contains(t, w.Body.String(), "create the account @alice:test")
		assert.Contains(t, w.Body.String(), `<label for="f-token">`)
		assert.NotContains(t, w.Body.String(), "role=\"alert\"")
		assert.NotContains(t, w.Body.String(), session, "a page that is saved or copied opens no session")
	}
	path := pagePath(uia.TokenType, session)

	w := h.page(path, url.Values{"token": {"wrong"}})
	require.Equal(t, 401, w.Code)
	for _, part := range []string{`role="alert"`, "The registration token is not valid.", `value="wrong"`, `aria-invalid="true"`, `aria-describedby="error h-token"`, "<title>Error: "} {
		assert.Contains(t, w.Body.String(), part)
	}
	assert.NotContains(t, w.Body.String(), "onAuthDone")

	w = h.page(path, url.Values{"token": {" right\r\n"}})
	require.Equal(t, 200, w.Code)
	assert.Contains(t, w.Body.String(), "window.onAuthDone()")
	assert.Contains(t, w.Body.String(), `window.opener.postMessage("authDone", "*")`)
	assert.Zero(t, h.accounts.count(), "the page does not run the operation")

	for range 2 { // reloaded, and sent again
		w = h.page(path, nil)
		assert.Equal(t, 200, w.Code)
		assert.Contains(t, w.Body.String(), "window.onAuthDone()")
		w = h.page(path, url.Values{"token": {"wrong"}})
		assert.Equal(t, 200, w.Code, "a completed stage is not attempted again")
	}

	a := h.post(map[string]any{"auth": map[string]any{"session": session}})
	require.Equal(t, 200, a.Status, a.Body)
	assert.Equal(t, "@alice:test", a.JSON["user_id"])
	assert.Equal(t, 403, h.page(path, nil).Code, "a finished session")
	assert.Equal(t, 403, h.page(path, url.Values{"token": {"right"}}).Code)
}

func TestFallbackStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := pageSetup(t, setup{}, nil)
		h.token("right", 1)
		session := h.post(map[string]any{"username": markup}).session()
		device := h.send("DELETE", "/devices/A", "@alice:test", "").session()
		old := h.post(map[string]any{}).session()
		token := func(s string) string { return pagePath(uia.TokenType, s) }
		for _, c := range []struct {
			name, method, path, body string
			status                   int
			says                     string
		}{
			{"no session", "GET", strings.TrimSuffix(token(""), "?session="), "", 400, "expired"},
			{"empty session", "GET", token(""), "", 400, "expired"},
			{"two sessions", "GET", token(session) + "&session=" + session, "", 400, "expired"},
			{"forged session", "GET", token("A" + session[1:]), "", 400, "expired"},
			{"HTML for a session", "GET", token(markup), "", 400, "expired"},
			{"no UTF-8 for a session", "GET", token("\xff\xfe"), "", 400, "expired"},
			{"a query that is none", "GET", token(session) + "&%zz=;", "", 400, "expired"},
			{"a long session", "GET", token(strings.Repeat("A", 100000)), "", 400, "expired"},
			{"forged, submitted", "POST", token("x"), "token=right", 400, "expired"},
			{"another operation's", "GET", token(device), "", 403, "did not ask for this step"},
			{"another operation's, submitted", "POST", token(device), "token=right", 403, "did not ask for this step"},
			{"too early", "GET", pagePath("m.login.dummy", session), "", 403, "Another step comes first"},
			{"too early, submitted", "POST", pagePath("m.login.dummy", session), "", 403, "Another step comes first"},
			{"no such stage", "GET", pagePath("m.login.msisdn", session), "", 404, `"M_UNRECOGNIZED"`},
			{"a stage without a page", "GET", pagePath("m.login.password", device), "", 404, `"M_UNRECOGNIZED"`},
			{"another path", "GET", "/plain/elsewhere/fallback/web?session=" + session, "", 404, `"M_UNRECOGNIZED"`},
			{"another prefix", "GET", "/plain/auth/" + uia.TokenType + "/fallback/web?session=" + session, "", 200, "Enter your"},
			{"another method", "DELETE", token(session), "", 405, `"M_UNRECOGNIZED"`},
			{"HEAD", "HEAD", token(session), "", 200, ""},
			{"missing field", "POST", token(session), "", 400, "Please enter"},
			{"empty field", "POST", token(session), "token=", 400, "Please enter"},
			{"white space", "POST", token(session), "token=+%0a", 400, "Please enter"},
			{"a field twice", "POST", token(session), "token=right&token=right", 400, "could not be read"},
			{"another field twice", "POST", token(session), "token=right&a=1&a=2", 400, "could not be read"},
			{"no UTF-8", "POST", token(session), "token=%ff", 400, "could not be read"},
			{"no UTF-8 in a name", "POST", token(session), "token=right&%ff=1", 400, "could not be read"},
			{"no form", "POST", token(session), `{"token":"%zz"}`, 400, "could not be read"},
			{"JSON", "POST", token(session), `{"token":"right"}`, 400, "Please enter"},
			{"HTML for a token", "POST", token(session), "token=" + url.QueryEscape(markup), 401, "is not valid"},
			{"a wrong token", "POST", token(session), "token=wrong", 401, "is not valid"},
			{"a token with a NUL", "POST", token(session), "token=right%00", 401, "is not valid"},
			{"10 MB", "POST", token(session), "token=" + strings.Repeat("a", 10<<20), 413, "too large"},
		} {
			w := h.browse(c.method, c.path, c.body)
			assert.Equal(t, c.status, w.Code, c.name)
			assert.Contains(t, w.Body.String(), c.says, c.name)
			assert.NotContains(t, w.Body.String(), "onAuthDone", c.name)
		}
		wait(t, time.Hour)
		w := h.page(token(old), nil)
		assert.Equal(t, 400, w.Code)
		assert.Contains(t, w.Body.String(), "go back to your app")
		assert.Equal(t, 400, h.page(token(old), url.Values{"token": {"right"}}).Code)
		assert.Zero(t, h.accounts.runs)
	})
}

// A preflight of a client that fetches the page is answered like everywhere.
func TestFallbackAnswersOptions(t *testing.T) {
	h := pageSetup(t, setup{}, nil)
	r := httptest.NewRequest("OPTIONS", pagePath(uia.TokenType, "x"), nil)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	assert.Equal(t, 204, w.Code)
	assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
}

func TestOneFailureBudget(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("split ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				h := pageSetup(t, setup{}, nil)
				h.token("right", 100)
				session := h.post(map[string]any{"username": "alice"}).session()
				guess := []func(token string) int{
					func(token string) int {
						return h.post(map[string]any{"auth": map[string]any{"type": uia.TokenType, "token": token, "session": session}}).Status
					},
					func(token string) int {
						return h.page(pagePath(uia.TokenType, session), url.Values{"token": {token}}).Code
					},
					func(token string) int {
						r := httptest.NewRequest("GET", uia.ValidityPath+"?token="+token, nil)
						w := httptest.NewRecorder()
						h.handler.ServeHTTP(w, r)
						return w.Code
					},
				}
				wrong := []int{401, 401, 200}
				for i := range 60 {
					which := random.IntN(3)
					if seed < 3 {
						which = int(seed) // all of them in one place
					}
					assert.Equal(t, wrong[which], guess[which](fmt.Sprint("wrong", i)))
				}
				for which := range guess {
					assert.Equal(t, 429, guess[which]("wrong"))
					assert.Equal(t, 429, guess[which]("right"), "not even the right one is looked at")
				}
				w := h.page(pagePath(uia.TokenType, session), url.Values{"token": {"kept"}})
				assert.Equal(t, "10", w.Header().Get("Retry-After"))
				assert.Contains(t, w.Body.String(), "Please wait 10 seconds")
				assert.Contains(t, w.Body.String(), `value="kept"`)
				assert.Equal(t, 200, h.page(pagePath(uia.TokenType, session), nil).Code, "looking at the page is no guess")
				wait(t, 10*time.Second)
				assert.Equal(t, 200, guess[1]("right"))
			})
		})
	}
}

// Whatever is sent, the answer is one of those that there are, it is safe, and the
// operation does not run.
func FuzzFallback(f *testing.F) {
	for _, seed := range [][3]string{
		{"", "", "token=right"}, {"x", "&redirect=javascript:alert(1)", "token=" + url.QueryEscape(markup)}, {"", "&a=%ff;%", "token=%ff"},
		{"", "", "token=right&token=right"}, {"", "&session=1", "{}"}, {"", "", strings.Repeat("token=a&", 9000)},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, before, after, body string) {
		h := pageSetup(t, setup{}, nil)
		h.token("right", 1)
		session := h.post(map[string]any{"username": markup}).session()
		for _, method := range []string{"GET", "POST"} {
			r := httptest.NewRequest(method, pagePath(uia.TokenType, ""), strings.NewReader(body))
			r.URL.RawQuery = "session=" + before + session + after
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r)
			assert.Contains(t, []int{200, 400, 401, 403, 413}, w.Code)
			assertSafe(t, w)
		}
		assert.Zero(t, h.accounts.runs)
	})
}
