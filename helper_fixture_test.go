package uia_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
)

// handClock moves only when it is told to.
type handClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *handClock { return &handClock{now: time.UnixMilli(1_780_000_000_000)} }

func (c *handClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *handClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// probe is a stage that does what the test says and counts how often it is run.
type probe struct {
	typ     string
	mu      sync.Mutex
	runs    int
	attempt func(s *uia.Session, auth json.RawMessage) (json.RawMessage, error) // nil passes
}

func (p *probe) Type() string { return p.typ }

func (p *probe) Attempt(_ context.Context, s *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.runs++
	if p.attempt == nil {
		return nil, nil
	}
	return p.attempt(s, auth)
}

func (p *probe) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs
}

// logged returns a logger and what has been written to it.
func logged() (*slog.Logger, *strings.Builder) {
	var out strings.Builder
	return slog.New(slog.NewTextHandler(&out, nil)), &out
}

// left returns the pending and completed uses of a token.
func (h *homeserver) left(value string) (pending, completed int64) {
	h.t.Helper()
	token, err := h.store.Token(context.Background(), value, time.Now())
	require.NoError(h.t, err)
	return token.Pending, token.Completed
}

// open opens a session with these parameters.
func (h *homeserver) open(params any) string {
	h.t.Helper()
	a := h.post(params)
	require.Equal(h.t, 401, a.Status, a.Body)
	require.NotEmpty(h.t, a.session(), a.Body)
	return a.session()
}

// submitToken is the auth member that submits a token.
func submitToken(session, token string) dict {
	return dict{"type": uia.TokenType, "session": session, "token": token}
}

func submitDummy(session string) dict { return dict{"type": "m.login.dummy", "session": session} }

func submitPassword(session, password string) dict {
	return dict{"type": "m.login.password", "session": session, "password": password}
}

// is asserts the status and the errcode of an answer, and that an answer with an
// errcode is a standard error.
func (a answer) is(t testing.TB, status int, errcode string) {
	t.Helper()
	assert.Equal(t, status, a.Status, a.Body)
	assert.Equal(t, errcode, a.errcode(), a.Body)
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
	assert.Equal(t, "*", a.Header.Get("Access-Control-Allow-Origin"))
	if errcode != "" {
		message, _ := a.JSON["error"].(string)
		assert.NotEmpty(t, message, a.Body)
	}
}

// challenges asserts that an answer is a 401 with exactly these members.
func (a answer) challenges(t testing.TB, members ...string) {
	t.Helper()
	assert.Equal(t, 401, a.Status, a.Body)
	assert.ElementsMatch(t, members, slices.Collect(maps.Keys(a.JSON)), a.Body)
}

// newLimiter returns a limiter with these options, which may be nil.
func newLimiter(t testing.TB, o *limit.Options) *limit.Limiter {
	t.Helper()
	l, err := limit.New(o)
	require.NoError(t, err)
	return l
}

// wait lets the bubble's clock pass.
func wait(t testing.TB, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
