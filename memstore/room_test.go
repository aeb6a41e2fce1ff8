package memstore_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// rows asserts which sessions have uses of a token.
func rows(t *testing.T, s uia.Store, token string, sessions ...string) {
	t.Helper()
	page, err := s.ListUses(t.Context(), uia.UseQuery{Token: token})
	require.NoError(t, err)
	var got []string
	for _, u := range page.Uses {
		got = append(got, u.Session)
	}
	require.ElementsMatch(t, sessions, got)
}

// pass is what a session does that has passed the token's stage: it takes a hold of
// thirty seconds, and a record that outlives it by hours.
func pass(t *testing.T, s uia.Store, token, session string, now time.Time) error {
	if err := reserve(t.Context(), s, token, session, now.Add(30*time.Second), now); err != nil {
		return err
	}
	err := save(t.Context(), s, uia.Record{Key: session, State: uia.Open, Expires: now.Add(2 * time.Hour)}, now)
	if err != nil {
		assert.NoError(t, s.Release(t.Context(), uia.Claim{Token: token, Session: session}))
	}
	return err
}

// TestOneTokenLeavesRoom has a stranger, who knows one token, pass its stage as often
// as can be. The holders of other tokens notice nothing, in the same moment and later,
// and as soon as the stranger's holds have lapsed neither do those of that token.
func TestOneTokenLeavesRoom(t *testing.T) {
	for name, opts := range map[string]memstore.Options{
		"records": {MaxSessions: 1000}, "uses": {MaxUses: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			s := memstore.New(&opts)
			require.NoError(t, s.CreateTokens(t.Context(), uia.Token{Value: "public"}, uia.Token{Value: "other"}, uia.Token{Value: "single", UsesAllowed: new(int64(1))}))
			storm := func(now time.Time) (passed int) {
				for i := range 3000 {
					err := pass(t, s, "public", fmt.Sprint("storm", now.Unix(), "-", i), now)
					if err == nil {
						passed++
					} else {
						require.ErrorIs(t, err, uia.ErrFull)
					}
				}
				return passed
			}
			assert.Equal(t, 500, storm(epoch), "half of the store")
			for i := range 100 {
				require.NoError(t, pass(t, s, "other", fmt.Sprint("other", i), epoch))
			}
			require.NoError(t, pass(t, s, "single", "single", epoch))
			require.ErrorIs(t, pass(t, s, "public", "late", epoch), uia.ErrFull)

			later := epoch.Add(31 * time.Second)
			require.NoError(t, pass(t, s, "public", "late", later), "lapsed holds give way")
			storm(later)
			require.NoError(t, s.Pin(t.Context(), uia.Claim{Token: "single", Session: "single", Run: 2}, later), "but for no other token's sake")
			_, err := s.LoadSession(t.Context(), "single", later)
			require.NoError(t, err)
		})
	}
}

// TestFullOfLapsedHolds leaves a store that is full of holds of many tokens, all of
// which have lapsed. They give way to any token.
func TestFullOfLapsedHolds(t *testing.T) {
	s := memstore.New(&memstore.Options{MaxUses: 1000, MaxSessions: 1000})
	n := 0
	for i := range 200 {
		token := fmt.Sprint("t", i)
		require.NoError(t, s.CreateTokens(t.Context(), uia.Token{Value: token}))
		for j := range 100 {
			if err := pass(t, s, token, fmt.Sprint(i, "-", j), epoch); errors.Is(err, uia.ErrFull) {
				break
			}
			n++
		}
	}
	require.Equal(t, 1000, n)
	require.NoError(t, s.CreateTokens(t.Context(), uia.Token{Value: "new"}))
	require.ErrorIs(t, pass(t, s, "new", "a", epoch.Add(30*time.Second-time.Millisecond)), uia.ErrFull, "a hold is firm until it lapses")
	require.NoError(t, pass(t, s, "new", "a", epoch.Add(30*time.Second)))
}

// TestOnlyOpenRecordsGiveWay keeps what is running, in doubt or finished.
func TestOnlyOpenRecordsGiveWay(t *testing.T) {
	ctx, s := t.Context(), memstore.New(&memstore.Options{MaxSessions: 8})
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t"}))
	for _, session := range []string{"running", "doubt", "done", "open"} {
		require.NoError(t, pass(t, s, "t", session, epoch))
	}
	next := func(session string, state uia.RecordState) {
		require.NoError(t, save(ctx, s, uia.Record{Key: session, Revision: 1, State: state, Expires: epoch.Add(2 * time.Hour)}, epoch))
	}
	next("running", uia.Running)
	next("done", uia.Done)
	require.NoError(t, s.Pin(ctx, uia.Claim{Token: "t", Session: "doubt", Run: 2}, epoch))
	later := epoch.Add(time.Minute)
	for i := range 3 {
		require.NoError(t, pass(t, s, "t", fmt.Sprint(i), later.Add(time.Duration(i)*time.Minute)))
	}
	for _, session := range []string{"running", "doubt", "done"} {
		_, err := s.LoadSession(ctx, session, later)
		assert.NoError(t, err, session)
	}
	_, err := s.LoadSession(ctx, "open", later)
	assert.ErrorIs(t, err, uia.ErrNotFound)
}
