package uia_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

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

func (m *meter) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	if err := m.call("Reserve"); err != nil {
		return err
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
