package memstore_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/storetest"
)

func TestStore(t *testing.T) {
	storetest.TestStore(t, func(*testing.T) uia.Store { return memstore.New(nil) })
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, func(*testing.B) uia.Store {
		return memstore.New(&memstore.Options{MaxUses: 1 << 30, MaxSessions: 1 << 30}) // nothing of a benchmark expires
	})
}

var epoch = time.UnixMilli(1_700_000_000_000).UTC()

func reserve(ctx context.Context, s uia.Store, token, session string, until, now time.Time) error {
	err := s.Reserve(ctx, uia.Hold{Token: token, Session: session, Until: until}, now)
	return err
}

func save(ctx context.Context, s uia.Store, r uia.Record, now time.Time) error {
	_, err := s.SaveSession(ctx, r, now)
	return err
}

func TestFullOfTokens(t *testing.T) {
	ctx, s := t.Context(), memstore.New(&memstore.Options{MaxTokens: 2})
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "a"}))
	require.ErrorIs(t, s.CreateTokens(ctx, uia.Token{Value: "b"}, uia.Token{Value: "c"}), uia.ErrFull)
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "b"}), "the failure has created none")
	require.ErrorIs(t, s.CreateTokens(ctx, uia.Token{Value: "c"}), uia.ErrFull)
	require.NoError(t, s.DeleteToken(ctx, "a"))
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "c"}))
}

func TestFullOfUses(t *testing.T) {
	ctx, s := t.Context(), memstore.New(&memstore.Options{MaxUses: 2})
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t"}, uia.Token{Value: "single", UsesAllowed: new(int64(1))}))
	soon := epoch.Add(time.Minute)
	require.NoError(t, reserve(ctx, s, "t", "a", soon, epoch))
	require.NoError(t, reserve(ctx, s, "single", "b", soon, epoch))
	require.ErrorIs(t, reserve(ctx, s, "t", "c", soon, epoch), uia.ErrFull)
	require.NoError(t, reserve(ctx, s, "t", "a", soon, epoch), "renewing needs no room")
	require.NoError(t, reserve(ctx, s, "single", "c", soon, soon), "nor does displacing")
	require.ErrorIs(t, reserve(ctx, s, "t", "d", soon, soon.Add(-1)), uia.ErrFull)
	require.NoError(t, reserve(ctx, s, "t", "d", soon.Add(time.Hour), soon), "what has lapsed gives way")
	rows(t, s, "t", "d")
	require.NoError(t, s.Release(ctx, uia.Claim{Token: "t", Session: "d"}))
	require.NoError(t, reserve(ctx, s, "t", "e", soon, epoch))
}

func TestSpentUsesAreNeverForgotten(t *testing.T) {
	ctx, s := t.Context(), memstore.New(&memstore.Options{MaxUses: 1})
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t"}))
	require.NoError(t, reserve(ctx, s, "t", "a", epoch, epoch))
	claim := uia.Claim{Token: "t", Session: "a", Run: 1}
	require.NoError(t, s.Pin(ctx, claim, epoch))
	years := epoch.AddDate(10, 0, 0)
	require.ErrorIs(t, reserve(ctx, s, "t", "b", years, years), uia.ErrFull)
	require.NoError(t, s.Commit(ctx, claim, "@a:x", epoch))
	require.NoError(t, s.DeleteToken(ctx, "t"))
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t"}))
	require.ErrorIs(t, reserve(ctx, s, "t", "b", years, years), uia.ErrFull)
	require.ErrorIs(t, reserve(ctx, s, "t", "a", years, years), uia.ErrSpent)
}

