package dbtest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/invites"
	"github.com/matrix-uia/uia/memstore"
)

// TestQuotaRace has a member send 32 requests at once for the last invitation that the
// quota leaves, on every backend: one wins.
func TestQuotaRace(t *testing.T) {
	race := func(t *testing.T, store uia.InviteStore) {
		authenticate := func(*http.Request) (string, error) { return "@alice:test", nil }
		quota := func(context.Context, string) (invites.Quota, error) { return invites.Quota{Live: 3}, nil }
		i, err := invites.New(store, authenticate, quota, nil)
		require.NoError(t, err)
		post := func() int {
			w := httptest.NewRecorder()
			i.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", invites.Path, strings.NewReader("{}")))
			return w.Code
		}
		require.Equal(t, 200, post())
		require.Equal(t, 200, post())
		var mu sync.Mutex
		answers := map[int]int{}
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 32 {
			wg.Go(func() {
				<-start
				code := post()
				mu.Lock()
				defer mu.Unlock()
				answers[code]++
			})
		}
		close(start)
		wg.Wait()
		assert.Equal(t, map[int]int{200: 1, 403: 31}, answers)
	}
	t.Run("memstore", func(t *testing.T) { race(t, memstore.New(nil)) })
	for _, b := range append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'")) {
		t.Run(b.name, func(t *testing.T) {
			_, s := b.fresh(t)
			race(t, s)
		})
	}
}
