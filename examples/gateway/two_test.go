package gateway

import (
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// TestTwoGatewaysOnOneDatabase has two processes on one file, and people who are sent to
// either of them at every request: a single-use token makes one account, and of those who
// want one name one gets it.
func TestTwoGatewaysOnOneDatabase(t *testing.T) {
	upstream, database := homeserver(t), file(t)
	store, err := open(t.Context(), database)
	require.NoError(t, err)
	require.NoError(t, store.CreateTokens(t.Context(),
		uia.Token{Value: "once", UsesAllowed: new(int64(1))}, uia.Token{Value: "fifty", UsesAllowed: new(int64(50))}))
	gateways := [2]*process{start(t, upstream, "shared", database, 0, longLease), start(t, upstream, "shared", database, 0, longLease)}
	register := func(i int, token, user string) answer {
		params := func(auth map[string]any) map[string]any {
			return map[string]any{"username": user, "password": "wonderland", "auth": auth}
		}
		path := "/_matrix/client/v3/register"
		session := post(gateways[i%2].url+path, params(nil)).Session
		a := post(gateways[(i+1)%2].url+path, params(map[string]any{"type": uia.TokenType, "token": token, "session": session}))
		if a.ErrCode != "" {
			return a
		}
		return post(gateways[i%2].url+path, params(map[string]any{"type": "m.login.dummy", "session": session}))
	}
	for name, c := range map[string]struct {
		token string
		user  func(i int) string
	}{
		"one token": {"once", func(i int) string { return fmt.Sprint("person", i) }},
		"one name":  {"fifty", func(int) string { return "alice" }},
	} {
		var all sync.WaitGroup
		answers := make([]answer, 12)
		for i := range answers {
			all.Go(func() { answers[i] = register(i, c.token, c.user(i)) })
		}
		all.Wait()
		made := 0
		for _, a := range answers {
			if a.Status == 200 {
				made++
				continue
			}
			assert.Contains(t, []int{400, 401}, a.Status, "%s: %+v", name, a)
		}
		assert.Equal(t, 1, made, "%s: %+v", name, answers)
		token, err := store.Token(t.Context(), c.token, time.Now())
		require.NoError(t, err)
		assert.EqualValues(t, 1, token.Completed, name)
	}
	taken := 0
	for i := range 12 {
		res, err := http.Get(upstream + "/_matrix/client/v3/register/available?username=" + fmt.Sprint("person", i))
		require.NoError(t, err)
		res.Body.Close()
		if res.StatusCode == 400 {
			taken++
		}
	}
	assert.Equal(t, 1, taken)
}
