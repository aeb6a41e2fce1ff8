package hs

import (
	"encoding/json"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const registerPath = "/_matrix/client/v3/register"

// registerBody is the body of a registration request. Without a stage there is no
// auth; with an empty session it opens one.
func registerBody(t *testing.T, user, stage, session string) string {
	t.Helper()
	body := map[string]any{"username": user, "password": "wonderland of " + user}
	if stage != "" {
		auth := map[string]string{"type": stage, "token": "fifty"}
		if session != "" {
			auth["session"] = session
		}
		body["auth"] = auth
	}
	out, err := json.Marshal(body)
	require.NoError(t, err)
	return string(out)
}

// One user's requests reach two servers on one database in turn, as they do
// behind a load balancer: nothing that matters is in a process.
func TestTwoServersInTurn(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, database func(*testing.T) string) {
		name := database(t)
		storage := mustOpen(t, name)
		one, two := newServerOn(t, storage), newServerOn(t, mustOpen(t, name))
		post := func(s *Server, body string) (int, map[string]any) {
			status, _, answer := call(t, s, "POST", registerPath, "", body)
			return status, answer
		}
		status, body := post(one, registerBody(t, "alice", "", ""))
		require.Equal(t, http.StatusUnauthorized, status)
		session := body["session"].(string)
		status, body = post(two, registerBody(t, "alice", "m.login.registration_token", session))
		require.Equal(t, http.StatusUnauthorized, status)
		require.Equal(t, []any{"m.login.registration_token"}, body["completed"])
		last := registerBody(t, "alice", "m.login.dummy", session)
		status, registered := post(one, last)
		require.Equal(t, http.StatusOK, status, "%v", registered)
		status, again := post(two, last)
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, registered, again, "its answer was lost, and the other server has it")

		status, _, who := call(t, two, "GET", "/_matrix/client/v3/account/whoami", registered["access_token"].(string), "")
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "@alice:example.org", who["user_id"])
		_, body = post(two, registerBody(t, "alice", "", ""))
		require.Equal(t, "M_USER_IN_USE", body["errcode"])
		status, _, _ = call(t, two, "POST", "/_matrix/client/v3/login", "",
			`{"type":"m.login.password","user":"alice","password":"wonderland of alice"}`)
		require.Equal(t, http.StatusOK, status)
		status, _, _ = call(t, two, "POST", "/_matrix/client/v3/logout/all", registered["access_token"].(string), "")
		require.Equal(t, http.StatusOK, status)
		status, _, _ = call(t, one, "GET", "/_matrix/client/v3/account/whoami", registered["access_token"].(string), "")
		require.Equal(t, http.StatusUnauthorized, status)
		requireSpent(t, storage, 1)
	})
}

// Many users register at once through two servers on one database, and all of
// them want one of two names. An account is made for each use that is spent.
func TestTwoServersAtOnce(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, database func(*testing.T) string) {
		name := database(t)
		storage := mustOpen(t, name)
		servers := []*Server{newServerOn(t, storage), newServerOn(t, mustOpen(t, name))}
		var made sync.Map
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				user := []string{"alice", "bob"}[i%2]
				_, _, body := call(t, servers[i/2%2], "POST", registerPath, "", registerBody(t, user, "m.login.registration_token", ""))
				if body["errcode"] == "M_USER_IN_USE" { // another was that much faster
					return
				}
				session, _ := body["session"].(string)
				status, _, body := call(t, servers[i/4%2], "POST", registerPath, "", registerBody(t, user, "m.login.dummy", session))
				if status == http.StatusOK {
					_, twice := made.LoadOrStore(user, true)
					assert.False(t, twice, user)
				} else {
					assert.Equal(t, "M_USER_IN_USE", body["errcode"], "%v", body)
				}
			})
		}
		all.Wait()
		for _, user := range []string{"alice", "bob"} {
			_, ok := made.Load(user)
			require.True(t, ok, user)
		}
		requireSpent(t, storage, 2)
	})
}

// requireSpent asserts that this many uses of the token "fifty" are spent.
func requireSpent(t *testing.T, storage *Storage, n int64) {
	t.Helper()
	token, err := storage.Tokens.Token(t.Context(), "fifty", time.Now())
	require.NoError(t, err)
	require.Equal(t, n, token.Completed)
}
