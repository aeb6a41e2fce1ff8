package hs

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// newServer makes a homeserver with one user, alice, and returns her access token.
func newServer(t *testing.T, change func(*Options)) (*Server, string) {
	t.Helper()
	storage, err := Open(t.Context(), "memory")
	require.NoError(t, err)
	opts := Options{ServerName: "example.org", Storage: storage, SharedSecret: "shared secret"}
	if change != nil {
		change(&opts)
	}
	s, err := New(t.Context(), opts)
	require.NoError(t, err)
	made, err := s.makeAccount(t.Context(), "alice", "wonderland", false)
	require.NoError(t, err)
	return s, made.(session).AccessToken
}

// call sends a request to s; a token that is not empty is the access token.
func call(t *testing.T, s *Server, method, path, token, body string) (int, http.Header, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var got map[string]any
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), "%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Code, w.Header(), got
}

// surface is every endpoint, with the methods it has.
var surface = map[string]string{
	"/.well-known/matrix/client":                                      "GET",
	"/_matrix/client/versions":                                        "GET",
	"/_synapse/admin/v1/register":                                     "GET POST",
	"/_matrix/client/V/login":                                         "GET POST",
	"/_matrix/client/V/logout":                                        "POST",
	"/_matrix/client/V/logout/all":                                    "POST",
	"/_matrix/client/V/account/whoami":                                "GET",
	"/_matrix/client/V/capabilities":                                  "GET",
	"/_matrix/client/V/sync":                                          "GET",
	"/_matrix/client/V/user/x/filter":                                 "POST",
	"/_matrix/client/V/user/x/filter/y":                               "GET",
	"/_matrix/client/V/pushrules":                                     "GET",
	"/_matrix/client/V/pushrules/":                                    "GET",
	"/_matrix/client/V/keys/upload":                                   "POST",
	"/_matrix/client/V/keys/query":                                    "POST",
	"/_matrix/client/V/register":                                      "POST",
	"/_matrix/client/V/register/available":                            "GET",
	"/_matrix/client/v1/register/m.login.registration_token/validity": "GET",
	"/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity": "GET",
}

func TestSurface(t *testing.T) {
	s, _ := newServer(t, nil)
	requireCORS := func(t *testing.T, h http.Header) {
		t.Helper()
		require.Equal(t, []string{"*"}, h["Access-Control-Allow-Origin"])
		require.Equal(t, []string{"GET, POST, PUT, DELETE, OPTIONS"}, h["Access-Control-Allow-Methods"])
		require.Equal(t, []string{"X-Requested-With, Content-Type, Authorization"}, h["Access-Control-Allow-Headers"])
	}
	for path, methods := range surface {
		for _, version := range []string{"v3", "r0"} {
			path := strings.Replace(path, "/V/", "/"+version+"/", 1)
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
				status, header, body := call(t, s, method, path, "", "")
				requireCORS(t, header)
				require.Equal(t, "application/json", header.Get("Content-Type"), "%s %s", method, path)
				if strings.Contains(methods, method) {
					require.NotEqual(t, http.StatusMethodNotAllowed, status, "%s %s", method, path)
					require.NotEqual(t, "M_UNRECOGNIZED", body["errcode"], "%s %s", method, path)
					require.Less(t, status, 500, "%s %s: %v", method, path, body)
					continue
				}
				require.Equal(t, http.StatusMethodNotAllowed, status, "%s %s", method, path)
				require.Equal(t, "M_UNRECOGNIZED", body["errcode"])
				for allowed := range strings.FieldsSeq(methods) {
					require.Contains(t, header.Get("Allow"), allowed)
				}
			}
			status, header, _ := call(t, s, "OPTIONS", path, "", "")
			require.Less(t, status, 300)
			requireCORS(t, header)
		}
	}
	for _, path := range []string{"/", "/_matrix", "/_matrix/client/v3/rooms", "/_matrix/client/v3//login", "/_matrix/client/v3/login/",
		"/_matrix/client/v3/./login", "/_matrix/client/v1/login", "/_matrix/client/v3/profile/@alice:example.org", "/favicon.ico",
		"/_matrix/client/v3/pushrules/global/", "/_matrix/client/v3/user/a%2Fb/nothing"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "BREW"} {
			status, header, body := call(t, s, method, path, "", "")
			require.Equal(t, http.StatusNotFound, status, "%s %s", method, path)
			require.Equal(t, "M_UNRECOGNIZED", body["errcode"])
			require.Equal(t, "application/json", header.Get("Content-Type"))
			requireCORS(t, header)
		}
	}
}

