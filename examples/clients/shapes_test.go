package clients

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/internal/testdb"
)

const (
	registerV3 = "/_matrix/client/v3/register"
	registerR0 = "/_matrix/client/r0/register"
	validity   = "/_matrix/client/v1/register/m.login.registration_token/validity?token="
)

// These tests send what clients were seen to send that cannot be installed here,
// request by request.

// requireChallenge asserts that r is a 401 that reports no error.
func requireChallenge(t *testing.T, r reply, completed ...any) {
	t.Helper()
	require.Equal(t, http.StatusUnauthorized, r.Status, "%v", r.Body)
	require.NotContains(t, r.Body, "errcode", "a client takes any errcode as fatal")
	require.NotEmpty(t, r.Body["flows"])
	if len(completed) == 0 {
		require.NotContains(t, r.Body, "completed")
	} else {
		require.Equal(t, completed, r.Body["completed"])
	}
}

// requireRegistered asserts that r is the account of this user, logged in.
func requireRegistered(t *testing.T, h *homeserver, r reply, username string) {
	t.Helper()
	require.Equal(t, http.StatusOK, r.Status, "%v", r.Body)
	require.Equal(t, "@"+username+":localhost", r.Body["user_id"])
	require.Equal(t, "localhost", r.Body["home_server"])
	who := h.do(t, "GET", "/_matrix/client/v3/account/whoami", "", "Authorization", "Bearer "+r.Body["access_token"].(string))
	require.Equal(t, r.Body["user_id"], who.Body["user_id"])
	require.Equal(t, r.Body["device_id"], who.Body["device_id"])
}

// requireLogin asserts that the user can log in with this password.
func requireLogin(t *testing.T, h *homeserver, user, password string) {
	t.Helper()
	r := h.do(t, "POST", "/_matrix/client/v3/login", object(t, "type", "m.login.password", "password", password,
		"identifier", map[string]string{"type": "m.id.user", "user": user}))
	require.Equal(t, http.StatusOK, r.Status, "%v", r.Body)
	require.NotEmpty(t, r.Body["access_token"])
}

func tokenAuth(token, session string) map[string]any {
	auth := map[string]any{"type": "m.login.registration_token", "token": token}
	if session != "" {
		auth["session"] = session
	}
	return auth
}

func dummyAuth(session string) map[string]any {
	return map[string]any{"type": "m.login.dummy", "session": session}
}

// element-android opens the form with {}, then a session of its own with the
// account's parameters, and from then on it sends nothing but auth. It knows
// only r0.
func TestElementAndroid(t *testing.T) {
	for name, flow := range map[string]uia.Flow{"T": flowT, "TD": flowTD} {
		t.Run(name, func(t *testing.T) {
			h := newHomeserver(t, flow, map[string]int64{"once": 1})
			r := h.do(t, "POST", registerR0, `{}`)
			requireChallenge(t, r)
			first := r.session(t)

			r = h.do(t, "POST", registerR0, object(t, "username", "alice", "password", "wonderland",
				"initial_device_display_name", "Element Android"))
			requireChallenge(t, r)
			session := r.session(t)
			require.NotEqual(t, first, session)

			r = h.do(t, "POST", registerR0, object(t, "auth", tokenAuth("wrong", session)))
			require.Equal(t, http.StatusUnauthorized, r.Status)
			require.Equal(t, "M_UNAUTHORIZED", r.Body["errcode"])
			require.Equal(t, session, r.session(t))
			require.NotEmpty(t, r.Body["flows"])

			r = h.do(t, "POST", registerR0, object(t, "auth", tokenAuth("once", session)))
			if len(flow) > 1 {
				requireChallenge(t, r, "m.login.registration_token")
				r = h.do(t, "POST", registerR0, object(t, "auth", dummyAuth(session)))
			}
			requireRegistered(t, h, r, "alice")
			requireLogin(t, h, "alice", "wonderland")
		})
	}
}

// matrix-nio asks with an auth that has neither type nor session, and completes
// token and dummy in turn (TD). It sends everything with each request.
func TestMatrixNio(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1})
	params := []any{"username", "alice", "password", "wonderland", "device_id", "NIODEVICE"}
	r := h.do(t, "POST", registerV3, object(t, append(params,
		"auth", map[string]string{"initial_device_display_name": "matrix-nio"})...))
	requireChallenge(t, r)
	session := r.session(t)
	r = h.do(t, "POST", registerV3, object(t, append(params, "auth", tokenAuth("once", session))...))
	requireChallenge(t, r, "m.login.registration_token")
	r = h.do(t, "POST", registerV3, object(t, append(params, "auth", dummyAuth(session))...))
	requireRegistered(t, h, r, "alice")
	require.Equal(t, "NIODEVICE", r.Body["device_id"])
}

