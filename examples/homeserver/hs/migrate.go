package hs

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/matrix-uia/uia/sqlstore"
)

// migrations change the homeserver's own tables, in the order of their names.
// One that has been released is never edited: what is to change is a new file.
//
//go:embed migrations/*.sql
var migrations embed.FS

// migrate makes the tables of the store and of the homeserver, or brings them up
// to date. Any number of processes may do so at once.
func migrate(ctx context.Context, store *sqlstore.Store) error {
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	for try := 1; ; try++ {
		err := store.InTx(ctx, func(ctx context.Context) error { return applyMigrations(ctx, store) })
		// Of two processes that find a PostgreSQL database empty at the same time, one
		// gets an error in spite of IF NOT EXISTS. It finds the tables when it looks again.
		if err == nil || try == 3 {
			return err
		}
	}
}

// applyMigrations applies those migrations that have not been. Both databases can
// make tables in a transaction, so that a migration is there whole or not at all.
func applyMigrations(ctx context.Context, store *sqlstore.Store) error {
	tx, ok := store.Tx(ctx)
	if !ok {
		return errors.New("hs: migrations need a transaction")
	}
	_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migrations (name TEXT NOT NULL PRIMARY KEY, applied BIGINT NOT NULL)`)
	if err != nil {
		return err
	}
	files, err := migrations.ReadDir("migrations")
	if err != nil {
		return err
	}
	for _, file := range files {
		// The name is also the lock: another process that inserts it waits here until
		// this transaction is over.
		res, err := tx.ExecContext(ctx, `INSERT INTO migrations (name, applied) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			file.Name(), time.Now().UnixMilli())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			continue
		}
		statements, err := migrations.ReadFile(path.Join("migrations", file.Name()))
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
			return fmt.Errorf("hs: migration %s: %w", file.Name(), err)
		}
	}
	return nil
}
