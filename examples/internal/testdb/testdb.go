// Package testdb gives tests PostgreSQL databases. The server is one of their
// own, or the one that UIA_TEST_POSTGRES names; see internal/dbtest.
package testdb

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/dbtest"
	"github.com/matrix-uia/uia/internal/testenv"
)

// server is the one server of a test run, started when a test first needs it.
var server struct {
	once sync.Once
	own  *dbtest.Server // nil: not ours
	url  func(database string) string
	err  error
}

func start() {
	if dsn := os.Getenv("UIA_TEST_POSTGRES"); dsn != "" {
		base, err := url.Parse(dsn)
		server.err = err
		server.url = func(database string) string {
			u := *base
			u.Path = "/" + database
			return u.String()
		}
		return
	}
	// Without fsync, because no test cuts the power.
	server.own, server.err = dbtest.NewServer("fsync=off")
	server.url = func(database string) string { return server.own.URL(database) }
}

// Main is for a TestMain: it runs the tests, stops the server and returns the
// exit code.
func Main(m *testing.M) int {
	code := m.Run()
	if server.own != nil {
		if err := server.own.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	return code
}

var databases atomic.Int64

// PostgreSQL makes an empty database for one test and returns its URL. Where there
// is no PostgreSQL it skips the test, or fails it if CI is true.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	server.once.Do(start)
	if errors.Is(server.err, dbtest.ErrNoPostgres) {
		testenv.Need(t, server.err)
	}
	require.NoError(t, server.err)
	name := fmt.Sprintf("uia_example_%d_%d", os.Getpid(), databases.Add(1))
	administer(t, "CREATE DATABASE "+name)
	t.Cleanup(func() { administer(t, "DROP DATABASE "+name+" WITH (FORCE)") })
	return server.url(name)
}

func administer(t testing.TB, statement string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, server.url("postgres"))
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	require.NoError(t, err)
}
