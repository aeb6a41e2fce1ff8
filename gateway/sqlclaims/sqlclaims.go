// Package sqlclaims keeps the claims of package gateway in the database of the
// registration tokens, in the table uia_gateway_claims that sqlstore's Migrate makes.
// Several gateways can share it.
package sqlclaims

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/sqlstore"
)

// Claims is a [gateway.ClaimStore]. It is safe for concurrent use, and needs no
// closing.
type Claims struct {
	store *sqlstore.Store
}

var _ gateway.ClaimStore = (*Claims)(nil)

// New returns the claims in a store's database. Each of its calls is one transaction,
// of the store (InTx).
func New(store *sqlstore.Store) *Claims { return &Claims{store} }

const fields = `key, localpart, run, state, sealed, changed`

// maxTries bounds how often a call begins again because another has changed the claim
// between two of its statements.
const maxTries = 10

var errBusy = errors.New("sqlclaims: others keep changing the claim")

// claim reads a row with the fields. It returns sql.ErrNoRows if there is none.
func claim(row interface{ Scan(...any) error }) (gateway.Claim, error) {
	var c gateway.Claim
	var changed int64
	err := row.Scan(&c.Key, &c.Localpart, &c.Run, &c.State, &c.Sealed, &changed)
	c.Changed = time.UnixMilli(changed).UTC()
	return c, err
}

// inTx runs fn in a transaction until it has found out what to return.
func (s *Claims) inTx(ctx context.Context, fn func(context.Context, *sql.Tx) (c gateway.Claim, done bool, err error)) (gateway.Claim, error) {
	if err := ctx.Err(); err != nil {
		return gateway.Claim{}, err
	}
	for range maxTries {
		var c gateway.Claim
		var done bool
		err := s.store.InTx(ctx, func(ctx context.Context) (err error) {
			tx, ok := s.store.Tx(ctx)
			if !ok {
				return errors.New("sqlclaims: InTx gave no transaction")
			}
			c, done, err = fn(ctx, tx)
			return err
		})
		switch {
		case sqlstore.Duplicate(err):
			return gateway.Claim{}, gateway.ErrTaken // keys are inserted so that they cannot be one
		case err != nil:
			return gateway.Claim{}, err
		case done:
			return c, nil
		}
	}
	return gateway.Claim{}, errBusy
}

// load returns the claim of a key, and whether there is one.
func load(ctx context.Context, tx *sql.Tx, key string) (gateway.Claim, bool, error) {
	c, err := claim(tx.QueryRowContext(ctx, `SELECT `+fields+` FROM uia_gateway_claims WHERE key = $1`, key))
	if errors.Is(err, sql.ErrNoRows) {
		return gateway.Claim{}, false, nil
	}
	return c, err == nil, err
}

// takeClaim takes a claim that is there. A violated constraint means that the name is
// another's.
const takeClaim = `UPDATE uia_gateway_claims SET run = $1,
		localpart = CASE WHEN state = 3 THEN localpart ELSE $2 END,
		sealed = CASE WHEN state = 3 THEN sealed END,
		changed = CASE WHEN state = 3 THEN changed ELSE $3 END,
		state = CASE WHEN state = 3 THEN 3 ELSE 2 END
	WHERE key = $4 AND run <= $5 AND state <= 3
	RETURNING ` + fields

// makeClaim makes one, unless another has made it meanwhile.
const makeClaim = `INSERT INTO uia_gateway_claims (key, localpart, run, state, changed) VALUES ($1, $2, $3, 2, $4)
	ON CONFLICT (key) DO NOTHING RETURNING ` + fields

