package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/matrix-uia/uia/sqlstore"
)

// sqliteSettings hold for every connection: gateways and commands on one file wait for
// each other, and what has been committed survives a power cut.
const sqliteSettings = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"

const maxConns = 16

// openDatabase opens the database and makes its tables. The caller closes db.
func openDatabase(ctx context.Context, name string) (db *sql.DB, store *sqlstore.Store, err error) {
	dialect := sqlstore.SQLite
	if strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://") {
		dialect = sqlstore.PostgreSQL
		db, err = openPostgreSQL(name)
	} else {
		db, err = openSQLite(name)
	}
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	store, err = sqlstore.New(db, dialect)
	if err == nil {
		err = store.Migrate(ctx)
	}
	if err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("database: %w", err)
	}
	return db, store, nil
}

func openPostgreSQL(name string) (*sql.DB, error) {
	config, err := pgx.ParseConfig(name)
	if err != nil {
		return nil, fmt.Errorf("database: the PostgreSQL URL cannot be read") // the cause may have the password
	}
	return stdlib.OpenDB(*config), nil
}

func openSQLite(file string) (*sql.DB, error) {
	// Nobody else on this machine is to read it. SQLite makes the files beside it with the
	// same permissions.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	path := url.URL{Path: filepath.ToSlash(filepath.Clean(file))} // a file may be called "what?.db"
	return sql.Open("sqlite", "file:"+path.EscapedPath()+sqliteSettings)
}