func TestFullOfSessions(t *testing.T) {
	ctx, s := t.Context(), memstore.New(&memstore.Options{MaxSessions: 2})
	soon := epoch.Add(time.Minute)
	require.NoError(t, save(ctx, s, uia.Record{Key: "open", State: uia.Open, Expires: soon}, epoch))
	require.NoError(t, save(ctx, s, uia.Record{Key: "running", State: uia.Running, Expires: soon}, epoch))
	require.ErrorIs(t, save(ctx, s, uia.Record{Key: "new", State: uia.Open, Expires: soon}, soon.Add(-1)), uia.ErrFull)
	require.NoError(t, save(ctx, s, uia.Record{Key: "open", Revision: 1, State: uia.Done, Expires: soon}, epoch), "replacing needs no room")
	later := soon.Add(time.Hour)
	require.NoError(t, save(ctx, s, uia.Record{Key: "new", State: uia.Open, Expires: later}, soon), "what has expired gives way")
	require.ErrorIs(t, save(ctx, s, uia.Record{Key: "newer", State: uia.Open, Expires: later}, later.Add(-1)), uia.ErrFull, "but not what runs")
	_, err := s.LoadSession(ctx, "running", later)
	require.NoError(t, err)
	require.NoError(t, save(ctx, s, uia.Record{Key: "newer", State: uia.Open, Expires: later.Add(time.Hour)}, later))
	require.NoError(t, save(ctx, s, uia.Record{Key: "newest", State: uia.Open, Expires: later}, soon.Add(24*time.Hour)))

	require.ErrorIs(t, save(ctx, s, uia.Record{Key: "newest", Revision: 1, Data: make([]byte, 1<<20+1)}, epoch), uia.ErrInvalid)
}

// TestForgetsWithoutASweeper abandons registrations for months.
func TestForgetsWithoutASweeper(t *testing.T) {
	ctx, uses, sessions := t.Context(), memstore.New(nil), memstore.New(nil)
	require.NoError(t, uses.CreateTokens(ctx, uia.Token{Value: "t"}))
	var after [2]uint64
	now := epoch
	for half := range after {
		for i := range 20_000 {
			now = now.Add(5 * time.Minute)
			session := fmt.Sprint(half, "-", i)
			require.NoError(t, reserve(ctx, uses, "t", session, now.Add(10*time.Minute), now))
			require.NoError(t, save(ctx, sessions, uia.Record{Key: session, State: uia.Open, Expires: now.Add(2 * time.Hour), Data: make([]byte, 500)}, now))
		}
		after[half] = heap()
	}
	far := now.AddDate(1, 0, 0)
	holds, err := uses.SweepHolds(ctx, far, 1e6)
	require.NoError(t, err)
	records, err := sessions.SweepSessions(ctx, far, 1e6)
	require.NoError(t, err)
	t.Logf("of 40,000 abandoned registrations %d holds and %d records are left; heap of %d KiB after half of them, %d KiB after all",
		holds, records, after[0]>>10, after[1]>>10)
	assert.Less(t, holds, 320, "those of a day")
	assert.Less(t, records, 320, "those of a day")
	assert.Less(t, int64(after[1])-int64(after[0]), int64(1<<20))
	runtime.KeepAlive([]any{uses, sessions})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestBoundsHoldUnderLoad fills the store from many sides at once.
func TestBoundsHoldUnderLoad(t *testing.T) {
	ctx, s := t.Context(), memstore.New(&memstore.Options{MaxUses: 50, MaxSessions: 50})
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t"}))
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				session := fmt.Sprint(w, "-", i)
				if err := reserve(ctx, s, "t", session, epoch.Add(time.Minute), epoch); err != nil {
					assert.ErrorIs(t, err, uia.ErrFull)
				}
				if err := save(ctx, s, uia.Record{Key: session, State: uia.Open, Expires: epoch.Add(time.Minute)}, epoch); err != nil {
					assert.ErrorIs(t, err, uia.ErrFull)
				}
			}
		})
	}
	wg.Wait()
	got, err := s.Token(ctx, "t", epoch)
	require.NoError(t, err)
	assert.EqualValues(t, 25, got.Pending, "the other half is for other tokens")
	n, err := s.SweepSessions(ctx, epoch.Add(time.Hour), 1000)
	require.NoError(t, err)
	assert.GreaterOrEqual(t, n, 25)
	assert.LessOrEqual(t, n, 50)
	n, err = s.SweepHolds(ctx, epoch.Add(time.Hour), 1000)
	require.NoError(t, err)
	assert.Equal(t, 25, n)
}
