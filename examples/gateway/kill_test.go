package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
)

// homeserver starts the example homeserver, which lets nobody register who has not
// the shared secret or the token.
func homeserver(t *testing.T) string {
	t.Helper()
	storage, err := hs.Open(t.Context(), "memory")
	require.NoError(t, err)
	server, err := hs.New(t.Context(), hs.Options{
		ServerName: serverName, SharedSecret: sharedSecret, Storage: storage, Failures: -1,
		Tokens: []uia.Token{{Value: upstreamToken}},
	})
	require.NoError(t, err)
	listening := httptest.NewServer(server)
	t.Cleanup(func() {
		server.Close()
		listening.Close()
	})
	return listening.URL
}

// answer is what a client gets; Status 0 means nothing, because the gateway is gone.
type answer struct {
	Status      int
	Session     string
	ErrCode     string
	UserID      string `json:"user_id"`
	DeviceID    string `json:"device_id"`
	AccessToken string `json:"access_token"`
}

func post(url string, body map[string]any) (a answer) {
	text, _ := json.Marshal(body) // strings and maps always encode
	res, err := http.Post(url, "application/json", bytes.NewReader(text))
	if err != nil {
		return answer{}
	}
	defer res.Body.Close()
	if json.NewDecoder(res.Body).Decode(&a) != nil {
		return answer{}
	}
	a.Status = res.StatusCode
	return a
}

// register goes as far as a request can come that makes the account, and returns that
// with its answer.
func (p *process) register(t *testing.T, user string) (last map[string]any, got answer) {
	t.Helper()
	path := p.url + "/_matrix/client/v3/register"
	request := func(auth map[string]any) map[string]any {
		body := map[string]any{"username": user, "password": "wonderland", "device_id": "PHONE"}
		if auth != nil {
			body["auth"] = auth
		}
		return body
	}
	first := post(path, request(nil))
	require.Equal(t, 401, first.Status)
	second := post(path, request(map[string]any{"type": uia.TokenType, "token": "once", "session": first.Session}))
	require.Equal(t, 401, second.Status)
	require.Empty(t, second.ErrCode)
	last = request(map[string]any{"type": "m.login.dummy", "session": first.Session})
	return last, post(path, last)
}

// most is how many operations there are at most, and one or two more.
const most = 10

// TestKill kills the gateway with SIGKILL after each of its operations: the client
// comes back to another process, or never.
func TestKill(t *testing.T) {
	full := os.Getenv("UIA_FULL") != ""
	for _, way := range []string{"shared", "private"} {
		upstream := homeserver(t)
		for at := 1; at <= most; at++ {
			for _, back := range []bool{true, false} {
				if !full && way == "private" && (at%2 == 0) == back {
					continue // half of them
				}
				t.Run(fmt.Sprintf("%s/%d/back=%v", way, at, back), func(t *testing.T) {
					t.Parallel()
					kill(t, upstream, way, at, back)
				})
			}
		}
	}
}

func kill(t *testing.T, upstream, way string, at int, back bool) {
	database := file(t)
	store, err := open(t.Context(), database)
	require.NoError(t, err)
	uses := int64(1)
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "once", UsesAllowed: &uses}))
	user := fmt.Sprintf("user-%s-%d-%v", way, at, back)

	last, got := start(t, upstream, way, database, at, shortLease).register(t, user)
	killed := got.Status != 200
	then := 0
	if back {
		then = patient
	}
	next := start(t, upstream, way, database, then, shortLease)
	deadline := time.Now().Add(2 * time.Minute)
	for back && killed && time.Now().Before(deadline) {
		got = post(next.url+"/_matrix/client/v3/register", last)
		if got.Status != 0 && got.Status < 500 {
			break
		}
	}
	// All is quiet when nothing is in doubt.
	token, err := store.Token(t.Context(), "once", time.Now())
	for ; err == nil && token.Pending > 0 && time.Now().Before(deadline); token, err = store.Token(t.Context(), "once", time.Now()) {
		<-time.After(100 * time.Millisecond)
	}
	require.NoError(t, err)
	assert.Zero(t, token.Pending)
	login := post(upstream+"/_matrix/client/v3/login", map[string]any{
		"type": "m.login.password", "password": "wonderland", "identifier": map[string]string{"type": "m.id.user", "user": user},
	})
	accounts := int64(0)
	if login.Status == 200 {
		accounts = 1
	} else {
		available, err := http.Get(upstream + "/_matrix/client/v3/register/available?username=" + user)
		require.NoError(t, err)
		available.Body.Close()
		assert.Equal(t, 200, available.StatusCode, "there is an account, and its user cannot log in")
	}
	assert.Equal(t, accounts, token.Completed, "accounts are spent uses")
	assert.True(t, killed || at > 7, "there are so many operations until the answer")
	assert.False(t, killed && at == most, "and no more")
	if back || !killed {
		assert.EqualValues(t, 1, accounts)
		assert.Equal(t, 200, got.Status, "the client comes back")
	}
	if got.Status == 200 {
		assert.Equal(t, "PHONE", got.DeviceID)
		assert.NotEmpty(t, got.AccessToken)
	}
	t.Logf("killed %v, accounts %d, the client got %d %s", killed, accounts, got.Status, got.ErrCode)
}
