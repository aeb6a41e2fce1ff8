package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestNew refuses what cannot be safe, at once and with a reason.
func TestNew(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		driver, dsn string
		dialect     sqlstore.Dialect
		says        string // empty: accepted
	}{
		{"pgx", "postgres:///none", 0, "unknown dialect 0"},
		{"pgx", "postgres:///none", sqlstore.PostgreSQL, ""}, // it connects when it is used
		{"sqlite", "file:" + dir + "/a.db", sqlstore.SQLite, "busy timeout is zero"},
		{"sqlite3", "file:" + dir + "/a.db?_busy_timeout=0", sqlstore.SQLite, "busy timeout is zero"},
		{"sqlite", "file:" + dir + "/b.db?_pragma=busy_timeout(1)&_pragma=journal_mode(MEMORY)", sqlstore.SQLite, "journal is in memory"},
		{"sqlite3", "file:" + dir + "/b.db?_busy_timeout=1&_journal_mode=OFF", sqlstore.SQLite, "journal mode is off"},
		{"sqlite", "file:" + dir + "/c.db?_pragma=busy_timeout(1)", sqlstore.SQLite, ""},
		{"sqlite3", ":memory:", sqlstore.SQLite, ""},
	} {
		db, err := sql.Open(c.driver, c.dsn)
		require.NoError(t, err)
		_, err = sqlstore.New(db, c.dialect)
		if c.says == "" {
			assert.NoError(t, err, c.dsn)
		} else {
			assert.ErrorContains(t, err, c.says, c.dsn)
		}
		db.Close()
	}
	_, err := sqlstore.New(nil, sqlstore.SQLite)
	assert.Error(t, err)
	_, err = sqlstore.Migrations(0)
	assert.ErrorContains(t, err, "Dialect(0) is no dialect")
}

// TestInTx shows what joins a transaction and what becomes of it.
func TestInTx(t *testing.T) {
	for _, b := range append(backends(), sqlite("sqlite").oneConn(), onPostgres("pgx").oneConn()) {
		t.Run(b.name, func(t *testing.T) {
			db, s := b.fresh(t)
			ctx := t.Context()
			_, err := db.ExecContext(ctx, accountsTable)
			require.NoError(t, err)
			account := func(ctx context.Context, key string) {
				tx, ok := s.Tx(ctx)
				require.True(t, ok)
				_, err := tx.ExecContext(ctx, `INSERT INTO accounts (key) VALUES ($1)`, key)
				require.NoError(t, err)
			}
			accounts := func() (n int) {
				require.NoError(t, db.QueryRowContext(ctx, `SELECT count(*) FROM accounts`).Scan(&n))
				return n
			}
			_, ok := s.Tx(ctx)
			assert.False(t, ok)

			require.NoError(t, s.InTx(ctx, func(ctx context.Context) error {
				account(ctx, "a")
				outer, _ := s.Tx(ctx)
				require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "a"}))
				return s.InTx(ctx, func(ctx context.Context) error { // joins
					inner, _ := s.Tx(ctx)
					assert.Same(t, outer, inner)
					_, err := s.Token(ctx, "a", t0) // sees what is not committed yet
					return err
				})
			}))
			assert.Equal(t, 1, accounts())

			failure := errors.New("failure")
			err = s.InTx(ctx, func(ctx context.Context) error {
				account(ctx, "b")
				require.NoError(t, s.DeleteToken(ctx, "a"))
				return failure
			})
			assert.Same(t, failure, err, "an error of fn is returned as it is")
			assert.Panics(t, func() {
				_ = s.InTx(ctx, func(ctx context.Context) error {
					account(ctx, "c")
					panic("panic")
				})
			})
			assert.Equal(t, 1, accounts())
			_, err = s.Token(ctx, "a", t0)
			assert.NoError(t, err)

			// What the database gives up is run again, all of it; other errors are not.
			runs := 0
			busy := func() error {
				runs++
				if b.dialect == sqlstore.SQLite {
					return errors.New("database is locked")
				}
				return stateError("40001")
			}
			require.NoError(t, s.InTx(ctx, func(ctx context.Context) error {
				account(ctx, "d")
				if runs < 3 {
					return busy()
				}
				return nil
			}))
			assert.Equal(t, 3, runs)
			assert.Equal(t, 2, accounts())
			err = s.InTx(ctx, func(ctx context.Context) error { return busy() })
			assert.Error(t, err, "it gives up in the end")
			assert.Less(t, runs, 100)

			// A transaction that the host began: nothing is tried again in it.
			tx, err := db.BeginTx(ctx, nil)
			require.NoError(t, err)
			joined := s.WithTx(ctx, tx)
			account(joined, "e")
			runs = 0
			require.Error(t, s.InTx(joined, func(ctx context.Context) error { return busy() }))
			assert.Equal(t, 1, runs)
			require.NoError(t, s.DeleteToken(joined, "a"))
			require.NoError(t, tx.Rollback())
			_, err = s.Token(ctx, "a", t0)
			assert.NoError(t, err)
		})
	}
}

