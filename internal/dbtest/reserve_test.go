package dbtest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

var t0 = time.UnixMilli(1_700_000_000_000).UTC()

// TestReserveStorm lets clients race for tokens, with holds that have lapsed in
// the way, and checks that exactly as many uses are handed out as allowed.
func TestReserveStorm(t *testing.T) {
	for _, b := range append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'")) {
		t.Run(b.name, func(t *testing.T) {
			_, s := b.fresh(t)
			ctx := t.Context()
			const clients = 64
			for round := range size(60, 12) {
				allowed := []int64{1, 3, 50}[round%3]
				lapsed := int64(round%2) * min(allowed, 7)
				token := fmt.Sprintf("t%d", round)
				require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: token, UsesAllowed: &allowed, Created: t0}))
				for i := range lapsed {
					err := s.Reserve(ctx, uia.Hold{Token: token, Session: fmt.Sprint("old", i), Until: t0.Add(time.Second)}, t0)
					require.NoError(t, err)
				}
				now := t0.Add(time.Minute)
				won := make([]bool, clients)
				var wg sync.WaitGroup
				start := make(chan struct{})
				for i := range clients {
					wg.Go(func() {
						<-start
						// Two calls for each session, which must take one use.
						session := fmt.Sprint("s", i/2)
						err := s.Reserve(ctx, uia.Hold{Token: token, Session: session, Until: now.Add(time.Minute)}, now)
						if errors.Is(err, uia.ErrExhausted) || errors.Is(err, uia.ErrSpent) {
							return // another's, or the other call of this session was quicker
						}
						assert.NoError(t, err)
						tok, err := s.Token(ctx, token, now)
						if assert.NoError(t, err) {
							assert.LessOrEqual(t, tok.Pending+tok.Completed, allowed)
							assert.GreaterOrEqual(t, tok.Pending+tok.Completed, int64(1))
						}
						err = s.Pin(ctx, uia.Claim{Token: token, Session: session, Run: 1}, now)
						if err == nil {
							err = s.Commit(ctx, uia.Claim{Token: token, Session: session, Run: 1}, "@"+session, now)
						}
						if !errors.Is(err, uia.ErrSpent) {
							assert.NoError(t, err)
						}
						won[i] = true
					})
				}
				close(start)
				wg.Wait()
				sessions := map[int]bool{}
				for i, w := range won {
					if w {
						sessions[i/2] = true
					}
				}
				want := min(allowed, clients/2)
				assert.EqualValues(t, want, len(sessions))
				tok, err := s.Token(ctx, token, now)
				require.NoError(t, err)
				assert.Equal(t, want, tok.Completed)
				assert.Zero(t, tok.Pending)
				page, err := s.ListUses(ctx, uia.UseQuery{Token: token, Limit: 1000})
				require.NoError(t, err)
				assert.LessOrEqual(t, int64(len(page.Uses)), allowed)
			}
		})
	}
}
