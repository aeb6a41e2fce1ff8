package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// work is the storage work of one registration, with one token per client.
type work func(ctx context.Context, client int, n int64) error

// storeWork is what the engine does for a registration of one stage.
func storeWork(s *sqlstore.Store) work {
	data := make([]byte, 400)
	return func(ctx context.Context, client int, n int64) error {
		now := t0
		token, key := fmt.Sprint("client", client), fmt.Sprintf("register.%043d", n)
		if _, err := s.LoadSession(ctx, key, now); !errors.Is(err, uia.ErrNotFound) {
			return fmt.Errorf("there is a session already: %w", err)
		}
		if _, err := s.Token(ctx, token, now); err != nil {
			return err
		}
		claim := uia.Claim{Token: token, Session: key, Run: 2}
		r := uia.Record{Key: key, State: uia.Running, Run: 2, Owner: "owner", Expires: now.Add(time.Hour), LeaseEnd: now.Add(time.Minute), Data: data}
		var saved uia.Record
		err := s.Group(ctx, func(ctx context.Context) (err error) {
			if err = s.Reserve(ctx, uia.Hold{Token: token, Session: key, Until: now.Add(time.Minute)}, now); err != nil {
				return err
			}
			if saved, err = s.SaveSession(ctx, r, now); err != nil {
				return err
			}
			return s.Pin(ctx, claim, now)
		})
		if err != nil {
			return err
		}
		return s.InTx(ctx, func(ctx context.Context) error {
			tx, _ := s.Tx(ctx)
			if _, err := tx.ExecContext(ctx, `INSERT INTO accounts (key, user_id, token) VALUES ($1, $2, $3)`, key, key, token); err != nil {
				return err
			}
			if err := s.Commit(ctx, claim, "@user:example.org", now); err != nil {
				return err
			}
			saved.State = uia.Done
			_, err := s.SaveSession(ctx, saved, now)
			return err
		})
	}
}

// plainTables are those of somebody who writes it by hand, as existing
// homeservers do: counters on the token, and no trace of who used it.
var plainTables = []string{
	`CREATE TABLE plain_tokens (token VARCHAR(64) PRIMARY KEY, uses_allowed BIGINT, pending BIGINT NOT NULL, completed BIGINT NOT NULL, expires BIGINT)`,
	`CREATE TABLE plain_sessions (key VARCHAR(100) PRIMARY KEY, state INTEGER NOT NULL, data %s NOT NULL, expires BIGINT NOT NULL)`,
	`CREATE INDEX plain_sessions_expires ON plain_sessions (expires)`,
}

