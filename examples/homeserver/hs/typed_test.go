package hs

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// typist uses a homeserver on which there are alice, whose access token it has, and the
// token "fifty".
type typist struct {
	*Server
	t     *testing.T
	alice string
}

func newTypist(t *testing.T) *typist {
	s, alice := newServer(t, func(o *Options) {
		o.Failures = -1
		o.Tokens = []uia.Token{{Value: "fifty", UsesAllowed: new(int64(50)), Created: time.Now()}}
	})
	return &typist{s, t, alice}
}

func (y *typist) post(path, token string, body map[string]any) (int, map[string]any) {
	encoded, err := json.Marshal(body)
	require.NoError(y.t, err)
	status, _, answer := call(y.t, y.Server, "POST", path, token, string(encoded))
	return status, answer
}

// register returns the last answer of a registration.
func (y *typist) register(name, password, token string) (int, map[string]any) {
	body := map[string]any{"username": name, "password": password, "auth": map[string]any{"type": uia.TokenType, "token": token}}
	status, answer := y.post(registerPath, "", body)
	if status != 401 || answer["errcode"] != nil {
		return status, answer
	}
	body["auth"] = map[string]any{"type": "m.login.dummy", "session": answer["session"]}
	return y.post(registerPath, "", body)
}

func (y *typist) login(name, password string) (int, map[string]any) {
	return y.post("/_matrix/client/v3/login", "", map[string]any{
		"type": "m.login.password", "identifier": map[string]any{"type": "m.id.user", "user": name}, "password": password,
	})
}

// sharedSecret registers with the shared secret.
func (y *typist) sharedSecret(name, password string) (int, map[string]any) {
	_, _, body := call(y.t, y.Server, "GET", "/_synapse/admin/v1/register", "", "")
	mac := hmac.New(sha1.New, []byte("shared secret"))
	mac.Write([]byte(strings.Join([]string{body["nonce"].(string), name, password, "notadmin"}, "\x00")))
	return y.post("/_synapse/admin/v1/register", "", map[string]any{
		"nonce": body["nonce"], "username": name, "password": password, "admin": false, "mac": hex.EncodeToString(mac.Sum(nil)),
	})
}

// changePassword changes alice's password, with the old one and the name as typed.
func (y *typist) changePassword(name, old, password string) (int, map[string]any) {
	const path = "/_matrix/client/v3/account/password"
	body := map[string]any{"new_password": password, "logout_devices": false}
	status, answer := y.post(path, y.alice, body)
	if status != 401 {
		return status, answer
	}
	body["auth"] = map[string]any{"type": "m.login.password", "session": answer["session"], "password": old,
		"identifier": map[string]any{"type": "m.id.user", "user": name}}
	return y.post(path, y.alice, body)
}

// A name means the same wherever it is typed.
func TestTypedNames(t *testing.T) {
	for _, typed := range []string{"bob", "Bob", "BOB ", "\tbob\n"} {
		for way, make := range map[string]func(y *typist, name string) (int, map[string]any){
			"register":      func(y *typist, name string) (int, map[string]any) { return y.register(name, "builder", "fifty") },
			"shared secret": func(y *typist, name string) (int, map[string]any) { return y.sharedSecret(name, "builder") },
		} {
			y := newTypist(t)
			status, answer := make(y, typed)
			require.Equal(t, 200, status, "%s as %q: %v", way, typed, answer)
			require.Equal(t, "@bob:example.org", answer["user_id"])
			for _, name := range []string{typed, "@" + strings.TrimSpace(typed) + ":Example.ORG "} {
				status, answer = y.login(name, "builder")
				require.Equal(t, 200, status, "login as %q: %v", name, answer)
			}
			status, answer = make(y, typed)
			require.Equal(t, 400, status, "%v", answer)
			require.Equal(t, "M_USER_IN_USE", answer["errcode"])
		}
	}
	for _, typed := range []string{"alice", "Alice", " alice ", "@Alice:EXAMPLE.org"} {
		y := newTypist(t)
		status, answer := y.changePassword(typed, "wonderland", "new")
		require.Equal(t, 200, status, "%q: %v", typed, answer)
	}
	y := newTypist(t)
	for _, other := range []string{"al ice", "@alice", "@alice:other.org", "alice:example.org", "", "@"} {
		status, _ := y.login(other, "wonderland")
		require.NotEqual(t, 200, status, other)
	}
}