// NeoChat (T) looks at the well-known file and the versions, asks for the
// validity of what is typed after each edit, probes with the username "user",
// registers without logging in, and then logs in with the whole user ID. It posts
// kind in the body.
func TestNeoChat(t *testing.T) {
	h := newHomeserver(t, flowT, map[string]int64{"once": 1})
	r := h.do(t, "GET", "/.well-known/matrix/client", "")
	require.Equal(t, h.URL, r.Body["m.homeserver"].(map[string]any)["base_url"])
	r = h.do(t, "GET", "/_matrix/client/versions", "")
	require.Contains(t, r.Body["versions"], "v1.1")
	for typed, valid := range map[string]bool{"o": false, "on": false, "onc": false, "once": true} {
		r = h.do(t, "GET", validity+typed, "")
		require.Equal(t, http.StatusOK, r.Status)
		require.Equal(t, map[string]any{"valid": valid}, r.Body, typed)
	}
	r = h.do(t, "POST", registerV3+"?", object(t, "kind", "user", "username", "user", "password", "wonderland"))
	requireChallenge(t, r)

	r = h.do(t, "GET", "/_matrix/client/v3/register/available?username=alice", "")
	require.Equal(t, map[string]any{"available": true}, r.Body)
	params := []any{"kind", "user", "username", "alice", "password", "wonderland", "inhibit_login", true}
	r = h.do(t, "POST", registerV3+"?", object(t, params...))
	requireChallenge(t, r)
	r = h.do(t, "POST", registerV3+"?", object(t, append(params, "auth", tokenAuth("once", r.session(t)))...))
	require.Equal(t, http.StatusOK, r.Status, "%v", r.Body)
	require.Equal(t, "@alice:localhost", r.Body["user_id"])
	require.NotContains(t, r.Body, "access_token")
	require.NotContains(t, r.Body, "device_id")
	requireLogin(t, h, "@alice:localhost", "wonderland")

	r = h.do(t, "GET", validity+"once", "")
	require.Equal(t, map[string]any{"valid": false}, r.Body)
	r = h.do(t, "GET", "/_matrix/client/v3/register/available?username=alice", "")
	require.Equal(t, http.StatusBadRequest, r.Status)
	require.Equal(t, "M_USER_IN_USE", r.Body["errcode"])
}

// Cinny opens a session with an empty object, polls it as its second request,
// and sends the parameters with the stages. (That JSON may come as text/plain is
// another client's habit.)
func TestCinny(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1})
	r := h.do(t, "POST", registerV3, `{}`)
	requireChallenge(t, r)
	session := r.session(t)
	params := []any{"username", "alice", "password", "wonderland", "initial_device_display_name", "Cinny Web"}
	for range 3 { // polls
		r = h.do(t, "POST", registerV3, object(t, append(params, "auth", map[string]string{"session": session})...))
		requireChallenge(t, r)
		require.Equal(t, session, r.session(t))
	}
	r = h.do(t, "POST", registerV3, object(t, append(params, "auth", tokenAuth("once", session))...),
		"Content-Type", "text/plain")
	requireChallenge(t, r, "m.login.registration_token")
	r = h.do(t, "POST", registerV3, object(t, append(params, "auth", map[string]string{"session": session})...))
	requireChallenge(t, r, "m.login.registration_token")
	r = h.do(t, "POST", registerV3, object(t, append(params, "auth", dummyAuth(session))...))
	requireRegistered(t, h, r, "alice")
}

// Whatever a client opens a session with, it gets one.
func TestSessionOpeners(t *testing.T) {
	h := newHomeserver(t, flowTD, nil)
	for _, body := range []string{``, `{}`, `{"auth":null}`, `{"auth":{}}`, `{"username":"alice"}`,
		`{"auth":{"initial_device_display_name":"x"}}`, `{"auth":{"session":"","type":""}}`} {
		for _, path := range []string{registerV3, registerR0} {
			r := h.do(t, "POST", path, body)
			requireChallenge(t, r)
			require.Len(t, r.Body, 3, "flows, params and session: %v", r.Body)
		}
	}
}

// The latest request's parameters win: a web client probes with another username
// and gives the password last.
func TestLatestParametersWin(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1})
	r := h.do(t, "POST", registerV3, object(t, "username", "probe"))
	session := r.session(t)
	r = h.do(t, "POST", registerV3, object(t, "username", "probe2", "password", "old", "auth", tokenAuth("once", session)))
	requireChallenge(t, r, "m.login.registration_token")
	r = h.do(t, "POST", registerV3, object(t, "username", "alice", "password", "wonderland", "auth", dummyAuth(session)))
	requireRegistered(t, h, r, "alice")
	requireLogin(t, h, "Alice", "wonderland")
}

