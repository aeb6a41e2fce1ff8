package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/matrix-uia/uia/internal/testenv"
	"github.com/matrix-uia/uia/sqlstore"
)

// full reports whether the long tests run at their full size.
var full = os.Getenv("UIA_FULL") != ""

// timed reports whether times are asserted that are promised of a machine with
// nothing else to do. Under the race detector a SQLite in Go takes five times as long.
var timed = full && !raceDetector

// size is the size of a long test: about a tenth in CI.
func size(whole, tenth int) int {
	if full {
		return whole
	}
	return tenth
}

func TestMain(m *testing.M) {
	if runWorker() {
		return
	}
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// shared is the one server of a test run, started when a test first needs it.
var shared struct {
	once   sync.Once
	server *Server
	url    func(database string, params ...string) string
	err    error
}

// postgres returns what makes the DSN of a database on the shared server.
func postgres(t testing.TB) func(database string, params ...string) string {
	t.Helper()
	shared.once.Do(func() {
		if dsn := os.Getenv("UIA_TEST_POSTGRES"); dsn != "" {
			shared.url, shared.err = existing(dsn)
			return
		}
		// Without fsync, because no test cuts the power: what a killed server has
		// written the kernel keeps.
		shared.server, shared.err = NewServer("fsync=off", "max_prepared_transactions=0")
		if shared.err == nil {
			shared.url = shared.server.URL
		}
	})
	needPostgres(t, shared.err)
	return shared.url
}

// needPostgres skips the test where there is no PostgreSQL, and fails it in CI.
func needPostgres(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNoPostgres) {
		testenv.Need(t, err)
	}
	require.NoError(t, err)
}

func existing(dsn string) (func(string, ...string) string, error) {
	base, err := url.Parse(dsn)
	if err != nil {
		return nil, err
	}
	return func(database string, params ...string) string {
		u := *base
		u.Path = "/" + database
		q := u.Query()
		for _, p := range params {
			name, value, _ := strings.Cut(p, "=")
			q.Set(name, value)
		}
		u.RawQuery = q.Encode()
		return u.String()
	}, nil
}

var databases atomic.Int64

// postgresDatabase makes a database for one test and returns its name.
func postgresDatabase(t testing.TB, settings ...string) string {
	t.Helper()
	dsn := postgres(t)
	name := fmt.Sprintf("uia_test_%d_%d", os.Getpid(), databases.Add(1))
	admin, err := sql.Open("pgx", dsn("postgres"))
	require.NoError(t, err)
	defer admin.Close()
	ctx := context.WithoutCancel(t.Context())
	_, err = admin.ExecContext(ctx, "CREATE DATABASE "+name)
	require.NoError(t, err)
	for _, s := range settings {
		_, err = admin.ExecContext(ctx, "ALTER DATABASE "+name+" SET "+s)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		admin, err := sql.Open("pgx", dsn("postgres"))
		if err == nil {
			defer admin.Close()
			_, err = admin.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
		}
		if err != nil {
			t.Log(err)
		}
	})
	return name
}

// backend is a driver and how to reach a fresh database with it.
type backend struct {
	name    string
	driver  string
	dialect sqlstore.Dialect
	dsn     func(t testing.TB) string
	conns   int // the pool's size; zero means 16
	options []sqlstore.Option
}

// sqliteDSN are the settings that package sqlstore documents, in either driver's
// spelling. Without fsync, as with PostgreSQL.
func sqliteDSN(driver, file string) string {
	if driver == "sqlite" {
		return "file:" + file + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)"
	}
	return "file:" + file + "?_busy_timeout=10000&_journal_mode=WAL&_synchronous=OFF"
}

func sqlite(driver string) backend {
	name := map[string]string{"sqlite": "modernc", "sqlite3": "mattn"}[driver]
	return backend{name: name, driver: driver, dialect: sqlstore.SQLite, dsn: func(t testing.TB) string {
		return sqliteDSN(driver, filepath.Join(t.TempDir(), "uia.db"))
	}}
}

// onPostgres is a backend on the shared server; settings are the database's, such
// as "default_transaction_isolation = 'serializable'".
func onPostgres(driver string, settings ...string) backend {
	name := []string{map[string]string{"pgx": "pgx", "postgres": "pq"}[driver]}
	for _, s := range settings {
		_, value, _ := strings.Cut(s, " = ")
		name = append(name, strings.ReplaceAll(strings.Trim(value, "'"), " ", "-"))
	}
	return backend{name: strings.Join(name, "-"), driver: driver, dialect: sqlstore.PostgreSQL, dsn: func(t testing.TB) string {
		return postgres(t)(postgresDatabase(t, settings...), driverParams(driver)...)
	}}
}

// driverParams are the settings that package sqlstore documents.
func driverParams(driver string) []string {
	if driver == "postgres" {
		return []string{"binary_parameters=yes"}
	}
	return nil
}

// backends are all drivers as a homeserver would use them.
func backends() []backend {
	return []backend{sqlite("sqlite"), sqlite("sqlite3"), onPostgres("pgx"), onPostgres("postgres")}
}

func (b backend) oneConn() backend {
	b.name += "-one-connection"
	b.conns = 1
	return b
}

func (b backend) prepared() backend {
	b.name += "-prepared"
	b.options = []sqlstore.Option{sqlstore.PrepareStatements()}
	return b
}

// open opens a database that is there.
func (b backend) open(t testing.TB, dsn string) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db, err := sql.Open(b.driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	n := b.conns
	if n == 0 {
		n = 16
	}
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	s, err := sqlstore.New(db, b.dialect, b.options...)
	require.NoError(t, err)
	return db, s
}

// fresh makes a database with its tables.
func (b backend) fresh(t testing.TB) (*sql.DB, *sqlstore.Store) {
	t.Helper()
	db, s := b.open(t, b.dsn(t))
	require.NoError(t, s.Migrate(t.Context()))
	return db, s
}
