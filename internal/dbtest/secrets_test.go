package dbtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// at returns what the secrets are at a time.
func at(t *testing.T, secrets uia.Secrets, now time.Time) [][]byte {
	t.Helper()
	all, err := secrets(t.Context(), now)
	require.NoError(t, err)
	return all
}

func TestSecrets(t *testing.T) {
	const every = 24 * time.Hour
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			dsn := b.dsn(t)
			db, store := b.open(t, dsn)
			_, other := b.open(t, dsn)
			_, err := store.Secrets(every)(t.Context(), t0)
			require.ErrorContains(t, err, "has Store.Migrate been called?")
			require.NoError(t, store.Migrate(t.Context()))

			_, err = store.Secrets(time.Minute)(t.Context(), t0)
			require.ErrorContains(t, err, "cannot rotate every 1m0s")
			_, err = store.Secrets(-time.Hour)(t.Context(), t0)
			require.Error(t, err)

			// Processes that start at once agree on the first secret.
			one, two := store.Secrets(every), other.Secrets(every)
			var all sync.WaitGroup
			for i := range 16 {
				all.Go(func() {
					_, err := []uia.Secrets{one, two}[i%2](t.Context(), t0)
					assert.NoError(t, err)
				})
			}
			all.Wait()
			first := at(t, one, t0)
			require.Len(t, first, 1)
			assert.Len(t, first[0], 32)
			assert.Equal(t, first, at(t, two, t0))
			assert.Equal(t, first, at(t, store.Secrets(0), t0.Add(1000*time.Hour)), "it is never replaced without a rotation")

			// The next one is known before anybody seals with it.
			next := t0.Add(every)
			assert.Equal(t, first, at(t, one, next.Add(-10*time.Minute-time.Millisecond)))
			assert.Equal(t, first, at(t, two, next.Add(-10*time.Minute-time.Millisecond)))
			early := next.Add(-9 * time.Minute) // it is late, and so is the rotation
			next = early.Add(10 * time.Minute)
			for i := range 16 {
				all.Go(func() {
					_, err := []uia.Secrets{one, two}[i%2](t.Context(), early)
					assert.NoError(t, err)
				})
			}
			all.Wait()
			both := at(t, one, early)
			require.Len(t, both, 2, "one more, however many made it")
			assert.Equal(t, first[0], both[0], "the old one seals still")
			assert.Equal(t, both, at(t, two, early.Add(5*time.Minute)), "what is known is not trusted for longer")
			assert.Equal(t, both, at(t, one, next.Add(-time.Millisecond)))
			assert.Equal(t, [][]byte{both[1], both[0]}, at(t, one, next))
			assert.Equal(t, [][]byte{both[1], both[0]}, at(t, two, next))

			// The old one opens for as long as a session can last, and is destroyed.
			assert.Equal(t, [][]byte{both[1], both[0]}, at(t, one, next.Add(13*time.Hour-time.Millisecond)))
			assert.Equal(t, [][]byte{both[1]}, at(t, one, next.Add(13*time.Hour+time.Minute)), "the table is read every minute")
			var rows int
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM uia_secrets`).Scan(&rows))
			assert.Equal(t, 1, rows)

			// After days without a request the new one is announced as long before.
			late := next.Add(100 * every)
			after := at(t, one, late)
			require.Len(t, after, 2)
			assert.Equal(t, both[1], after[0])
			assert.Equal(t, both[1], at(t, two, late.Add(10*time.Minute-time.Millisecond))[0])
			assert.Equal(t, after[1], at(t, two, late.Add(10*time.Minute))[0])

			// In a transaction of the caller nothing is made, since it may come to nothing.
			errUndo := errors.New("undo")
			later := late.Add(100 * every)
			require.ErrorIs(t, store.InTx(t.Context(), func(ctx context.Context) error {
				inside, err := one(ctx, later)
				require.NoError(t, err)
				assert.Equal(t, at(t, one, late.Add(10*time.Minute)), inside)
				return errUndo
			}), errUndo)
			require.NoError(t, db.QueryRowContext(t.Context(), `SELECT count(*) FROM uia_secrets`).Scan(&rows))
			assert.Equal(t, 2, rows)

			// Without a database a process goes on for as long as nobody can seal with a
			// secret that it does not know.
			known := at(t, one, later)
			require.NoError(t, db.Close())
			assert.Equal(t, known, at(t, one, later.Add(5*time.Minute-time.Millisecond)))
			_, err = one(t.Context(), later.Add(5*time.Minute))
			require.ErrorContains(t, err, "reading the secrets")
			assert.NotContains(t, err.Error(), string(known[0]))
		})
	}
}

// TestRotation has two processes rotate their secrets, twice and more, while clients
// begin at one of them and go on at the other. The requests tell the processes what time
// it is, so that hours pass in seconds. The sessions of app last for four hours.
func TestRotation(t *testing.T) {
	for _, b := range []backend{sqlite("sqlite"), onPostgres("pgx")} {
		t.Run(b.name, func(t *testing.T) {
			f := newFarm(t, b, farmOptions{workers: 2, rotate: time.Hour})
			f.create(1, 1<<40)
			start := time.Now()
			now := start
			pass := func(d time.Duration) {
				now = now.Add(d)
				f.clock.Store(now.UnixMilli())
			}
			pass(0)
			type client struct{ user, session string }
			begin := func(i int) client {
				user := fmt.Sprintf("u%d", f.clients.Add(1))
				r, err := f.workers[i%2].post(t.Context(), body(user, "token0", ""))
				assert.NoError(t, err)
				assert.Equal(t, http.StatusUnauthorized, r.status, r.Error)
				return client{user, r.Session}
			}
			finish := func(i int, c client) reply {
				r, err := f.workers[i%2].post(t.Context(), body(c.user, "token0", c.session))
				assert.NoError(t, err)
				return r
			}
			last, expired := begin(0), begin(1) // one second before the end, and at the end
			var slow []client                   // those that take their time
			for now.Sub(start) < 4*time.Hour-5*time.Minute {
				pass(3 * time.Minute)
				var all sync.WaitGroup
				var mu sync.Mutex
				for i := range 4 {
					all.Go(func() {
						c := begin(i)
						r := finish(i+1, c)
						assert.Equal(t, http.StatusOK, r.status, "a session of %v: %s", now.Sub(start), r.Error)
						c = begin(i)
						mu.Lock()
						defer mu.Unlock()
						slow = append(slow, c)
					})
				}
				all.Wait()
				if len(slow) > 80 { // begun an hour ago
					for i, c := range slow[:4] {
						r := finish(i+1, c)
						assert.Equal(t, http.StatusOK, r.status, "a slow session at %v: %s", now.Sub(start), r.Error)
					}
					slow = slow[4:]
				}
			}
			pass(start.Add(4*time.Hour - time.Second).Sub(now))
			r := finish(1, last)
			assert.Equal(t, http.StatusOK, r.status, "%+v", r)
			pass(time.Second)
			poll := map[string]any{"auth": map[string]string{"session": expired.session}}
			r, err := f.workers[0].post(t.Context(), poll)
			require.NoError(t, err)
			assert.Equal(t, http.StatusUnauthorized, r.status)
			assert.NotEqual(t, expired.session, r.Session, "its time is over, and another one begins")
			for i, c := range slow {
				assert.Equal(t, http.StatusOK, finish(i, c).status)
			}

			var made, left int64
			count := `SELECT max(number), count(*) FROM uia_secrets`
			require.NoError(t, f.db.QueryRowContext(t.Context(), count).Scan(&made, &left))
			assert.Equal(t, int64(5), made, "secrets in four hours")
			pass(24 * time.Hour)
			assert.Equal(t, http.StatusOK, finish(1, begin(0)).status)
			r = finish(0, expired)
			assert.Equal(t, http.StatusBadRequest, r.status, "the secret that could open it is destroyed")
			assert.Equal(t, "M_UNKNOWN", r.ErrCode)
			require.NoError(t, f.db.QueryRowContext(t.Context(), count).Scan(&made, &left))
			assert.Equal(t, int64(2), left, "the latest, and the one that is announced")
		})
	}
}

var _ uia.Secrets = (*sqlstore.Store)(nil).Secrets(0)
