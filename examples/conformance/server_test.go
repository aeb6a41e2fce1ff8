package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/examples/internal/testdb"
	"github.com/matrix-uia/uia/uiatest"
)

// flows are the two ways to register that the kit knows.
var flows = map[string]uia.Flow{
	"T":  {uia.TokenType},
	"TD": {uia.TokenType, "m.login.dummy"},
}

// storages name what the example homeserver can keep everything in, as its flag -db
// does.
var storages = map[string]func(t *testing.T) string{
	"memory":     func(*testing.T) string { return "memory" },
	"SQLite":     func(t *testing.T) string { return filepath.Join(t.TempDir(), "homeserver.db") },
	"PostgreSQL": func(t *testing.T) string { return testdb.PostgreSQL(t) },
}

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

func open(t *testing.T, database string) *hs.Storage {
	t.Helper()
	storage, err := hs.Open(t.Context(), database)
	require.NoError(t, err)
	if storage.Close != nil {
		t.Cleanup(func() { require.NoError(t, storage.Close()) })
	}
	return storage
}

// failures is a limit which the cases about limits find within the guesses of a
// run, and the others do not.
const failures = 46

const sharedSecret = "the shared secret of the tests"

// homeserver returns the example homeserver, and how the kit is told of it.
func homeserver(t *testing.T, storage *hs.Storage, flow uia.Flow) uiatest.Server {
	t.Helper()
	server, err := hs.New(t.Context(), hs.Options{
		ServerName: "example.org", Storage: storage, Flows: []uia.Flow{flow}, Failures: failures, SharedSecret: sharedSecret,
	})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return uiatest.Server{
		Handler:    server,
		NewToken:   newToken(storage.Tokens),
		AdminToken: newAdmin(t, server),
		Lacks:      []string{"fallback"},
	}
}

// newToken makes tokens for the kit.
func newToken(store uia.Store) func(context.Context, uiatest.NewToken) (string, error) {
	return func(ctx context.Context, t uiatest.NewToken) (string, error) {
		token := uia.Token{Value: t.Value, UsesAllowed: t.Uses, Expires: t.Expires, Created: time.Now()}
		return t.Value, store.CreateTokens(ctx, token)
	}
}

// newAdmin makes an administrator as existing tools do, and returns the access
// token.
func newAdmin(t *testing.T, server http.Handler) string {
	t.Helper()
	const path = "/_synapse/admin/v1/register"
	var made struct {
		Nonce       string
		AccessToken string `json:"access_token"`
	}
	call := func(method, body string) {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		require.Equal(t, http.StatusOK, w.Code, "%s", w.Body)
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &made))
	}
	call("GET", "")
	mac := hmac.New(sha1.New, []byte(sharedSecret))
	fmt.Fprintf(mac, "%s\x00admin\x00password\x00admin", made.Nonce)
	body, err := json.Marshal(map[string]any{"nonce": made.Nonce, "username": "admin", "password": "password", "admin": true,
		"mac": hex.EncodeToString(mac.Sum(nil))})
	require.NoError(t, err)
	call("POST", string(body))
	return made.AccessToken
}

// Every case that applies passes, at every level, in both flows, on every storage.
func TestExample(t *testing.T) {
	for storage, name := range storages {
		for flow, stages := range flows {
			t.Run(storage+"/"+flow, func(t *testing.T) {
				uiatest.TestServer(t, homeserver(t, open(t, name(t)), stages))
			})
		}
	}
}