// plainWork is the same work as two plain transactions: hold and session; account,
// counters and session. The second one is another request's, which has to read
// the session first, to know what was held. writer queues those of SQLite, as the
// store does: without it they would be slower. Where the store is told to prepare
// its statements, these are prepared too.
func plainWork(t testing.TB, db *sql.DB, dialect sqlstore.Dialect, prepared bool) work {
	const (
		takeUse = `UPDATE plain_tokens SET pending = pending + 1 WHERE token = $1 AND (expires IS NULL OR expires > $2)
			AND pending + completed < uses_allowed`
		createSession = `INSERT INTO plain_sessions (key, state, data, expires) VALUES ($1, 1, $2, $3)`
		createAccount = `INSERT INTO accounts (key, user_id, token) VALUES ($1, $2, $3)`
		spendUse      = `UPDATE plain_tokens SET pending = pending - 1, completed = completed + 1 WHERE token = $1`
		endSession    = `UPDATE plain_sessions SET state = 3, data = $1 WHERE key = $2`
	)
	lockSession := `SELECT data FROM plain_sessions WHERE key = $1 AND state = 1 FOR UPDATE`
	if dialect == sqlstore.SQLite {
		// A transaction that reads first cannot write if another process has.
		lockSession = `UPDATE plain_sessions SET state = 2 WHERE key = $1 AND state = 1 RETURNING data`
	}
	stmts := map[string]*sql.Stmt{}
	if prepared {
		for _, query := range []string{takeUse, createSession, lockSession, createAccount, spendUse, endSession} {
			stmt, err := db.PrepareContext(t.Context(), query)
			require.NoError(t, err)
			t.Cleanup(func() { stmt.Close() })
			stmts[query] = stmt
		}
	}
	data := make([]byte, 400)
	var writer sync.Mutex
	inTx := func(ctx context.Context, statements ...func(*sql.Tx) error) error {
		if dialect == sqlstore.SQLite {
			writer.Lock()
			defer writer.Unlock()
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		for _, f := range statements {
			if err := f(tx); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
	exec := func(ctx context.Context, query string, args ...any) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			run := func() (sql.Result, error) { return tx.ExecContext(ctx, query, args...) }
			if stmt := stmts[query]; stmt != nil {
				run = func() (sql.Result, error) { return tx.StmtContext(ctx, stmt).ExecContext(ctx, args...) }
			}
			res, err := run()
			if err != nil {
				return err
			}
			if n, err := res.RowsAffected(); n != 1 || err != nil {
				return fmt.Errorf("%d rows: %w", n, err)
			}
			return nil
		}
	}
	lock := func(ctx context.Context, key string) func(*sql.Tx) error {
		return func(tx *sql.Tx) error {
			var data []byte
			if stmt := stmts[lockSession]; stmt != nil {
				return tx.StmtContext(ctx, stmt).QueryRowContext(ctx, key).Scan(&data)
			}
			return tx.QueryRowContext(ctx, lockSession, key).Scan(&data)
		}
	}
	return func(ctx context.Context, client int, n int64) error {
		now := t0.UnixMilli()
		token, key := fmt.Sprint("client", client), fmt.Sprintf("register.%043d", n)
		err := inTx(ctx, exec(ctx, takeUse, token, now), exec(ctx, createSession, key, data, now+3600_000))
		if err != nil {
			return err
		}
		return inTx(ctx, lock(ctx, key), exec(ctx, createAccount, key, key, token),
			exec(ctx, spendUse, token), exec(ctx, endSession, data, key))
	}
}

// BenchmarkThroughput reports the throughput of the store's work as a ratio to
// the plain one's, in alternating turns. Unlike in the tests both databases sync.
func BenchmarkThroughput(b *testing.B) {
	server, err := NewServer()
	needPostgres(b, err)
	b.Cleanup(func() { server.Close() })
	backends := []backend{
		{name: "modernc", driver: "sqlite", dialect: sqlstore.SQLite, dsn: func(t testing.TB) string {
			return "file:" + filepath.Join(t.TempDir(), "a.db") + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
		}},
		{name: "mattn", driver: "sqlite3", dialect: sqlstore.SQLite, dsn: func(t testing.TB) string {
			return "file:" + filepath.Join(t.TempDir(), "a.db") + "?_busy_timeout=10000&_journal_mode=WAL&_synchronous=FULL"
		}},
		{name: "pgx", driver: "pgx", dialect: sqlstore.PostgreSQL, dsn: benchDatabase(server)},
		backend{name: "pq", driver: "postgres", dialect: sqlstore.PostgreSQL, dsn: benchDatabase(server, "binary_parameters=yes")}.prepared(),
	}
	for _, be := range backends {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/clients=%d", be.name, clients), func(b *testing.B) {
				db, s := be.fresh(b)
				db.SetMaxIdleConns(clients) // by default database/sql closes all but two after each use
				ctx := b.Context()
				blob := map[sqlstore.Dialect]string{sqlstore.SQLite: "BLOB", sqlstore.PostgreSQL: "BYTEA"}[be.dialect]
				for _, q := range []string{accountsTable, plainTables[0], fmt.Sprintf(plainTables[1], blob), plainTables[2]} {
					_, err := db.ExecContext(ctx, q)
					require.NoError(b, err)
				}
				for i := range clients {
					require.NoError(b, s.CreateTokens(ctx, uia.Token{Value: fmt.Sprint("client", i), UsesAllowed: new(int64(1e9))}))
					_, err := db.ExecContext(ctx, `INSERT INTO plain_tokens VALUES ($1, $2, 0, 0, NULL)`, fmt.Sprint("client", i), int64(1e9))
					require.NoError(b, err)
				}
				var n, failed atomic.Int64
				run := func(w work, rounds int) time.Duration {
					start := time.Now()
					var wg sync.WaitGroup
					for c := range clients {
						wg.Go(func() {
							for range rounds {
								if err := w(ctx, c, n.Add(1)); err != nil {
									b.Error(err)
									failed.Add(1)
									return
								}
							}
						})
					}
					wg.Wait()
					return time.Since(start)
				}
				ours, plain := storeWork(s), plainWork(b, db, be.dialect, be.options != nil)
				run(ours, 5)
				run(plain, 5)
				var a, p []time.Duration
				turn := max(2, 32/clients)
				for b.Loop() {
					if failed.Load() > 0 {
						b.FailNow()
					}
					a = append(a, run(ours, turn))
					p = append(p, run(plain, turn))
				}
				b.ReportMetric(median(p)/median(a), "ratio")
				b.ReportMetric(float64(turn*clients)/median(a), "registrations/s")
			})
		}
	}
}

// median is of many short turns, so that what else the machine does in some of
// them does not count.
func median(turns []time.Duration) float64 {
	slices.Sort(turns)
	return turns[len(turns)/2].Seconds()
}

var benchDatabases atomic.Int64

func benchDatabase(server *Server, params ...string) func(testing.TB) string {
	return func(t testing.TB) string {
		name := fmt.Sprint("bench", benchDatabases.Add(1))
		db, err := sql.Open("pgx", server.URL("postgres"))
		require.NoError(t, err)
		defer db.Close()
		_, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name)
		require.NoError(t, err)
		return server.URL(name, params...)
	}
}