// Reserve implements [gateway.ClaimStore].
func (s *Claims) Reserve(ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (gateway.Claim, bool, error) {
		taken, err := claim(tx.QueryRowContext(ctx, takeClaim, c.Run, c.Localpart, now.UnixMilli(), c.Key, c.Run))
		if !errors.Is(err, sql.ErrNoRows) {
			return taken, err == nil, err
		}
		old, found, err := load(ctx, tx, c.Key)
		switch {
		case err != nil:
			return old, false, err
		case found && (old.State == gateway.Made || old.State == gateway.Buried):
			return old, true, nil
		case found && old.Run > c.Run:
			return old, false, gateway.ErrOvertaken
		case found:
			return old, false, nil
		}
		made, err := claim(tx.QueryRowContext(ctx, makeClaim, c.Key, c.Localpart, c.Run, now.UnixMilli()))
		if errors.Is(err, sql.ErrNoRows) {
			return made, false, nil
		}
		return made, err == nil, err
	})
}

// Save implements [gateway.ClaimStore].
func (s *Claims) Save(ctx context.Context, c gateway.Claim, now time.Time) (gateway.Claim, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (gateway.Claim, bool, error) {
		saved, err := claim(tx.QueryRowContext(ctx, `UPDATE uia_gateway_claims SET state = $1, sealed = $2, changed = $3
			WHERE key = $4 AND run = $5 AND state IN (2, 3) RETURNING `+fields,
			int64(c.State), c.Sealed, now.UnixMilli(), c.Key, c.Run))
		if !errors.Is(err, sql.ErrNoRows) {
			return saved, err == nil, err
		}
		old, found, err := load(ctx, tx, c.Key)
		if err == nil && (!found || old.Run != c.Run || old.State != c.State) {
			err = gateway.ErrOvertaken
		}
		return old, err == nil, err
	})
}

// Bury implements [gateway.ClaimStore].
func (s *Claims) Bury(ctx context.Context, key string, now time.Time) (gateway.Claim, error) {
	return s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (gateway.Claim, bool, error) {
		buried, err := claim(tx.QueryRowContext(ctx, `INSERT INTO uia_gateway_claims (key, localpart, run, state, changed)
			VALUES ($1, '', 0, 5, $2)
			ON CONFLICT (key) DO UPDATE SET state = 5, sealed = NULL, changed = excluded.changed
				WHERE uia_gateway_claims.state IN (1, 2)
			RETURNING `+fields, key, now.UnixMilli()))
		if !errors.Is(err, sql.ErrNoRows) {
			return buried, err == nil, err
		}
		old, found, err := load(ctx, tx, key)
		return old, found && old.State >= gateway.Sent, err
	})
}

// List implements [gateway.ClaimStore].
func (s *Claims) List(ctx context.Context, q gateway.ClaimQuery) (out []gateway.Claim, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	where, args := []string{"state = $1"}, []any{int64(q.State)}
	and := func(condition string, arg any) {
		args = append(args, arg)
		where = append(where, fmt.Sprintf("%s $%d", condition, len(args)))
	}
	if q.Localpart != "" {
		and("localpart =", q.Localpart)
	}
	if !q.Before.IsZero() {
		and("changed <", q.Before.UnixMilli())
	}
	args = append(args, max(q.Limit, 0))
	query := fmt.Sprintf(`SELECT `+fields+` FROM uia_gateway_claims WHERE %s ORDER BY changed, key LIMIT $%d`,
		strings.Join(where, " AND "), len(args))
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		out = nil
		tx, _ := s.store.Tx(ctx)
		rows, err := tx.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			c, err := claim(rows)
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return rows.Err()
	})
	return out, err
}

// Delete implements [gateway.ClaimStore].
func (s *Claims) Delete(ctx context.Context, c gateway.Claim) error {
	_, err := s.inTx(ctx, func(ctx context.Context, tx *sql.Tx) (gateway.Claim, bool, error) {
		_, err := tx.ExecContext(ctx, `DELETE FROM uia_gateway_claims WHERE key = $1 AND run = $2 AND state = $3`,
			c.Key, c.Run, int64(c.State))
		return gateway.Claim{}, true, err
	})
	return err
}