// A failed stage is 401 and keeps the session, whatever is wrong with the token.
func TestTokenFailures(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1, "none": 0})
	r := h.do(t, "POST", registerV3, object(t, "username", "alice", "password", "x", "auth", tokenAuth("once", "")))
	requireChallenge(t, r, "m.login.registration_token")
	for _, token := range []string{"once", "none", "unknown", "not a token", "", strings.Repeat("x", 65)} {
		r := h.do(t, "POST", registerV3, object(t, "username", "bob", "password", "x"))
		session := r.session(t)
		r = h.do(t, "POST", registerV3, object(t, "username", "bob", "password", "x", "auth", tokenAuth(token, session)))
		require.Equal(t, http.StatusUnauthorized, r.Status, "%q: %v", token, r.Body)
		require.Equal(t, "M_UNAUTHORIZED", r.Body["errcode"], "%q", token)
		require.Equal(t, session, r.Body["session"], "%q", token)
		require.NotEmpty(t, r.Body["flows"], "%q", token)
	}
}

// A client from before the stage was specified uses its unstable names.
func TestUnstableNames(t *testing.T) {
	const unstable = "org.matrix.msc3231.login.registration_token"
	h := newHomeserver(t, uia.Flow{unstable}, map[string]int64{"once": 1})
	r := h.do(t, "GET", "/_matrix/client/unstable/org.matrix.msc3231/register/"+unstable+"/validity?token=once", "")
	require.Equal(t, map[string]any{"valid": true}, r.Body)
	r = h.do(t, "POST", registerV3, object(t, "username", "alice", "password", "wonderland"))
	requireChallenge(t, r)
	r = h.do(t, "POST", registerV3, object(t, "username", "alice", "password", "wonderland",
		"auth", map[string]string{"type": unstable, "token": "once", "session": r.session(t)}))
	requireRegistered(t, h, r, "alice")
}

// However many clients race for it, a single-use token makes one account.
func TestOneTokenOneAccount(t *testing.T) {
	onEach(t, func(t *testing.T, database string) {
		h := newHomeserverOn(t, database, flowTD, map[string]int64{"once": 1})
		raceForToken(t, h, h)
	})
}

// That is so too if they race on two homeservers that share a database, and a
// client's requests reach one after the other.
func TestOneTokenOnTwoHomeservers(t *testing.T) {
	for name, database := range map[string]func(*testing.T) string{
		"SQLite": sqliteFile, "PostgreSQL": func(t *testing.T) string { return testdb.PostgreSQL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			shared := database(t)
			tokens := map[string]int64{"once": 1}
			raceForToken(t, newHomeserverOn(t, shared, flowTD, tokens), newHomeserverOn(t, shared, flowTD, tokens))
		})
	}
}

// raceForToken lets 16 clients race for the token "once". Their first requests go
// to both homeservers, and their last ones to both at once.
func raceForToken(t *testing.T, homeservers ...*homeserver) {
	var accounts atomic.Int64
	var clients sync.WaitGroup
	for i := range 16 {
		clients.Go(func() {
			params := []any{"username", fmt.Sprintf("user%d", i), "password", "wonderland"}
			first := homeservers[i%len(homeservers)]
			r := first.do(t, "POST", registerV3, object(t, append(params, "auth", tokenAuth("once", ""))...))
			if r.Body["errcode"] != nil {
				assert.Equal(t, "M_UNAUTHORIZED", r.Body["errcode"])
				return
			}
			// The last request twice at once: one account, and one answer.
			last := object(t, append(params, "auth", dummyAuth(r.session(t)))...)
			answers := make([]reply, len(homeservers))
			var both sync.WaitGroup
			for j, h := range homeservers {
				both.Go(func() { answers[j] = h.do(t, "POST", registerV3, last) })
			}
			both.Wait()
			for _, answer := range answers {
				assert.Equal(t, http.StatusOK, answer.Status, "%v", answer.Body)
				assert.Equal(t, answers[0].Body, answer.Body)
			}
			accounts.Add(1)
		})
	}
	clients.Wait()
	require.EqualValues(t, 1, accounts.Load())
	for _, h := range homeservers {
		pending, completed := h.uses(t, "once")
		require.Equal(t, []int64{0, 1}, []int64{pending, completed})
	}
}