func TestNoSharedSecret(t *testing.T) {
	s, err := New(t.Context(), Options{ServerName: "example.org", Storage: mustOpen(t)})
	require.NoError(t, err)
	status, _, _ := call(t, s, "GET", "/_synapse/admin/v1/register", "", "")
	require.Equal(t, http.StatusNotFound, status)
}

func mustOpen(t *testing.T) *Storage {
	t.Helper()
	storage, err := Open(t.Context(), "memory")
	require.NoError(t, err)
	return storage
}

func TestOpenUnknown(t *testing.T) {
	_, err := Open(t.Context(), "homeserver.db")
	require.Error(t, err)
}

// Every endpoint that needs an access token says so in the same way.
func TestAccessTokens(t *testing.T) {
	s, token := newServer(t, nil)
	endpoints := map[string]string{
		"/logout": "POST", "/logout/all": "POST", "/account/whoami": "GET", "/capabilities": "GET", "/sync": "GET",
		"/user/x/filter": "POST", "/user/x/filter/y": "GET", "/pushrules/": "GET", "/keys/upload": "POST", "/keys/query": "POST",
	}
	for path, method := range endpoints {
		path = "/_matrix/client/v3" + path
		status, _, body := call(t, s, method, path, "", "{}")
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Equal(t, "M_MISSING_TOKEN", body["errcode"], path)
		status, _, body = call(t, s, method, path, "wrong", "{}")
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Equal(t, "M_UNKNOWN_TOKEN", body["errcode"], path)
	}
	status, _, body := call(t, s, "GET", "/_matrix/client/v3/account/whoami?access_token="+token, "", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "@alice:example.org", body["user_id"])
	status, _, _ = call(t, s, "GET", "/_matrix/client/r0/capabilities", token, "")
	require.Equal(t, http.StatusOK, status)
	status, _, body = call(t, s, "POST", "/_matrix/client/v3/logout", token, "")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, body)
	_, _, body = call(t, s, "GET", "/_matrix/client/v3/account/whoami", token, "")
	require.Equal(t, "M_UNKNOWN_TOKEN", body["errcode"])
}

