// Package dbtest tests package sqlstore on real drivers and real servers: SQLite
// through modernc.org/sqlite and github.com/mattn/go-sqlite3, PostgreSQL through
// pgx and lib/pq. It is a module of its own, so that whoever imports uia inherits
// none of the drivers.
//
// PostgreSQL is a private cluster in a temporary folder, reached through a unix
// socket and gone after the run, made from the binaries found on PATH, in
// `pg_config --bindir` or under /usr/lib/postgresql. UIA_TEST_POSTGRES names a
// server to use instead: the DSN, in URL form, of a role that may create
// databases. Where there is no PostgreSQL its tests are skipped, and with CI=true
// they fail.
//
// The long tests run at about a tenth of their size. The full size:
//
//	UIA_FULL=1 go test -race -timeout 150m ./internal/dbtest/
package dbtest
