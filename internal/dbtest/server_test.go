package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/testenv"
	"github.com/matrix-uia/uia/sqlstore"
)

// ownServer starts a server for one test, which may do with it what it likes.
func ownServer(t testing.TB, params ...string) *Server {
	t.Helper()
	s, err := NewServer(params...)
	needPostgres(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

// database makes a database on a server and returns its name.
func (s *Server) database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("uia_%d", databases.Add(1))
	db, err := sql.Open("pgx", s.URL("postgres"))
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name)
	require.NoError(t, err)
	return name
}

// on is a backend on this server.
func (s *Server) on(driver string, params ...string) backend {
	b := onPostgres(driver)
	b.dsn = func(t testing.TB) string {
		return s.URL(s.database(t), append(driverParams(driver), params...)...)
	}
	return b
}

// TestServerKilled crashes PostgreSQL under load, again and again.
func TestServerKilled(t *testing.T) {
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			s := ownServer(t, "fsync=off")
			f := newFarm(t, s.on(driver), farmOptions{workers: 2, leaseTTL: 2 * leaseTTL, apart: driver == "pgx"})
			f.fickle = true
			allowed := f.load(12, func(ctx context.Context) {
				for range size(20, 2) {
					assert.NoError(t, wait(ctx, 300*time.Millisecond+rand.N(500*time.Millisecond)))
					require.NoError(t, s.Stop("immediate"))
					assert.NoError(t, wait(ctx, rand.N(300*time.Millisecond)))
					require.NoError(t, s.Start())
				}
				assert.NoError(t, wait(ctx, 300*time.Millisecond))
			})
			f.recover()
			f.check(allowed)
			f.log()
		})
	}
}

// TestFailover kills a primary under load and promotes its synchronous standby.
func TestFailover(t *testing.T) {
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			for range size(5, 1) {
				primary := ownServer(t, "fsync=off")
				standby, err := primary.NewStandby("standby", "fsync=off")
				require.NoError(t, err)
				t.Cleanup(func() { assert.NoError(t, standby.Close()) })
				ctx := t.Context()
				admin, err := sql.Open("pgx", primary.URL("postgres"))
				require.NoError(t, err)
				for _, q := range []string{`ALTER SYSTEM SET synchronous_standby_names = 'standby'`, `SELECT pg_reload_conf()`} {
					_, err = admin.ExecContext(ctx, q)
					require.NoError(t, err)
				}
				synchronous := func() bool {
					var n int
					err := admin.QueryRowContext(ctx, `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`).Scan(&n)
					return err == nil && n == 1
				}
				require.NoError(t, testenv.Poll(ctx, synchronous, nil))
				require.NoError(t, admin.Close())

				b := onPostgres(driver)
				dsn := fmt.Sprintf("host=%s,%s port=%d,%d user=%s dbname=%s sslmode=disable target_session_attrs=read-write",
					primary.socket(), standby.socket(), primary.Port, standby.Port, superuser, primary.database(t))
				if driver == "postgres" {
					dsn += " binary_parameters=yes"
				}
				f := newFarm(t, b, farmOptions{workers: 2, leaseTTL: 2 * leaseTTL, dsn: dsn})
				allowed := f.load(12, func(ctx context.Context) {
					assert.NoError(t, wait(ctx, time.Second))
					require.NoError(t, primary.Stop("immediate"))
					assert.NoError(t, wait(ctx, rand.N(300*time.Millisecond)))
					require.NoError(t, standby.Promote())
					assert.NoError(t, wait(ctx, time.Second))
				})
				f.recover()
				f.check(allowed)
				f.log()
			}
		})
	}
}

// TestPgBouncer runs the kit and the race of processes through transaction
// pooling.
func TestPgBouncer(t *testing.T) {
	s := ownServer(t, "fsync=off")
	bouncer, err := NewBouncer(s)
	if errors.Is(err, ErrNoPgBouncer) {
		testenv.Need(t, err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, bouncer.Close()) })
	for driver, param := range map[string]string{"pgx": "default_query_exec_mode=exec", "postgres": "binary_parameters=yes"} {
		b := backend{name: driver, driver: driver, dialect: sqlstore.PostgreSQL, dsn: func(t testing.TB) string {
			return bouncer.URL(s.database(t), param)
		}}
		t.Run(driver+"/kit", b.kit)
		t.Run(driver+"/race", func(t *testing.T) {
			newFarm(t, b, farmOptions{workers: 4}).race(t, size(210, 12))
		})
	}
}

// TestSerializable runs the race of processes where every transaction is
// serializable unless it says otherwise, and shows that there was something to
// try again.
func TestSerializable(t *testing.T) {
	s := ownServer(t, "fsync=off", "default_transaction_isolation=serializable")
	for _, driver := range []string{"pgx", "postgres"} {
		t.Run(driver, func(t *testing.T) {
			before := s.logged(t, "could not serialize access")
			newFarm(t, s.on(driver), farmOptions{workers: 4}).race(t, size(210, 21))
			n := s.logged(t, "could not serialize access") - before
			assert.Positive(t, n)
			t.Logf("%d transactions were given up and tried again", n)
		})
	}
}

// logged counts what the server has logged.
func (s *Server) logged(t testing.TB, text string) int {
	log, err := os.ReadFile(filepath.Join(s.Dir, "log"))
	require.NoError(t, err)
	return bytes.Count(log, []byte(text))
}