func TestLogin(t *testing.T) {
	s, first := newServer(t, nil)
	const path = "/_matrix/client/v3/login"
	_, _, body := call(t, s, "GET", path, "", "")
	require.Equal(t, map[string]any{"flows": []any{map[string]any{"type": "m.login.password"}}}, body)

	for _, right := range []string{
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"wonderland"}`,
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"@alice:example.org"},"password":"wonderland"}`,
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"Alice"},"password":"wonderland"}`,
		`{"type":"m.login.password","user":"alice","password":"wonderland"}`,
		`{"type":"m.login.password","user":"@alice:example.org","password":"wonderland","device_id":"PHONE"}`,
	} {
		status, _, body := call(t, s, "POST", path, "", right)
		require.Equal(t, http.StatusOK, status, "%s: %v", right, body)
		require.Equal(t, "@alice:example.org", body["user_id"])
		require.Equal(t, "example.org", body["home_server"])
		if strings.Contains(right, "PHONE") {
			require.Equal(t, "PHONE", body["device_id"])
		}
		_, _, who := call(t, s, "GET", "/_matrix/client/v3/account/whoami", body["access_token"].(string), "")
		require.Equal(t, body["device_id"], who["device_id"])
	}
	for wrong, want := range map[string]string{
		`{"type":"m.login.password","user":"alice","password":"wrong"}`:                                      "403 M_FORBIDDEN",
		`{"type":"m.login.password","user":"nobody","password":"wonderland"}`:                                "403 M_FORBIDDEN",
		`{"type":"m.login.password","user":"@alice:elsewhere.org","password":"wonderland"}`:                  "403 M_FORBIDDEN",
		`{"type":"m.login.password","user":"alice"}`:                                                         "400 M_MISSING_PARAM",
		`{"type":"m.login.password","password":"wonderland"}`:                                                "400 M_MISSING_PARAM",
		`{"type":"m.login.token","token":"x"}`:                                                               "400 M_UNKNOWN",
		`{"type":"m.login.password","identifier":{"type":"m.id.phone","phone":"1"},"password":"wonderland"}`: "400 M_UNKNOWN",
		`{"type":"m.login.password","user":["alice"],"password":"wonderland"}`:                               "400 M_BAD_JSON",
		`[]`:                                "400 M_BAD_JSON",
		``:                                  "400 M_NOT_JSON",
		"{\"user\":\"\xff\"}":               "400 M_NOT_JSON",
		strings.Repeat(" ", maxBody) + "{}": "413 M_TOO_LARGE",
	} {
		status, _, body := call(t, s, "POST", path, "", wrong)
		require.Equal(t, want, fmt.Sprint(status, " ", body["errcode"]), "%.80s", wrong)
	}

	// A second login on the same device replaces the first one's access token.
	again := `{"type":"m.login.password","user":"alice","password":"wonderland","device_id":"PHONE"}`
	_, _, one := call(t, s, "POST", path, "", again)
	_, _, two := call(t, s, "POST", path, "", again)
	status, _, _ := call(t, s, "GET", "/_matrix/client/v3/account/whoami", one["access_token"].(string), "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _, _ = call(t, s, "POST", "/_matrix/client/v3/logout/all", two["access_token"].(string), "")
	require.Equal(t, http.StatusOK, status)
	status, _, _ = call(t, s, "GET", "/_matrix/client/v3/account/whoami", first, "")
	require.Equal(t, http.StatusUnauthorized, status)
}

// Passwords and tokens are guessed on one budget.
func TestLoginIsLimited(t *testing.T) {
	s, _ := newServer(t, func(o *Options) { o.Failures = 3 })
	guess := func(password string) int {
		status, _, _ := call(t, s, "POST", "/_matrix/client/v3/login", "",
			`{"type":"m.login.password","user":"alice","password":"`+password+`"}`)
		return status
	}
	for range 10 {
		require.Equal(t, http.StatusOK, guess("wonderland"))
	}
	require.Equal(t, http.StatusForbidden, guess("a"))
	require.Equal(t, http.StatusForbidden, guess("b"))
	status, _, body := call(t, s, "POST", "/_matrix/client/v3/register", "",
		`{"username":"bob","password":"x","auth":{"type":"m.login.registration_token","token":"wrong"}}`)
	require.Equal(t, http.StatusUnauthorized, status, "%v", body)
	require.Equal(t, http.StatusTooManyRequests, guess("wonderland"))
}

func TestSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, token := newServer(t, nil)
		sync := func(query string) (time.Duration, int, map[string]any) {
			start := time.Now()
			status, _, body := call(t, s, "GET", "/_matrix/client/v3/sync"+query, token, "")
			return time.Since(start), status, body
		}
		took, status, body := sync("?timeout=30000")
		require.Equal(t, http.StatusOK, status)
		require.Zero(t, took, "the first sync has something to tell")
		since := "?since=" + body["next_batch"].(string)
		took, _, _ = sync(since)
		require.Zero(t, took)
		took, _, _ = sync(since + "&timeout=5000")
		require.Equal(t, 5*time.Second, took)
		took, _, _ = sync(since + "&timeout=999999999999")
		require.Equal(t, maxPoll, took)
		took, _, _ = sync(since + "&timeout=-1")
		require.Zero(t, took)

		done := make(chan int)
		go func() {
			_, status, _ := sync(since + "&timeout=30000")
			done <- status
		}()
		synctest.Wait()
		require.NoError(t, s.accounts.DeleteAllDevices(t.Context(), "alice"))
		s.Close()
		require.Equal(t, http.StatusUnauthorized, <-done, "logged out while waiting")
	})
}

func TestFilters(t *testing.T) {
	s, token := newServer(t, nil)
	const path = "/_matrix/client/v3/user/%40alice%3Aexample.org/filter"
	status, _, body := call(t, s, "POST", path, token, `{"room": {"timeline": {"limit": 8}}}`)
	require.Equal(t, http.StatusOK, status)
	id := body["filter_id"].(string)
	require.NotEqual(t, byte('{'), id[0])
	status, _, body = call(t, s, "GET", path+"/"+id, token, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"room": map[string]any{"timeline": map[string]any{"limit": 8.0}}}, body)
	status, _, body = call(t, s, "GET", path+"/nope", token, "")
	require.Equal(t, "404 M_NOT_FOUND", fmt.Sprint(status, " ", body["errcode"]))
	status, _, body = call(t, s, "POST", path, token, `[]`)
	require.Equal(t, "400 M_BAD_JSON", fmt.Sprint(status, " ", body["errcode"]))
	status, _, body = call(t, s, "POST", path, token, `{"x":"`+strings.Repeat("x", maxFilter)+`"}`)
	require.Equal(t, "413 M_TOO_LARGE", fmt.Sprint(status, " ", body["errcode"]))
	status, _, body = call(t, s, "POST", "/_matrix/client/v3/user/@bob:example.org/filter", token, `{}`)
	require.Equal(t, "403 M_FORBIDDEN", fmt.Sprint(status, " ", body["errcode"]))
}

func TestKeys(t *testing.T) {
	s, token := newServer(t, nil)
	const upload, query = "/_matrix/client/v3/keys/upload", "/_matrix/client/v3/keys/query"
	_, _, who := call(t, s, "GET", "/_matrix/client/v3/account/whoami", token, "")
	device := who["device_id"].(string)
	status, _, body := call(t, s, "POST", upload, token, `{"one_time_keys":{"signed_curve25519:AA":{"key":"x"},"signed_curve25519:AB":{}}}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"signed_curve25519": 2.0}, body["one_time_key_counts"])
	_, _, body = call(t, s, "POST", query, token, `{"device_keys":{"@alice:example.org":[]}}`)
	require.Equal(t, map[string]any{"@alice:example.org": map[string]any{}}, body["device_keys"])

	status, _, body = call(t, s, "POST", upload, token, fmt.Sprintf(
		`{"device_keys":{"user_id":"@alice:example.org","device_id":%q,"keys":{"ed25519:X":"k"}},"one_time_keys":{"signed_curve25519:AA":{}}}`, device))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"signed_curve25519": 2.0}, body["one_time_key_counts"])
	for _, wanted := range []string{`[]`, `["` + device + `"]`} {
		_, _, body = call(t, s, "POST", query, token, `{"device_keys":{"@alice:example.org":`+wanted+`,"@nobody:example.org":[]}}`)
		keys := body["device_keys"].(map[string]any)
		require.Len(t, keys, 1)
		got := keys["@alice:example.org"].(map[string]any)[device].(map[string]any)
		require.Equal(t, map[string]any{"ed25519:X": "k"}, got["keys"])
	}
	_, _, body = call(t, s, "POST", query, token, `{"device_keys":{"@alice:example.org":["OTHER"]}}`)
	require.Equal(t, map[string]any{"@alice:example.org": map[string]any{}}, body["device_keys"])
	_, _, sync := call(t, s, "GET", "/_matrix/client/v3/sync", token, "")
	require.Equal(t, map[string]any{"signed_curve25519": 2.0}, sync["device_one_time_keys_count"])

	for _, wrong := range []string{
		`{"device_keys":{"user_id":"@bob:example.org","device_id":"` + device + `"}}`,
		`{"device_keys":{"user_id":"@alice:example.org","device_id":"OTHER"}}`,
		`{"device_keys":[]}`, `{"one_time_keys":[]}`,
	} {
		status, _, _ = call(t, s, "POST", upload, token, wrong)
		require.Equal(t, http.StatusBadRequest, status, wrong)
	}
}