type stateError string

func (e stateError) Error() string    { return string(e) }
func (e stateError) SQLState() string { return string(e) }

// TestOtherContext calls the store inside a transaction with a context that does
// not carry it. It has to wait, and must not wait for ever.
func TestOtherContext(t *testing.T) {
	_, s := sqlite("sqlite").fresh(t)
	ctx := t.Context()
	require.NoError(t, s.InTx(ctx, func(context.Context) error {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		assert.ErrorIs(t, s.CreateTokens(short, uia.Token{Value: "t"}), context.DeadlineExceeded)
		return nil
	}))
}

// TestFair has 16 clients register and one create tokens, in one process on one
// SQLite file: nobody waits long.
func TestFair(t *testing.T) {
	for _, driver := range []string{"sqlite", "sqlite3"} {
		b := sqlite(driver)
		t.Run(b.name, func(t *testing.T) {
			db, s := b.fresh(t)
			db.SetMaxOpenConns(20)
			ctx := t.Context()
			_, err := db.ExecContext(ctx, accountsTable)
			require.NoError(t, err)
			var clients, creator latencies
			w := storeWork(s)
			done := make(chan struct{})
			var wg sync.WaitGroup
			for c := range 16 {
				require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: fmtClient(c)}))
				wg.Go(func() {
					for i := range size(500, 50) {
						clients.time(func() { assert.NoError(t, w(ctx, c, int64(c*100000+i))) })
					}
				})
			}
			go func() { wg.Wait(); close(done) }()
			for i := 0; ; i++ {
				creator.time(func() {
					assert.NoError(t, s.CreateTokens(ctx, uia.Token{Value: fmtClient(1000 + i), Created: t0}))
				})
				if wait2(done, 2*time.Millisecond) {
					break
				}
			}
			t.Logf("registrations: %v; creating tokens: %v", &clients, &creator)
			// With the race detector, on a busy machine, only starving shows.
			p99, longest := 2*time.Second, 10*time.Second
			if timed {
				p99, longest = 50*time.Millisecond, time.Second
			}
			assert.Less(t, creator.at(0.99), p99)
			assert.Less(t, clients.at(0.99)/3, p99) // it is three calls that wait for the write lock
			assert.Less(t, creator.at(1), longest)
			assert.Less(t, clients.at(1), longest)
		})
	}
}

// TestOneMemoryDatabase shows that a database in memory works with one connection.
func TestOneMemoryDatabase(t *testing.T) {
	for driver, dsn := range map[string]string{"sqlite": "file::memory:?_pragma=busy_timeout(1000)", "sqlite3": ":memory:"} {
		b := backend{name: driver, driver: driver, dialect: sqlstore.SQLite, conns: 1, dsn: func(testing.TB) string { return dsn }}
		_, s := b.fresh(t)
		require.NoError(t, s.CreateTokens(t.Context(), uia.Token{Value: "t"}))
		err := s.Reserve(t.Context(), uia.Hold{Token: "t", Session: "s", Until: t0}, t0)
		require.NoError(t, err)
	}
}

// TestTwoStores has two stores on one file, as two processes would.
func TestTwoStores(t *testing.T) {
	b := sqlite("sqlite")
	dsn := sqliteDSN("sqlite", filepath.Join(t.TempDir(), "a.db"))
	_, one := b.open(t, dsn)
	_, two := b.open(t, dsn)
	ctx := t.Context()
	require.NoError(t, one.Migrate(ctx))
	a, err := one.Secrets(0)(ctx, t0)
	require.NoError(t, err)
	c, err := two.Secrets(0)(ctx, t0)
	require.NoError(t, err)
	assert.Equal(t, a, c)
	require.NoError(t, one.InTx(ctx, func(ctx context.Context) error {
		_, joined := two.Tx(ctx)
		assert.False(t, joined, "a transaction belongs to one store")
		return nil
	}))
}
