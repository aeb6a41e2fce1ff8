package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// Dialect says which kind of database a Store is on. There is no default.
type Dialect int

const (
	SQLite     Dialect = iota + 1 // SQLite 3.35 or later
	PostgreSQL                    // PostgreSQL 12 or later
)

// String returns the dialect's name.
func (d Dialect) String() string {
	switch d {
	case SQLite:
		return "SQLite"
	case PostgreSQL:
		return "PostgreSQL"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

// Store is a [uia.Store] on a database. It may be used from many goroutines, and
// needs no closing: the database handle stays the caller's.
type Store struct {
	db      *sql.DB
	dialect Dialect
	// queue gives its turn to the one goroutine of this Store that writes to SQLite.
	// Without it writers poll for the database's lock in the driver's busy
	// handler, which is not fair: p99 231 to 331 ms for 17 writers, against 16 ms
	// when they queue here.
	queue    func(context.Context) (unlock func(), err error)
	stmts    stmtCache
	prepares bool
}

// Option changes how a Store works.
type Option func(*Store)

// PrepareStatements makes the Store keep the statements of a registration prepared
// on every connection. On SQLite it always does. On PostgreSQL it is for
// github.com/lib/pq, which otherwise has the server parse and plan each statement
// anew; pgx keeps them prepared itself. Behind a proxy that pools transactions a
// prepared statement may be on another server connection than the transaction:
// leave it out there, unless the proxy keeps track of them (PgBouncer with
// max_prepared_statements).
func PrepareStatements() Option { return func(s *Store) { s.prepares = true } }

var (
	_ uia.TxStore = (*Store)(nil)
	_ uia.Grouper = (*Store)(nil)
)

// New returns a Store on db. It refuses a dialect that is not set, and a SQLite
// handle that cannot be safe (see the package's documentation); for that it runs
// a few pragmas on one connection. On PostgreSQL it sends nothing. The tables
// are made by [Store.Migrate].
//
// Make one Store for one database and share it: on SQLite its writers queue with
// each other, but not with those of another Store, nor with a host that does not share
// its [Queue].
func New(db *sql.DB, dialect Dialect, options ...Option) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: no database handle")
	}
	s := &Store{db: db, dialect: dialect, queue: inOrder(), prepares: dialect == SQLite}
	for _, o := range options {
		o(s)
	}
	switch dialect {
	case PostgreSQL:
	case SQLite:
		// The first connection may be the one that changes an empty file to write-ahead
		// logging; while others do the same SQLite says at once that it is locked.
		if err := s.retry(context.Background(), func() error { return checkSQLite(db) }); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("sqlstore: unknown dialect %d: use sqlstore.SQLite or sqlstore.PostgreSQL", int(dialect))
	}
	return s, nil
}

// checkSQLite refuses settings under which SQLite breaks a promise.
func checkSQLite(db *sql.DB) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// One connection for all of them: settings belong to a connection, and a pool
	// may have no second one.
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	defer conn.Close()
	var busy int
	if err := conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&busy); err != nil {
		return fmt.Errorf("sqlstore: reading SQLite's busy timeout: %w", err)
	}
	var errs []error
	if busy <= 0 {
		// Without a busy timeout a writer fails at once when a writer of another process
		// is active.
		errs = append(errs, errors.New("sqlstore: SQLite's busy timeout is zero: set it in the DSN, for every connection "+
			"(_pragma=busy_timeout(5000) with modernc.org/sqlite, _busy_timeout=5000 with github.com/mattn/go-sqlite3)"))
	}
	var file string
	err = conn.QueryRowContext(ctx, "SELECT coalesce(file, '') FROM pragma_database_list WHERE name = 'main'").Scan(&file)
	if err != nil {
		return fmt.Errorf("sqlstore: reading SQLite's file name: %w", err)
	}
	var journal string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		return fmt.Errorf("sqlstore: reading SQLite's journal mode: %w", err)
	}
	switch strings.ToLower(journal) {
	case "off":
		// ROLLBACK is undefined: a refused Reserve could stay half done.
		errs = append(errs, errors.New("sqlstore: SQLite's journal mode is off: use WAL"))
	case "memory":
		// A process that is killed while it writes leaves a broken file. A database
		// that is itself in memory goes with the process.
		if file != "" {
			errs = append(errs, errors.New("sqlstore: SQLite's journal is in memory: use WAL"))
		}
	}
	return errors.Join(errs...)
}
