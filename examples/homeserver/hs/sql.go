package hs

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/matrix-uia/uia/sqlstore"
)

// sqlAccounts is an [Accounts] in the database that the tokens are in. Its
// statements are the same text for SQLite and PostgreSQL.
type sqlAccounts struct {
	db    *sql.DB
	store *sqlstore.Store
}

var _ Accounts = (*sqlAccounts)(nil)

// querier is what a *sql.DB and a *sql.Tx have in common.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// on returns the transaction that ctx carries, or else the database. This is all
// that it takes to make an account in the transaction that spends its token.
func (a *sqlAccounts) on(ctx context.Context) querier {
	if tx, ok := a.store.Tx(ctx); ok {
		return tx
	}
	return a.db
}

// write runs fn in the transaction that ctx carries, or else in one of its own.
// The store's transactions rather than the database's: they are run again when
// the database gives one up for another, so that fn may run twice, and on SQLite
// they queue with the store's own writes instead of fighting for the lock.
func (a *sqlAccounts) write(ctx context.Context, fn func(context.Context, querier) error) error {
	return a.store.InTx(ctx, func(ctx context.Context) error { return fn(ctx, a.on(ctx)) })
}

// userColumns are what readUser reads.
const userColumns = `localpart, coalesce(registration, ''), password_hash, signing_keys, admin, created`

// readUser reads a row of userColumns, or returns ErrNotFound if there is none.
func readUser(row interface{ Scan(...any) error }) (User, error) {
	var u User
	var created int64
	var keys string
	err := row.Scan(&u.Localpart, &u.Key, &u.PasswordHash, &keys, &u.Admin, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, ErrNotFound
	} else if err != nil {
		return User{}, err
	}
	u.Created = time.UnixMilli(created).UTC()
	return u, json.Unmarshal([]byte(keys), &u.SigningKeys)
}

func (a *sqlAccounts) CreateUser(ctx context.Context, u User) (made User, err error) {
	err = a.write(ctx, func(ctx context.Context, q querier) error {
		// With DO NOTHING a name that is taken is no error: that would end the whole
		// transaction on PostgreSQL, and the caller may try another name in it. Who comes
		// second waits here until the first one's transaction is over.
		made, err = readUser(q.QueryRowContext(ctx, `INSERT INTO users (localpart, registration, password_hash, signing_keys, admin, created)
			VALUES ($1, $2, $3, '{}', $4, $5) ON CONFLICT DO NOTHING RETURNING `+userColumns,
			u.Localpart, sql.NullString{String: u.Key, Valid: u.Key != ""}, u.PasswordHash, u.Admin, u.Created.UnixMilli()))
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		made, err = readUser(q.QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE registration = $1`, u.Key))
		if errors.Is(err, ErrNotFound) {
			return ErrTaken
		}
		return err
	})
	return made, err
}

func (a *sqlAccounts) User(ctx context.Context, localpart string) (User, error) {
	if !isText(localpart) {
		return User{}, ErrNotFound
	}
	return readUser(a.on(ctx).QueryRowContext(ctx, `SELECT `+userColumns+` FROM users WHERE localpart = $1`, localpart))
}

func (a *sqlAccounts) Users(ctx context.Context, contains string, offset, limit int) (page []User, total int, err error) {
	if !isText(contains) {
		return nil, 0, nil
	}
	const matching = `FROM users WHERE localpart LIKE $1 ESCAPE '!'`
	pattern := "%" + strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(contains) + "%"
	q := a.on(ctx)
	if err := q.QueryRowContext(ctx, `SELECT count(*) `+matching, pattern).Scan(&total); err != nil {
		return nil, 0, err
	}
	rows, err := q.QueryContext(ctx, `SELECT `+userColumns+` `+matching+` ORDER BY localpart LIMIT $2 OFFSET $3`, pattern, limit, offset)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		u, err := readUser(rows)
		if err != nil {
			return nil, 0, err
		}
		page = append(page, u)
	}
	return page, total, rows.Err()
}

func (a *sqlAccounts) SetPassword(ctx context.Context, localpart, hash string) error {
	return a.write(ctx, func(ctx context.Context, q querier) error {
		return updated(q.ExecContext(ctx, `UPDATE users SET password_hash = $1 WHERE localpart = $2`, hash, localpart))
	})
}

func (a *sqlAccounts) SetAdmin(ctx context.Context, localpart string) error {
	return a.write(ctx, func(ctx context.Context, q querier) error {
		return updated(q.ExecContext(ctx, `UPDATE users SET admin = TRUE WHERE localpart = $1`, localpart))
	})
}

func (a *sqlAccounts) SetSigningKeys(ctx context.Context, localpart string, keys SigningKeys) error {
	return a.signingKeys(ctx, localpart, keys, func(SigningKeys) bool { return true })
}

func (a *sqlAccounts) AddSigningKeys(ctx context.Context, localpart string, keys SigningKeys) error {
	return a.signingKeys(ctx, localpart, keys, func(have SigningKeys) bool { return have.admits(keys) })
}

// signingKeys sets keys if those that the user has allow it, and otherwise returns
// ErrTaken.
func (a *sqlAccounts) signingKeys(ctx context.Context, localpart string, keys SigningKeys, allowed func(have SigningKeys) bool) error {
	return a.write(ctx, func(ctx context.Context, q querier) error {
		// Writing the row first locks it; see AddKeys.
		user, err := readUser(q.QueryRowContext(ctx, `UPDATE users SET signing_keys = signing_keys WHERE localpart = $1 RETURNING `+userColumns, localpart))
		if err != nil {
			return err
		}
		if !allowed(user.SigningKeys) {
			return ErrTaken
		}
		merged, err := json.Marshal(user.SigningKeys.with(keys))
		if err != nil {
			return err
		}
		return updated(q.ExecContext(ctx, `UPDATE users SET signing_keys = $1 WHERE localpart = $2`, string(merged), localpart))
	})
}

// updated returns ErrNotFound if a statement has changed nothing.
func updated(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return err
}

// isText reports whether s could be in the database at all: PostgreSQL refuses even
// to compare with a string that has a NUL or is not UTF-8.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }
