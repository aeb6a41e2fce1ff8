package hs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/matrix-uia/uia/sqlstore"
)

// sqliteSettings hold for every connection to a SQLite database.
const sqliteSettings = "?_txlock=immediate" + // a transaction that reads and then writes would fail when another has written meanwhile
	"&_pragma=busy_timeout(10000)" + // wait for other processes; without it they fail each other
	"&_pragma=journal_mode(WAL)" + // readers and the writer do not wait for each other
	"&_pragma=synchronous(FULL)" + // the last commit survives a power cut, too, and with it the use of a token
	"&_pragma=foreign_keys(1)"

// maxConns bounds the connections of one process. On SQLite one of them writes.
const maxConns = 16

// openSQLite opens the database in a file.
func openSQLite(ctx context.Context, file string) (*Storage, error) {
	// Nobody else on this machine is to read it. SQLite makes the files beside it
	// with the same permissions.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// As a URL, in which a file may be called "what?.db".
	path := url.URL{Path: filepath.ToSlash(filepath.Clean(file))}
	db, err := sql.Open("sqlite", "file:"+path.EscapedPath()+sqliteSettings)
	if err != nil {
		return nil, err
	}
	return openDatabase(ctx, db, sqlstore.SQLite, file)
}

// openPostgreSQL opens the database at a URL. Behind a proxy that pools
// transactions, such as PgBouncer, it has default_query_exec_mode=exec.
func openPostgreSQL(ctx context.Context, dsn string) (*Storage, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("PostgreSQL database %s on %s", config.Database, config.Host)
	return openDatabase(ctx, stdlib.OpenDB(*config), sqlstore.PostgreSQL, name)
}

// rotation is how long sessions are sealed with the same secret.
const rotation = 24 * time.Hour

// openDatabase keeps everything in one database. That is what lets an account and
// the use of its token be committed together.
func openDatabase(ctx context.Context, db *sql.DB, dialect sqlstore.Dialect, name string) (_ *Storage, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s: %w", name, err), db.Close())
		}
	}()
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	// One store for the whole process: its writers queue on SQLite.
	store, err := sqlstore.New(db, dialect)
	if err != nil {
		return nil, err
	}
	if err := migrate(ctx, store); err != nil {
		return nil, err
	}
	return &Storage{
		Name:     name,
		Tokens:   store,
		Accounts: &sqlAccounts{db: db, store: store},
		Secrets:  store.Secrets(rotation),
		InTx:     store.InTx,
		Close:    db.Close,
	}, nil
}
