package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the statements that make the tables, for a host that runs
// its own migration tool: files named 0001_init.sql and so on, to be run in this
// order. They only go forward, and running one again changes nothing; on SQLite one
// that adds a column then fails. In each a statement ends with a semicolon at the end
// of a line.
//
// The error says that the dialect is not one of the constants.
func Migrations(dialect Dialect) (fs.FS, error) {
	dir := map[Dialect]string{SQLite: "sqlite", PostgreSQL: "postgres"}[dialect]
	if dir == "" {
		return nil, fmt.Errorf("sqlstore: %v is no dialect", dialect)
	}
	return fs.Sub(migrations, path.Join("migrations", dir))
}

// Migrate makes the tables, or brings them up to date. It may be called at every
// start, and by many processes at once. All table names begin with uia_.
//
// A database that is up to date is only read. A newer one, which a later version
// of this package made, is left as it is.
func (s *Store) Migrate(ctx context.Context) error {
	migrations, err := Migrations(s.dialect)
	if err != nil {
		return err
	}
	files, err := fs.ReadDir(migrations, ".")
	if err != nil {
		return err
	}
	done, err := s.applied(ctx)
	if err != nil {
		return fmt.Errorf("sqlstore: %w", err)
	}
	for _, file := range files {
		number, _, _ := strings.Cut(file.Name(), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("sqlstore: migration %s: %w", file.Name(), err)
		}
		if slices.Contains(done, version) {
			continue
		}
		text, err := fs.ReadFile(migrations, file.Name())
		if err != nil {
			return err
		}
		if err := s.apply(ctx, version, string(text)); err != nil {
			return fmt.Errorf("sqlstore: migration %s: %w", file.Name(), err)
		}
	}
	return nil
}

// applied returns the versions of the migrations that the database has had. It makes the
// table of versions if there is none.
func (s *Store) applied(ctx context.Context) (versions []int64, err error) {
	list := func() error {
		versions = nil
		return s.read(ctx, func(c conn) error {
			return c.each(ctx, `SELECT version FROM uia_migrations`, nil, func(row scanner) error {
				var v int64
				err := row.Scan(&v)
				versions = append(versions, v)
				return err
			})
		})
	}
	// Reading first lets a role without the right to make tables start. In a caller's
	// transaction on PostgreSQL reading a missing table would end the transaction.
	if s.state(ctx) == nil {
		if err := list(); err == nil {
			return versions, nil
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	for try := 1; ; try++ {
		err := s.write(ctx, func(c conn) error {
			_, err := c.exec(ctx, `CREATE TABLE IF NOT EXISTS uia_migrations (version BIGINT PRIMARY KEY, applied BIGINT NOT NULL)`)
			return err
		})
		if err == nil {
			return versions, list()
		}
		// On PostgreSQL two processes can create the table at the same moment in spite of
		// IF NOT EXISTS. One of them gets one of these errors, and finds the table when
		// it looks again.
		switch sqlState(err) {
		case "23505", "42P07", "42710", "XX000":
			if try < maxTries && s.state(ctx) == nil {
				continue
			}
		}
		return nil, err
	}
}

// apply runs one migration. Inserting the version is the lock: another process that
// inserts the same version waits at the primary key until this transaction has committed
// all of its tables or has been rolled back.
func (s *Store) apply(ctx context.Context, version int64, text string) error {
	return s.atomic(ctx, func(ctx context.Context, c conn) error {
		n, err := c.exec(ctx, `INSERT INTO uia_migrations (version, applied) VALUES ($1, $2) ON CONFLICT (version) DO NOTHING`,
			version, ms(time.Now()))
		if err != nil || n == 0 {
			return err
		}
		for _, statement := range statements(text) {
			if _, err := c.exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// statements splits a migration, because not every driver runs more than one
// statement at a time.
func statements(text string) []string {
	var list []string
	var statement strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "--") {
			continue
		}
		statement.WriteString(line)
		if strings.HasSuffix(strings.TrimSpace(line), ";") {
			list = append(list, strings.TrimSpace(statement.String()))
			statement.Reset()
		}
	}
	return list
}
