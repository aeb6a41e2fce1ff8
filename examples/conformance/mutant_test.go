package conformance

import (
	"bytes"
	"crypto/rand"
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
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/uiatest"
)

var full = flag.Bool("full", false, "run every case against every mutant, not only the one that is there for it")

// mutant is the example homeserver with one thing broken.
type mutant struct {
	name string
	// answer changes what is answered, serve answers in its place, store changes what is
	// stored. One of them is not nil.
	answer func(b *backend, x *exchange)
	serve  func(b *backend, x *exchange)
	store  func(uia.Store) uia.Store
}

// mutants are the broken homeservers.
var mutants = slices.Concat(challengeMutants, sessionMutants, protocolMutants, stageMutants, finishedMutants, tokenMutants, raceMutants,
	validityMutants, registrationMutants, availableMutants, answerMutants, kindMutants, inputMutants, fallbackMutants, signupMutants, deviceMutants, keyMutants, adminMutants,
	closedMutants, limitMutants, offersMutants)

// backend is what a mutant has at hand.
type backend struct {
	tokens uia.Store
	admin  string // an administrator's access token

	mu     sync.Mutex
	memory map[string]string
	counts map[string]int
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
	return x.r.Method == http.MethodPost && strings.HasSuffix(x.path(), "/register") && !x.signup() && !strings.Contains(x.path(), "_synapse")
}

func (x *exchange) validity() bool { return strings.HasSuffix(x.path(), "/validity") }

func (x *exchange) admin() bool { return strings.Contains(x.path(), "/registration_tokens") }

func (x *exchange) fallback() bool { return strings.HasSuffix(x.path(), "/fallback/web") }

// first reports whether it is the first request of a registration, and answered
// with the flows.
func (x *exchange) first() bool { return x.register() && x.auth() == nil && x.status == 401 }

// poll reports whether it is a request to register that has nothing in auth but a
// session.
func (x *exchange) poll() bool {
	return x.register() && x.authString("session") != "" && x.authString("type") == ""
}

// completed is how many stages are completed.
func (x *exchange) completed() int {
	list, _ := x.json["completed"].([]any)
	return len(list)
}

// user is the username that is asked for.
func (x *exchange) user() string {
	s, _ := x.sent["username"].(string)
	return s
}

// made returns the user ID of a user that a broken homeserver makes.
func (x *exchange) made() map[string]any {
	return map[string]any{"user_id": "@" + x.user() + ":example.org", "access_token": rand.Text(), "device_id": "A"}
}

// pass answers as if a stage were passed.
func (x *exchange) pass() {
	x.send(with(x.sent, "auth", map[string]any{"session": x.authString("session")}))
	x.json["completed"] = []string{uia.TokenType}
}

// page answers with HTML.
func (x *exchange) page(text string) {
	x.json, x.body = nil, []byte(text)
	x.header.Set("Content-Type", "text/html; charset=utf-8")
}

func (x *exchange) available() bool { return strings.HasSuffix(x.path(), "/register/available") }

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
	if m.store != nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		x := &exchange{next: next, r: r, raw: raw}
		_ = json.Unmarshal(raw, &x.sent)
		if m.serve != nil {
			m.serve(b, x)
		} else {
			x.send(raw)
			m.answer(b, x)
		}
		maps.Copy(w.Header(), x.header)
		w.WriteHeader(x.status)
		if x.json != nil {
			x.body, _ = json.Marshal(x.json)
		}
		_, _ = w.Write(x.body)
	})
}

// killers returns the cases that say that they kill the mutant.
func (m *mutant) killers() (cases []uiatest.Case) {
	for _, c := range uiatest.Cases() {
		if c.Kills == m.name {
			cases = append(cases, c)
		}
	}
	return cases
}

