package conformance

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/uiatest"
)

var full = flag.Bool("full", false, "run every case against every mutant, not only the one that is there for it")

// mutant is the example homeserver with one thing broken.
type mutant struct {
	name string
	by   string // a case that kills it
	flow string // "TD" if empty
	// answer changes what is answered; store what is stored. One of the two is nil.
	answer func(b *backend, x *exchange)
	store  func(uia.Store) uia.Store
}

// mutants are the broken homeservers.
var mutants = slices.Concat(sessionMutants, protocolMutants, tokenMutants, validityMutants, registrationMutants,
	inputMutants, fallbackMutants, deviceMutants, adminMutants, limitMutants)

// backend is what a mutant has at hand.
type backend struct {
	tokens uia.Store
	admin  string // an administrator's access token

	mu     sync.Mutex
	memory map[string]string
}

func (b *backend) get(key string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.memory[key]
}

// put returns what was there before.
func (b *backend) put(key, value string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.memory[key]
	b.memory[key] = value
	return before
}

// exchange is a request and what the homeserver answers to it.
type exchange struct {
	next http.Handler
	r    *http.Request
	raw  []byte
	sent map[string]any // the request's body, nil if it is no object

	status int
	header http.Header
	body   []byte
	json   map[string]any // the answer, nil if it is no object
}

// send answers the request as if it had this body: bytes as they are, anything
// else as JSON.
func (x *exchange) send(body any) {
	raw, ok := body.([]byte)
	if !ok {
		raw, _ = json.Marshal(body)
	}
	r := x.r.Clone(x.r.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(raw)), int64(len(raw))
	w := httptest.NewRecorder()
	x.next.ServeHTTP(w, r)
	x.status, x.header, x.body, x.json = w.Code, w.Header(), w.Body.Bytes(), nil
	_ = json.Unmarshal(x.body, &x.json)
}

func (x *exchange) path() string { return x.r.URL.Path }

func (x *exchange) register() bool {
	return x.r.Method == http.MethodPost && strings.HasSuffix(x.path(), "/register") && !strings.Contains(x.path(), "_synapse")
}

func (x *exchange) validity() bool { return strings.HasSuffix(x.path(), "/validity") }

func (x *exchange) admin() bool { return strings.Contains(x.path(), "/registration_tokens") }

func (x *exchange) fallback() bool { return strings.HasSuffix(x.path(), "/fallback/web") }

func (x *exchange) auth() map[string]any {
	auth, _ := x.sent["auth"].(map[string]any)
	return auth
}

func (x *exchange) authString(name string) string {
	s, _ := x.auth()[name].(string)
	return s
}

func (x *exchange) errcode() string {
	s, _ := x.json["errcode"].(string)
	return s
}

// refuse answers with an error.
func (x *exchange) refuse(status int, errcode string) {
	x.status, x.json = status, map[string]any{"errcode": errcode, "error": "broken"}
}

// without returns an object without some members.
func without(object map[string]any, names ...string) map[string]any {
	out := make(map[string]any)
	for name, v := range object {
		if !slices.Contains(names, name) {
			out[name] = v
		}
	}
	return out
}

// with returns an object with one more member.
func with(object map[string]any, name string, v any) map[string]any {
	out := without(object)
	out[name] = v
	return out
}

// handler is the mutant as an http.Handler.
func (m mutant) handler(next http.Handler, b *backend) http.Handler {
	if m.answer == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		x := &exchange{next: next, r: r, raw: raw}
		_ = json.Unmarshal(raw, &x.sent)
		x.send(raw)
		m.answer(b, x)
		maps.Copy(w.Header(), x.header)
		w.WriteHeader(x.status)
		if x.json != nil {
			x.body, _ = json.Marshal(x.json)
		}
		_, _ = w.Write(x.body)
	})
}

// Every mutant is killed by the case that is there for it. The table shows what
// else notices.
func TestMutants(t *testing.T) {
	killed := make([]string, len(mutants))
	t.Run("mutants", func(t *testing.T) {
		names := make(map[string]bool)
		for i, m := range mutants {
			require.False(t, names[m.name], "two mutants are called %s", m.name)
			names[m.name] = true
			t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				by := m.kill(t)
				require.Contains(t, by, m.by)
				killed[i] = fmt.Sprintf("%-52s %3d  %s", m.name, len(by), m.by)
			})
		}
	})
	t.Logf("%d mutants: the broken homeserver, how many cases kill it, and the one that is there for it\n%s", len(mutants), strings.Join(killed, "\n"))
}

// kill returns the cases that fail.
func (m mutant) kill(t *testing.T) (by []string) {
	flow := m.flow
	if flow == "" {
		flow = "TD"
	}
	storage, failures := open(t, "memory"), 0
	if strings.HasPrefix(m.by, "limits/") {
		failures = 10
	}
	if m.store != nil {
		broken := *storage
		broken.Tokens = m.store(storage.Tokens)
		storage = &broken
	}
	server := homeserver(t, storage, flows[flow], failures)
	server.Handler = m.handler(server.Handler, &backend{tokens: storage.Tokens, admin: server.AdminToken, memory: make(map[string]string)})
	server.Flows = [][]string{flows[flow]}
	opts := &uiatest.Options{Parallel: 4}
	if !*full || failures > 0 { // with a low limit no other case gets anywhere
		opts.Match = regexp.MustCompile("^" + regexp.QuoteMeta(m.by) + "$")
	}
	reports, err := uiatest.Run(t.Context(), server, opts)
	require.NoError(t, err)
	for _, r := range reports {
		if r.Outcome == uiatest.Failed {
			by = append(by, r.Name)
			require.NotEmpty(t, r.Problems)
			require.NotEmpty(t, r.Exchanges, r.Name)
		}
	}
	return by
}
