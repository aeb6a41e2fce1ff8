package dbtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
)

// leaseTTL is how long a lease lasts where processes are killed and stalled.
const leaseTTL = 400 * time.Millisecond

// TestKilled kills worker processes at random moments while they register.
func TestKilled(t *testing.T) {
	mischief(t, size(200, 20), func(w *worker) error {
		w.kill()
		return w.start()
	})
}

// TestStalled stops worker processes at random moments for longer than their
// leases last, so that each comes back after others have taken its work over.
func TestStalled(t *testing.T) {
	mischief(t, size(200, 20), func(w *worker) error {
		w.signal(syscall.SIGSTOP)
		defer w.signal(syscall.SIGCONT)
		return wait(w.f.t.Context(), leaseTTL+rand.N(leaseTTL))
	})
}

// mischief does something to the workers, times times, while clients register:
// with the accounts in the same transaction, and in another database.
func mischief(t *testing.T, times int, harm func(*worker) error) {
	for _, c := range []struct {
		name    string
		backend backend
		options farmOptions
	}{
		{"pgx", onPostgres("pgx"), farmOptions{workers: 4}},
		{"pgx-accounts-apart", onPostgres("pgx"), farmOptions{workers: 4, apart: true}},
		{"pq-clocks-apart", onPostgres("postgres"), farmOptions{workers: 4, skew: time.Second, apart: true}},
		{"modernc", sqlite("sqlite"), farmOptions{workers: 3}},
		{"mattn-accounts-apart", sqlite("sqlite3"), farmOptions{workers: 3, apart: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.leaseTTL = leaseTTL
			f := newFarm(t, c.backend, c.options)
			// What those leave who give up is decided by Recover alone.
			f.fickle = true
			stop := f.watch()
			allowed := f.load(12, func(ctx context.Context) {
				// Two at a time, and never all of them.
				var wg sync.WaitGroup
				for half := range 2 {
					wg.Go(func() {
						for i := range times / 2 {
							w := f.workers[half+2*rand.IntN((len(f.workers)-half+1)/2)]
							assert.NoError(t, wait(ctx, rand.N(60*time.Millisecond)))
							assert.NoError(t, harm(w), "harm %d", i)
						}
					})
				}
				wg.Wait()
			})
			f.recover()
			stop()
			f.check(allowed)
			f.log()
		})
	}
}

// load has n clients register one account after the other while meanwhile runs,
// and lets them finish. It returns the tokens with their limits.
func (f *farm) load(n int, meanwhile func(context.Context)) map[string]int64 {
	var mu sync.Mutex
	var tokens []string
	allowed := map[string]int64{}
	// pick returns a token: mostly one that others use too, sometimes a new one.
	pick := func() (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if len(tokens) > 0 && rand.IntN(4) > 0 {
			return tokens[len(tokens)-1-rand.IntN(min(len(tokens), 5))], nil
		}
		token, limit := fmt.Sprintf("token%d", len(tokens)), []int64{1, 3, 50}[rand.IntN(3)]
		for {
			// Creating again what was created when the database went away is all right.
			err := f.store.CreateTokens(f.t.Context(), uia.Token{Value: token, UsesAllowed: &limit})
			if err == nil || isExists(err) {
				break
			}
			if err := wait(f.t.Context(), 50*time.Millisecond); err != nil {
				return "", err
			}
		}
		tokens, allowed[token] = append(tokens, token), limit
		return token, nil
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				token, err := pick()
				if err == nil {
					_, err = f.register(f.t.Context(), token)
				}
				if !assert.NoError(f.t, err) {
					return
				}
			}
		})
	}
	meanwhile(f.t.Context())
	close(done)
	wg.Wait()
	return allowed
}
