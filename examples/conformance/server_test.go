package conformance

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
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

const sharedSecret = "the shared secret of the tests"

// homeserver returns the example homeserver, and how the kit is told of it. A client
// may fail as often as Options.Failures of hs says.
func homeserver(t *testing.T, storage *hs.Storage, flow uia.Flow, failures int) uiatest.Server {
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
				uiatest.TestServer(t, homeserver(t, open(t, name(t)), stages, 0))
			})
		}
	}
}

// No case is left out for another reason than that it is about something else: each
// that could apply passes.
func TestWhatApplies(t *testing.T) {
	about := regexp.MustCompile(`^(the flow is |registration is open|no application service|it waits for |it is about an answer with status 429|` +
		`the homeserver does not offer (guests|refresh|terms|email) )`)
	for flow, stages := range flows {
		t.Run(flow, func(t *testing.T) {
			reports, err := uiatest.Run(t.Context(), homeserver(t, open(t, "memory"), stages, 0), nil)
			require.NoError(t, err)
			for _, r := range reports {
				if r.Outcome != uiatest.NotApplicable {
					require.Equal(t, uiatest.Passed, r.Outcome, r.Explain())
				} else {
					require.Regexp(t, about, r.Reason, r.Name)
				}
			}
		})
	}
}

// As many tokens as the cases are said to take are enough, side by side as well.
func TestGivenTokens(t *testing.T) {
	server := homeserver(t, open(t, "memory"), flows["TD"], 0)
	for range uiatest.TokensFor(uiatest.Cases()) {
		token := uiatest.NewToken{Value: rand.Text(), Uses: new(int64(1))}
		_, err := server.NewToken(t.Context(), token)
		require.NoError(t, err)
		server.Tokens = append(server.Tokens, token.Value)
	}
	server.NewToken, server.AdminToken = nil, ""
	reports, err := uiatest.Run(t.Context(), server, &uiatest.Options{Parallel: 4})
	require.NoError(t, err)
	for _, r := range reports {
		require.NotEqual(t, uiatest.Failed, r.Outcome, "%s: %s", r.Name, r.Explain())
		require.NotRegexp(t, "tokens that were given are used", r.Reason, r.Name)
	}
}

// A homeserver without tokens is measured by what is not about them.
func TestDummyAlone(t *testing.T) {
	server := homeserver(t, open(t, "memory"), uia.Flow{"m.login.dummy"}, 0)
	server.NewToken, server.AdminToken = nil, ""
	reports, err := uiatest.Run(t.Context(), server, &uiatest.Options{Parallel: 4, Guesses: 70})
	require.NoError(t, err)
	passed := make(map[string]int)
	for _, r := range reports {
		require.NotEqual(t, uiatest.Failed, r.Outcome, "%s: %s", r.Name, r.Explain())
		if r.Outcome == uiatest.Passed {
			passed[r.Area]++
		}
	}
	for area, least := range map[string]int{"uia": 30, "register": 35, "devices": 8, "races": 4, "input": 40} {
		assert.GreaterOrEqual(t, passed[area], least, area)
	}
}

// The default limit is found, and so is a lower one. That there is none is found too.
func TestLimits(t *testing.T) {
	for name, failures := range map[string]int{"default": 0, "low": 10, "none": -1} {
		for flow, stages := range flows {
			t.Run(name+"/"+flow, func(t *testing.T) {
				server := homeserver(t, open(t, "memory"), stages, failures)
				reports, err := uiatest.Run(t.Context(), server, &uiatest.Options{Match: regexp.MustCompile("^limits/")})
				require.NoError(t, err)
				failed := 0
				for _, r := range reports {
					if failures < 0 {
						require.NotEqual(t, uiatest.Passed, r.Outcome, r.Name)
					} else {
						require.Equal(t, uiatest.Passed, r.Outcome, "%s: %s %s", r.Name, r.Reason, r.Explain())
					}
					if r.Outcome == uiatest.Failed {
						failed++
						require.Contains(t, r.Problems[0], "no limit within 50 guesses")
					}
				}
				require.Equal(t, failures < 0, failed == 4, "each way to guess, and nothing else")
			})
		}
	}
}