func TestSharedSecret(t *testing.T) {
	s, _ := newServer(t, nil)
	now := time.Now()
	s.shared.now = func() time.Time { return now }
	const path = "/_synapse/admin/v1/register"
	nonce := func() string {
		_, _, body := call(t, s, "GET", path, "", "")
		return body["nonce"].(string)
	}
	post := func(nonce, user, password, secret string, admin bool) string {
		mac := hmac.New(sha1.New, []byte(secret))
		fmt.Fprintf(mac, "%s\x00%s\x00%s\x00%s", nonce, user, password, map[bool]string{true: "admin", false: "notadmin"}[admin])
		body, err := json.Marshal(map[string]any{"nonce": nonce, "username": user, "password": password, "admin": admin,
			"mac": hex.EncodeToString(mac.Sum(nil))})
		require.NoError(t, err)
		status, _, got := call(t, s, "POST", path, "", string(body))
		if status == http.StatusOK {
			require.Equal(t, "@"+user+":example.org", got["user_id"])
			require.NotEmpty(t, got["access_token"])
		}
		return strings.TrimSpace(fmt.Sprint(status, " ", got["errcode"]))
	}
	n := nonce()
	require.Equal(t, "403 M_UNKNOWN", post(n, "bob", "pw", "wrong secret", false))
	require.Equal(t, "200 <nil>", post(n, "bob", "pw", "shared secret", true))
	bob, err := s.accounts.User(t.Context(), "bob")
	require.NoError(t, err)
	require.True(t, bob.Admin)
	require.Equal(t, "400 M_UNKNOWN", post(n, "carol", "pw", "shared secret", false), "a nonce is used once")
	require.Equal(t, "400 M_USER_IN_USE", post(nonce(), "bob", "pw", "shared secret", false))
	require.Equal(t, "400 M_INVALID_USERNAME", post(nonce(), "b b", "pw", "shared secret", false))
	require.Equal(t, "400 M_UNKNOWN", post(nonce(), "dave", "", "shared secret", false))
	require.Equal(t, "400 M_UNKNOWN", post("made up", "dave", "pw", "shared secret", false))
	n = nonce()
	now = now.Add(nonceTTL)
	require.Equal(t, "400 M_UNKNOWN", post(n, "dave", "pw", "shared secret", false), "a nonce expires")
	require.Equal(t, "200 <nil>", post(nonce(), "dave", "pw", "shared secret", false))
	require.Len(t, s.shared.used, 1, "expired ones are forgotten")
}

func TestPasswords(t *testing.T) {
	p := newPasswords()
	hash, err := p.hash(t.Context(), "wonderland")
	require.NoError(t, err)
	require.NotContains(t, hash, "wonderland")
	for password, want := range map[string]bool{"wonderland": true, "wonderlanD": false, "": false} {
		got, err := p.verify(t.Context(), hash, password)
		require.NoError(t, err)
		require.Equal(t, want, got, password)
	}
	right, err := p.verify(t.Context(), "", "")
	require.NoError(t, err)
	require.False(t, right)
	for _, malformed := range []string{"x", "$argon2id$v=19$m=1$x$y", "$argon2id$v=18$m=8,t=1,p=1$AA$AA", "$argon2id$v=19$m=8,t=1,p=1$!$!"} {
		_, err := p.verify(t.Context(), malformed, "x")
		require.Error(t, err, malformed)
	}
}
