// Package sqlaccounts keeps the accounts of package restauth in the database of the
// registration tokens, in the table uia_restauth_accounts that sqlstore's Migrate makes.
// Several services can share it.
package sqlaccounts

import (
	"context"
	"database/sql"
	"errors"
	"math"
	"time"

	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/sqlstore"
)

// Accounts is a [restauth.AccountStore]. It is safe for concurrent use, and needs no
// closing.
type Accounts struct {
	store *sqlstore.Store
}

var _ restauth.AccountStore = (*Accounts)(nil)

// New returns the accounts in a store's database. Each of its calls is one transaction,
// of the store (InTx).
func New(store *sqlstore.Store) *Accounts { return &Accounts{store} }

const fields = `key, COALESCE(localpart, ''), hash, run, state, created`

// inTx runs fn in a transaction.
func (s *Accounts) inTx(ctx context.Context, fn func(context.Context, *sql.Tx) (restauth.Account, error)) (a restauth.Account, err error) {
	if err := ctx.Err(); err != nil {
		return a, err
	}
	// What fn finds is no failure of the transaction: what it has written stays.
	var found error
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		tx, ok := s.store.Tx(ctx)
		if !ok {
			return errors.New("sqlaccounts: InTx gave no transaction")
		}
		a, found = fn(ctx, tx)
		if known(found) {
			return nil
		}
		return found
	})
	if err != nil {
		return restauth.Account{}, err
	}
	return a, found
}

// known reports whether err is one of those that an AccountStore answers with.
func known(err error) bool {
	return errors.Is(err, restauth.ErrNotFound) || errors.Is(err, restauth.ErrTaken) || errors.Is(err, restauth.ErrBuried)
}

// one runs a statement that returns the fields of one row, or of none: ErrNotFound. A row
// of a buried key is ErrBuried.
func one(ctx context.Context, tx *sql.Tx, query string, args ...any) (restauth.Account, error) {
	var a restauth.Account
	var created int64
	err := tx.QueryRowContext(ctx, query, args...).Scan(&a.Key, &a.Localpart, &a.Hash, &a.Run, &a.State, &created)
	a.Created = time.UnixMilli(created).UTC()
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return restauth.Account{}, restauth.ErrNotFound
	case err != nil:
		return restauth.Account{}, err
	case a.State == restauth.Buried:
		return restauth.Account{}, restauth.ErrBuried
	}
	return a, nil
}

func made(ctx context.Context, tx *sql.Tx, key string) (restauth.Account, error) {
	return one(ctx, tx, `SELECT `+fields+` FROM uia_restauth_accounts WHERE key = $1`, key)
}

// Create implements [restauth.AccountStore].
func (s *Accounts) Create(ctx context.Context, a restauth.Account) (restauth.Account, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (restauth.Account, error) {
		// Neither of the two unique columns is named, so that a violation of either is no
		// error, which would end a transaction of PostgreSQL.
		created, err := one(ctx, tx, `INSERT INTO uia_restauth_accounts (key, localpart, hash, run, state, created)
			VALUES ($1, $2, $3, $4, 1, $5) ON CONFLICT DO NOTHING RETURNING `+fields,
			a.Key, a.Localpart, a.Hash, a.Run, a.Created.UnixMilli())
		if !errors.Is(err, restauth.ErrNotFound) {
			return created, err
		}
		renewed, err := one(ctx, tx, `UPDATE uia_restauth_accounts SET hash = $1, run = $2
			WHERE key = $3 AND state = 1 AND run <= $4 RETURNING `+fields, a.Hash, a.Run, a.Key, a.Run)
		if !errors.Is(err, restauth.ErrNotFound) {
			return renewed, err
		}
		old, err := made(ctx, tx, a.Key)
		if errors.Is(err, restauth.ErrNotFound) {
			err = restauth.ErrTaken
		}
		return old, err
	})
}

// Find implements [restauth.AccountStore].
func (s *Accounts) Find(ctx context.Context, localpart string) (restauth.Account, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (restauth.Account, error) {
		return one(ctx, tx, `SELECT `+fields+` FROM uia_restauth_accounts WHERE localpart = $1`, localpart)
	})
}

// Made implements [restauth.AccountStore].
func (s *Accounts) Made(ctx context.Context, key string) (restauth.Account, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (restauth.Account, error) { return made(ctx, tx, key) })
}

// SetPassword implements [restauth.AccountStore].
func (s *Accounts) SetPassword(ctx context.Context, localpart, hash string) error {
	_, err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (restauth.Account, error) {
		return one(ctx, tx, `UPDATE uia_restauth_accounts SET hash = $1, run = $2
			WHERE localpart = $3 AND state = 1 RETURNING `+fields, hash, int64(math.MaxInt64), localpart)
	})
	return err
}

// Deactivate implements [restauth.AccountStore].
func (s *Accounts) Deactivate(ctx context.Context, localpart string) error {
	_, err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (restauth.Account, error) {
		return one(ctx, tx, `UPDATE uia_restauth_accounts SET hash = '', state = 2
			WHERE localpart = $1 RETURNING `+fields, localpart)
	})
	return err
}

// Bury implements [restauth.AccountStore].
func (s *Accounts) Bury(ctx context.Context, key string) (restauth.Account, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (restauth.Account, error) {
		buried, err := one(ctx, tx, `INSERT INTO uia_restauth_accounts (key, hash, run, state, created)
			VALUES ($1, '', 0, 3, 0) ON CONFLICT (key) DO NOTHING RETURNING `+fields, key)
		if !errors.Is(err, restauth.ErrNotFound) {
			return buried, err
		}
		return made(ctx, tx, key)
	})
}
