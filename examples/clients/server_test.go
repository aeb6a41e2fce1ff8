package clients

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/examples/internal/testdb"
)

// The flows that clients know: T is the token alone, TD the token and then the
// dummy stage.
var (
	flowT  = uia.Flow{"m.login.registration_token"}
	flowTD = uia.Flow{"m.login.registration_token", "m.login.dummy"}
)

// homeserver is the example homeserver on a port of its own.
type homeserver struct {
	*httptest.Server
	store uia.Store
}

func TestMain(m *testing.M) { os.Exit(testdb.Main(m)) }

// sqliteFile names a SQLite database, which is what the homeserver uses if it is
// told nothing else.
func sqliteFile(t *testing.T) string { return filepath.Join(t.TempDir(), "homeserver.db") }

// onEach runs a test on a fresh database of every kind.
func onEach(t *testing.T, test func(t *testing.T, database string)) {
	t.Run("memory", func(t *testing.T) { test(t, "memory") })
	t.Run("SQLite", func(t *testing.T) { test(t, sqliteFile(t)) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, testdb.PostgreSQL(t)) })
}

// newHomeserver starts a homeserver with this flow and with tokens of these
// numbers of uses.
func newHomeserver(t *testing.T, flow uia.Flow, tokens map[string]int64) *homeserver {
	t.Helper()
	return newHomeserverOn(t, sqliteFile(t), flow, tokens)
}

// newHomeserverOn is newHomeserver on a database that others may be on too.
func newHomeserverOn(t *testing.T, database string, flow uia.Flow, tokens map[string]int64) *homeserver {
	t.Helper()
	storage, err := hs.Open(t.Context(), database)
	require.NoError(t, err)
	if storage.Close != nil {
		t.Cleanup(func() { require.NoError(t, storage.Close()) })
	}
	opts := hs.Options{ServerName: "localhost", Flows: []uia.Flow{flow}, Storage: storage}
	for value, uses := range tokens {
		opts.Tokens = append(opts.Tokens, uia.Token{Value: value, UsesAllowed: &uses, Created: time.Now()})
	}
	server, err := hs.New(t.Context(), opts)
	require.NoError(t, err)
	h := &homeserver{Server: httptest.NewServer(server), store: storage.Tokens}
	t.Cleanup(func() {
		server.Close()
		h.Close()
	})
	return h
}

// uses returns how many uses of a token are pending and completed.
func (h *homeserver) uses(t *testing.T, token string) (pending, completed int64) {
	t.Helper()
	tok, err := h.store.Token(t.Context(), token, time.Now())
	require.NoError(t, err)
	return tok.Pending, tok.Completed
}

// reply is an answer of the homeserver.
type reply struct {
	Status int
	Header http.Header
	Body   map[string]any
}

func (r reply) session(t *testing.T) string {
	t.Helper()
	session, _ := r.Body["session"].(string)
	require.NotEmpty(t, session, "session in %v", r.Body)
	return session
}

// do sends a request and decodes its answer, which is always a JSON object.
func (h *homeserver) do(t *testing.T, method, path, body string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, bytes.NewBufferString(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := h.Client().Do(req)
	require.NoError(t, err)
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"), "%s %s", method, path)
	r := reply{Status: res.StatusCode, Header: res.Header}
	require.NoError(t, json.Unmarshal(raw, &r.Body), "%s %s answered %d %s", method, path, res.StatusCode, raw)
	return r
}

// object encodes a JSON object from pairs of member and value.
func object(t *testing.T, pairs ...any) string {
	t.Helper()
	m := make(map[string]any)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	out, err := json.Marshal(m)
	require.NoError(t, err)
	return string(out)
}
