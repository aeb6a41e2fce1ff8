package uia_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
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

// meter counts what is asked of a store, by method, and fails on demand.
type meter struct {
	uia.Store
	mu    sync.Mutex
	calls map[string]int
	fail  func(method string) error // nil: never
}

func newMeter() *meter { return &meter{Store: memstore.New(nil), calls: map[string]int{}} }

func (m *meter) call(method string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[method]++
	if m.fail != nil {
		return m.fail(method)
	}
	return nil
}

// reset forgets what has been counted.
func (m *meter) reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.calls)
}

var readMethods = []string{"Token", "ListTokens", "ListUses", "PinnedUses", "LoadSession"}

// counts returns how many reads and how many writes there were.
func (m *meter) counts() (reads, writes int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for method, n := range m.calls {
		if slices.Contains(readMethods, method) {
			reads += n
		} else {
			writes += n
		}
	}
	return reads, writes
}

// untouched asserts that there was no call at all.
func (m *meter) untouched(t testing.TB) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	assert.Empty(t, slices.Collect(maps.Keys(m.calls)), "the store was called")
}

// unwritten asserts that nothing was written.
func (m *meter) unwritten(t testing.TB) {
	t.Helper()
	_, writes := m.counts()
	assert.Zero(t, writes, "the store was written to: %v", m.calls)
}

func (m *meter) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	if err := m.call("CreateTokens"); err != nil {
		return err
	}
	return m.Store.CreateTokens(ctx, tokens...)
}

func (m *meter) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	if err := m.call("Token"); err != nil {
		return uia.Token{}, err
	}
	return m.Store.Token(ctx, value, now)
}

func (m *meter) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
	if err := m.call("ListTokens"); err != nil {
		return uia.TokenPage{}, err
	}
	return m.Store.ListTokens(ctx, q, now)
}

func (m *meter) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
	if err := m.call("UpdateToken"); err != nil {
		return uia.Token{}, err
	}
	return m.Store.UpdateToken(ctx, value, p, now)
}

func (m *meter) DeleteToken(ctx context.Context, value string) error {
	if err := m.call("DeleteToken"); err != nil {
		return err
	}
	return m.Store.DeleteToken(ctx, value)
}

func (m *meter) Reserve(ctx context.Context, h uia.Hold, now time.Time) (uia.Token, error) {
	if err := m.call("Reserve"); err != nil {
		return uia.Token{}, err
	}
	return m.Store.Reserve(ctx, h, now)
}

func (m *meter) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	if err := m.call("Pin"); err != nil {
		return err
	}
	return m.Store.Pin(ctx, c, now)
}

func (m *meter) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	if err := m.call("Unpin"); err != nil {
		return err
	}
	return m.Store.Unpin(ctx, c, until, now)
}

func (m *meter) Commit(ctx context.Context, c uia.Claim, userID string, now time.Time) error {
	if err := m.call("Commit"); err != nil {
		return err
	}
	return m.Store.Commit(ctx, c, userID, now)
}

func (m *meter) Release(ctx context.Context, c uia.Claim) error {
	if err := m.call("Release"); err != nil {
		return err
	}
	return m.Store.Release(ctx, c)
}

func (m *meter) ListUses(ctx context.Context, q uia.UseQuery) (uia.UsePage, error) {
	if err := m.call("ListUses"); err != nil {
		return uia.UsePage{}, err
	}
	return m.Store.ListUses(ctx, q)
}

func (m *meter) PinnedUses(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
	if err := m.call("PinnedUses"); err != nil {
		return nil, err
	}
	return m.Store.PinnedUses(ctx, before, limit)
}

func (m *meter) SweepHolds(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := m.call("SweepHolds"); err != nil {
		return 0, err
	}
	return m.Store.SweepHolds(ctx, before, limit)
}

func (m *meter) LoadSession(ctx context.Context, key string, now time.Time) (uia.Record, error) {
	if err := m.call("LoadSession"); err != nil {
		return uia.Record{}, err
	}
	return m.Store.LoadSession(ctx, key, now)
}

func (m *meter) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	if err := m.call("SaveSession"); err != nil {
		return uia.Record{}, err
	}
	return m.Store.SaveSession(ctx, r, now)
}

func (m *meter) SweepSessions(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := m.call("SweepSessions"); err != nil {
		return 0, err
	}
	return m.Store.SweepSessions(ctx, now, limit)
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