// Every mutant is killed by each case that says so. With -full the table shows what
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
				killers := m.killers()
				by := m.kill(t, killers)
				for _, c := range killers {
					require.Contains(t, by, c.Name)
				}
				killed[i] = fmt.Sprintf("%-60s %3d  %3d", m.name, len(killers), len(by))
			})
		}
	})
	t.Logf("%d mutants: the broken homeserver, how many cases are there for it, and how many of those that ran kill it\n%s", len(mutants), strings.Join(killed, "\n"))
}

// kill returns the cases that fail. It runs the killers, each on a homeserver that
// has what the case is about. With -full it runs all cases afterwards: in that run some do
// not apply, because others have used up the guesses.
func (m *mutant) kill(t *testing.T, killers []uiatest.Case) (by []string) {
	byBase := make(map[base][]string)
	for _, c := range killers {
		at := baseOf(&c)
		byBase[at] = append(byBase[at], regexp.QuoteMeta(c.Name))
	}
	for at, names := range byBase {
		by = append(by, m.run(t, at, "^("+strings.Join(names, "|")+")$")...)
	}
	if *full {
		by = append(by, m.run(t, base{flow: "TD"}, "")...)
	}
	slices.Sort(by)
	return slices.Compact(by)
}

// run returns the cases of these names that fail.
func (m *mutant) run(t *testing.T, at base, names string) (by []string) {
	run := func(t *testing.T) {
		server, tokens := at.server(t, m.store)
		server.Handler = m.handler(server.Handler, &backend{tokens: tokens, admin: server.AdminToken, memory: make(map[string]string), counts: make(map[string]int)})
		reports, err := uiatest.Run(t.Context(), server, &uiatest.Options{Parallel: 4, Match: regexp.MustCompile(names)})
		require.NoError(t, err)
		for _, r := range reports {
			if r.Outcome == uiatest.Failed {
				by = append(by, r.Name)
				require.NotEmpty(t, r.Problems)
				require.NotEmpty(t, r.Exchanges, r.Name)
			} else if names != "" {
				t.Logf("%s: %s %s", r.Name, r.Outcome, r.Reason)
			}
		}
	}
	if at.patient {
		synctest.Test(t, run)
	} else {
		run(t)
	}
	return by
}

// base is a homeserver that mutants are made of.
type base struct {
	kinds, closed, limited, patient bool
	flow                            string
}

func baseOf(c *uiatest.Case) base {
	needs := func(some ...string) bool {
		return slices.ContainsFunc(some, func(need string) bool { return slices.Contains(c.Needs, need) })
	}
	at := base{
		kinds:   needs("guests", "refresh", "appservice", "terms", "email"),
		closed:  needs("closed"),
		limited: c.Area == "limits",
		patient: needs("patience"),
		flow:    "TD",
	}
	if needs("T") {
		at.flow = "T"
	}
	return at
}

// server returns the homeserver and its tokens, which change wraps unless it is nil.
func (at base) server(t *testing.T, change func(uia.Store) uia.Store) (uiatest.Server, uia.Store) {
	switch {
	case at.kinds:
		return newKinds(t), nil
	case at.closed:
		return newClosed(t), nil
	}
	storage, failures := open(t, "memory"), 0
	if at.limited {
		failures = 10
	}
	if change != nil {
		broken := *storage
		broken.Tokens = change(storage.Tokens)
		storage = &broken
	}
	server := homeserver(t, storage, flows[at.flow], failures)
	server.Flows = [][]string{flows[at.flow]}
	if at.patient {
		server.Patience = time.Hour
	}
	return server, storage.Tokens
}

// Every case says what mistake it finds, and there is a homeserver that makes it.
func TestEveryCaseKills(t *testing.T) {
	names := make(map[string]bool)
	for _, m := range mutants {
		names[m.name] = true
		require.NotEmpty(t, m.killers(), "no case is there for the mutant that %s", m.name)
	}
	for _, c := range uiatest.Cases() {
		require.True(t, names[c.Kills], "%s: there is no mutant that %s", c.Name, c.Kills)
	}
}
