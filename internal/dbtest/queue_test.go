package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// queueHost is a homeserver that serialises its writes to SQLite by a queue of its
// own, and so may read before it writes.
type queueHost struct {
	db   *sql.DB
	turn chan struct{}
}

func (h *queueHost) lock(ctx context.Context) (func(), error) {
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// write is a login, say: it counts the devices and adds one.
func (h *queueHost) write(ctx context.Context, user string) error {
	unlock, err := h.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	tx, err := h.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var devices int
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM devices WHERE user = $1`, user).Scan(&devices); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO devices (user, device) VALUES ($1, $2)`, user, devices); err != nil {
		return err
	}
	return tx.Commit()
}

// writes makes n of them from four clients, and returns how many failed.
func (h *queueHost) writes(ctx context.Context, n int) (failed int64) {
	var count atomic.Int64
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := range n / 4 {
				if h.write(ctx, fmt.Sprint("user", c, "-", i%100)) != nil {
					count.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return count.Load()
}

// TestQueue has a host that reads before it writes, and registrations beside it.
// None of the host's writes fails, and together the two take no longer than one
// after the other.
func TestQueue(t *testing.T) {
	for _, driver := range []string{"sqlite", "sqlite3"} {
		t.Run(sqlite(driver).name, func(t *testing.T) {
			ctx := t.Context()
			db, err := sql.Open(driver, sqliteDSN(driver, filepath.Join(t.TempDir(), "uia.db")))
			require.NoError(t, err)
			t.Cleanup(func() { db.Close() })
			db.SetMaxIdleConns(16)
			host := &queueHost{db, make(chan struct{}, 1)}
			s, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Queue(host.lock))
			require.NoError(t, err)
			require.NoError(t, s.Migrate(ctx))
			for _, q := range []string{accountsTable, `CREATE TABLE devices (user TEXT, device INTEGER, PRIMARY KEY (user, device))`} {
				_, err := db.ExecContext(ctx, q)
				require.NoError(t, err)
			}
			register := storeWork(s)
			var n atomic.Int64
			registrations := func(each int) {
				var wg sync.WaitGroup
				for c := range 4 {
					wg.Go(func() {
						for range each {
							assert.NoError(t, register(ctx, c, n.Add(1)))
						}
					})
				}
				wg.Wait()
			}
			for c := range 4 {
				require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: fmtClient(c)}))
			}
			// In short turns, so that a busy moment of the machine meets all of them.
			var alone, together latencies
			var failed int64
			for range 10 { // ten thousand writes at full size
				writes, each := size(500, 50), size(50, 5)
				alone.time(func() {
					failed += host.writes(ctx, writes)
					registrations(each)
				})
				together.time(func() {
					var wg sync.WaitGroup
					wg.Go(func() { registrations(each) })
					failed += host.writes(ctx, writes)
					wg.Wait()
				})
			}
			assert.Zero(t, failed, "writes of the host that failed")
			t.Logf("%d writes of the host and %d registrations: %v one after the other, %v together", size(500, 50), size(200, 20), &alone, &together)
			if timed {
				assert.Less(t, together.at(0.5), alone.at(0.5)*3/2)
			}
		})
	}
}

// TestQueueTurnTaken calls the store with the host's turn in the queue taken: that
// ends in an error that says why.
func TestQueueTurnTaken(t *testing.T) {
	t.Parallel() // it waits for 15 seconds
	db, err := sql.Open("sqlite", sqliteDSN("sqlite", filepath.Join(t.TempDir(), "uia.db")))
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	host := &queueHost{db, make(chan struct{}, 1)}
	s, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Queue(host.lock))
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	unlock, err := host.lock(t.Context())
	require.NoError(t, err)
	defer unlock()
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	assert.ErrorIs(t, s.CreateTokens(short, uia.Token{Value: "t"}), context.DeadlineExceeded)
	assert.ErrorContains(t, s.CreateTokens(t.Context(), uia.Token{Value: "t"}), "by a host that has its turn in Queue")
	// Who has a transaction of his own takes no turn.
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	assert.NoError(t, s.CreateTokens(s.WithTx(t.Context(), tx), uia.Token{Value: "t"}))
	require.NoError(t, tx.Commit())
}