// A password is never changed on its way, and has the same limit wherever it is set.
func TestTypedPasswords(t *testing.T) {
	for password, good := range map[string]bool{
		" Pass word ": true, "\x00": true, strings.Repeat("é", 256): true, strings.Repeat("x", 512): true, strings.Repeat("x", 513): false, strings.Repeat("x", 10_000): false,
	} {
		y := newTypist(t)
		want := map[bool]int{true: 200, false: 400}[good]
		for way, set := range map[string]func() (int, map[string]any){
			"register":      func() (int, map[string]any) { return y.register("bob", password, "fifty") },
			"shared secret": func() (int, map[string]any) { return y.sharedSecret("carol", password) },
			"change":        func() (int, map[string]any) { return y.changePassword("alice", "wonderland", password) },
		} {
			if way == "shared secret" && strings.Contains(password, "\x00") {
				continue // it separates the fields of the MAC
			}
			status, answer := set()
			require.Equal(t, want, status, "%s with %d bytes: %v", way, len(password), answer)
			user := map[string]string{"register": "bob", "shared secret": "carol", "change": "alice"}[way]
			status, answer = y.login(user, password)
			require.Equal(t, want, status, "login after %s: %v", way, answer)
			if good {
				status, _ = y.login(user, strings.TrimSpace(password)+" ")
				require.NotEqual(t, 200, status, "another password")
			}
		}
		_, err := y.EnsureAdmin(t.Context(), Credentials{Localpart: "root", Password: password})
		require.Equal(t, good, err == nil, "%v", err)
	}
}

// A token means the same wherever it is typed.
func TestTypedTokens(t *testing.T) {
	for _, typed := range []string{"fifty", " fifty", "fifty\n", "\tfifty \r\n"} {
		y := newTypist(t)
		status, answer := y.register("bob", "builder", typed)
		require.Equal(t, 200, status, "%q: %v", typed, answer)
		r := httptest.NewRequest("GET", uia.ValidityPath, nil)
		q := r.URL.Query()
		q.Set("token", typed)
		_, _, answer = call(t, y.Server, "GET", uia.ValidityPath+"?"+q.Encode(), "", "")
		require.Equal(t, true, answer["valid"], "%q", typed)
	}
}

// What cannot be used of a query matters to nobody, and the scheme of an access token is
// spelled in any case.
func TestWhatOldToolsSend(t *testing.T) {
	y := newTypist(t)
	for _, query := range []string{"?%zz", "?a;b", "?=", "?x=%ff&%"} {
		for path, want := range map[string]int{
			"POST /register": 401, "GET /login": 200, "GET /account/whoami": 200, "GET /register/available" + query + "&username=free": 200, "POST /account/password": 401,
		} {
			method, path, _ := strings.Cut(path, " ")
			if !strings.Contains(path, "?") {
				path += query
			}
			status, _, answer := call(t, y.Server, method, "/_matrix/client/v3"+path, y.alice, "{}")
			require.Equal(t, want, status, "%s: %v", path, answer)
		}
	}
	for header, want := range map[string]int{
		"Bearer ": 200, "bearer ": 200, "BEARER  ": 200, " Bearer ": 200, "Basic ": 401, "Bearer": 401, "": 401,
	} {
		r := httptest.NewRequest("GET", "/_matrix/client/v3/account/whoami", nil)
		r.Header.Set("Authorization", header+y.alice)
		w := httptest.NewRecorder()
		y.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, "%q", header)
	}
}

// Every place where a secret can be guessed tells the audit log and the metrics.
func TestEveryGuessIsAudited(t *testing.T) {
	var log bytes.Buffer
	s, alice := newServer(t, func(o *Options) {
		o.Failures = 5
		o.Audit = slog.New(slog.NewJSONHandler(&log, nil))
	})
	y := &typist{s, t, alice}
	for operation, guess := range map[string]func(){
		"login":           func() { y.login("alice", "guess-1") },
		"validity":        func() { call(t, s, "GET", uia.ValidityPath+"?token=guess-2", "", "") },
		"register":        func() { y.register("bob", "builder", "guess-3") },
		"change_password": func() { y.changePassword("alice", "guess-4", "new") },
		"shared_secret_registration": func() {
			s.shared.secret = []byte("guess-5")
			y.sharedSecret("bob", "pw")
			s.shared.secret = []byte("shared secret")
		},
	} {
		log.Reset()
		guess()
		require.Contains(t, log.String(), `"msg":"stage_failed"`, operation)
		require.Contains(t, log.String(), `"operation":"`+operation+`"`)
		require.Contains(t, log.String(), `"client":"192.0.2.1"`)
		require.NotContains(t, log.String(), "guess")
	}
	y.login("alice", "guess-6")
	log.Reset()
	status, answer := y.login("alice", "wonderland")
	require.Equal(t, 429, status)
	require.Regexp(t, `^Too many failed attempts. Please try again in \d+ seconds?\.$`, answer["error"])
	require.Contains(t, log.String(), `"msg":"limit_hit","client":"192.0.2.1"`)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	require.Contains(t, w.Body.String(), `uia_stage_failures_total{errcode="M_FORBIDDEN",reason="",stage="m.login.password"} 3`)
}
