package fallback_test

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

func TestCompletesTheTokenStage(t *testing.T) {
	h := newSite(t, uia.Flow{uia.TokenType}, nil, nil)
	h.token("right", 1)
	session := h.open(dict{"username": "alice", "password": "secret"})
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
	for _, part := range []string{`role="alert"`, "The registration token is not valid, or somebody is registering with it right now.", `value="wrong"`, `aria-invalid="true"`, `aria-describedby="error h-token"`, "<title>Error: "} {
		assert.Contains(t, w.Body.String(), part)
	}
	assert.NotContains(t, w.Body.String(), "onAuthDone")

	w = h.page(path, url.Values{"token": {" right\r\n"}})
	require.Equal(t, 200, w.Code)
	assert.Contains(t, w.Body.String(), "window.onAuthDone()")
	assert.Contains(t, w.Body.String(), `window.opener.postMessage("authDone", "*")`)
	assert.Empty(t, h.made, "the page does not run the operation")

	for range 2 { // reloaded, and sent again
		w = h.page(path, nil)
		assert.Equal(t, 200, w.Code)
		assert.Contains(t, w.Body.String(), "window.onAuthDone()")
		w = h.page(path, url.Values{"token": {"wrong"}})
		assert.Equal(t, 200, w.Code, "a completed stage is not attempted again")
	}

	a := h.send("POST", "/register", dict{"auth": dict{"session": session}})
	require.Equal(t, 401, a.Status, "the session alone, which logs of proxies have, proves nothing: %s", a.JSON)
	a = h.send("POST", "/register", dict{"username": "alice", "password": "secret", "auth": dict{"session": session}})
	require.Equal(t, 200, a.Status, a.JSON)
	assert.Equal(t, "@alice:test", a.JSON["user_id"])
	assert.Equal(t, 403, h.page(path, nil).Code, "a finished session")
	assert.Equal(t, 403, h.page(path, url.Values{"token": {"right"}}).Code)
}

func TestStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSite(t, flowTD, nil, nil)
		h.token("right", 1)
		session := h.open(dict{"username": markup})
		device := h.send("DELETE", "/devices/A", dict{}).Session
		old := h.open(dict{})
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
			{"a query of which nothing else is used", "GET", token(session) + "&%zz=;&a;b", "", 200, "Enter your"},
			{"a session that cannot be read", "GET", token("%zz"), "", 400, "expired"},
			{"the session in the form", "POST", strings.TrimSuffix(token(""), "?session="), "session=" + session + "&token=wrong", 401, "is not valid"},
			{"the session in the form of a GET", "GET", strings.TrimSuffix(token(""), "?session="), "session=" + session, 400, "expired"},
			{"another one in the query", "POST", token("x"), "session=" + session + "&token=right", 400, "expired"},
			{"two in the form", "POST", strings.TrimSuffix(token(""), "?session="), "session=" + session + "&session=" + session, 400, "could not be read"},
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
		assert.Empty(t, h.made)
	})
}

// A preflight of a client that fetches the page is answered like everywhere.
func TestAnswersOptions(t *testing.T) {
	h := newSite(t, flowTD, nil, nil)
	r := httptest.NewRequest("OPTIONS", pagePath(uia.TokenType, "x"), nil)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	assert.Equal(t, 204, w.Code)
	assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
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
		h := newSite(t, flowTD, nil, nil)
		h.token("right", 1)
		session := h.open(dict{"username": markup})
		for _, method := range []string{"GET", "POST"} {
			r := httptest.NewRequest(method, pagePath(uia.TokenType, ""), strings.NewReader(body))
			r.URL.RawQuery = "session=" + before + session + after
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r)
			assert.Contains(t, []int{200, 400, 401, 403, 413}, w.Code)
			assertSafe(t, w)
		}
		assert.Empty(t, h.made)
	})
}
