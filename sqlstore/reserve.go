package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// Reserve implements [uia.TokenStore]. Where a use is free it is one statement on
// PostgreSQL, and one short transaction on SQLite.
func (s *Store) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !uia.ValidTokenValue(h.Token) || !storable(h.Session) {
		return uia.ErrNotFound
	}
	if s.group(ctx).defersHold(h, now) {
		return nil
	}
	return s.hold(ctx, h, now)
}

func (s *Store) hold(ctx context.Context, h uia.Hold, now time.Time) error {
	if s.dialect == SQLite || s.state(ctx) != nil {
		return s.atomic(ctx, func(ctx context.Context, c conn) error { return c.reserve(ctx, h, now) })
	}
	return s.write(ctx, func(c conn) error { return c.reserve(ctx, h, now) })
}

// maxLooks bounds how often reserve looks again because another call has changed what it
// saw. Each time the other call has made progress.
const maxLooks = 100

var errBusy = errors.New("sqlstore: token is too busy")

// reserve takes a free use, or else looks at why there is none. Looking locks
// nothing, so that refusing does not slow down those who may have a use. It never
// yields a use by itself: whatever it saw, a use is taken only by take, which
// checks again, or by displace, which checks under the token's lock.
func (c conn) reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	for range maxLooks {
		ok, err := c.take(ctx, h, now)
		if ok || err != nil {
			return err
		}
		row, own, err := c.look(ctx, h, now)
		if err != nil {
			return err
		}
		if done, err := c.settle(ctx, h, row, own, now); done || err != nil {
			return err
		}
	}
	return errBusy
}

// settle decides by what look has read: the token's row, and the state of the session's
// own use if there is one. done is false if another call has changed them since.
func (c conn) settle(ctx context.Context, h uia.Hold, row tokenRow, own sql.NullInt64, now time.Time) (done bool, err error) {
	switch uia.UseState(own.Int64) {
	case uia.Spent:
		return false, uia.ErrSpent
	case uia.Pinned:
		return true, nil
	}
	t := row.token()
	if t.Revoked {
		return false, uia.ErrRevoked
	}
	if own.Valid {
		return c.renew(ctx, h)
	}
	if err := t.Usable(now); err != nil {
		return false, err
	}
	if row.taken < row.allowed {
		return false, nil // a use was given back since take
	}
	// Every use is taken, but some of them by holds that have lapsed.
	return c.displace(ctx, row.id, h, now)
}

// takeToken keeps a token from making too many accounts. The token's row is written
// first, and only if a use is free: every other call that wants a use queues at this row,
// and its condition is evaluated again on what the one before left behind. Counting the
// uses instead over-spends on PostgreSQL, where a count does not see what another has not
// yet committed (4 to 8 of 16 clients got a use of a token that allows 3).
//
// A session has at most one use of a token: it is in the primary key.
var takeToken = takeTokenAt(1)

// takeTokenAt numbers the parameters from n: now, token, session.
func takeTokenAt(n int) string {
	return fmt.Sprintf(`
	UPDATE uia_tokens SET taken = taken + 1, held = held + 1 WHERE %s RETURNING id, created_by`, freeToken(n))
}

// takeTokenPinned is takeToken for a use that is pinned at once.
var takeTokenPinned = fmt.Sprintf(`UPDATE uia_tokens SET taken = taken + 1 WHERE %s RETURNING id, created_by`, freeToken(1))

// freeToken is the condition under which a use may be taken. It numbers its parameters
// like takeTokenAt.
func freeToken(n int) string {
	return usableToken(n) + fmt.Sprintf(`
		AND NOT EXISTS (SELECT 1 FROM uia_uses o WHERE o.session = $%d AND o.token = $%d)`, n+2, n+1)
}

// usableToken is freeToken without the part that the session has no use of the token yet.
func usableToken(n int) string {
	return fmt.Sprintf(`expires > $%d AND token = $%d AND revoked = 0 AND taken < uses_allowed`, n, n+1)
}

// takeUse takes a use and inserts its row in one statement. Both tables are changed or
// neither. It is right at every isolation level: a second Reserve of the same session
// that did not see the first one's use violates the primary key, and changes nothing.
var takeUse = `
	WITH took AS (` + takeToken + `)
	INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed, invited_by)
	SELECT $3, $2, id, 1, CAST($4 AS BIGINT), 0, '', $1, $1, created_by FROM took`

// insertUse cannot fail because the session has a use already: in a transaction a
// violated constraint would end all of it.
const insertUse = `
	INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed, invited_by)
	VALUES ($1, $2, $3, 1, $4, 0, '', $5, $5, $6) ON CONFLICT (session, token) DO NOTHING`

// insertPinned is for a use that takeTokenPinned has taken.
const insertPinned = `
	INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed, invited_by)
	VALUES ($1, $2, $3, 2, $4, $5, '', $6, $4, $7)`

// take takes a use if one is free and the session has none.
func (c conn) take(ctx context.Context, h uia.Hold, now time.Time) (ok bool, err error) {
	if c.st == nil {
		n, err := c.exec(ctx, takeUse, ms(now), h.Token, h.Session, ms(h.Until))
		if Duplicate(err) {
			return false, nil // another Reserve of this session was quicker
		}
		return n > 0, err
	}
	var id int64
	var creator string
	ok, err = c.one(ctx, takeToken, []any{ms(now), h.Token, h.Session}, &id, &creator)
	if !ok || err != nil {
		return false, err
	}
	n, err := c.exec(ctx, insertUse, h.Session, h.Token, id, ms(h.Until), ms(now), creator)
	if err != nil || n > 0 {
		return err == nil, err
	}
	// On PostgreSQL another Reserve of this session was quicker.
	return false, c.giveBack(ctx, id, 1, 1)
}

// look reads the token and the state of the session's use of it, not valid if it
// has none, at one moment. It returns ErrNotFound if there is no token, unless the
// session's use of one of this value is spent.
func (c conn) look(ctx context.Context, h uia.Hold, now time.Time) (row tokenRow, own sql.NullInt64, err error) {
	found, err := c.one(ctx, `SELECT `+tokenFields+`, `+tokenCounts+`,
		(SELECT o.state FROM uia_uses o WHERE o.session = $2 AND o.token = $3)
		FROM uia_tokens WHERE token = $3`,
		[]any{ms(now), h.Session, h.Token}, append(row.all(), &own)...)
	if found || err != nil {
		return row, own, err
	}
	_, err = c.one(ctx, `SELECT state FROM uia_uses WHERE session = $1 AND token = $2 AND state = 3`,
		[]any{h.Session, h.Token}, &own)
	if err == nil && !own.Valid {
		err = uia.ErrNotFound
	}
	return row, own, err
}

// renew moves the hold's end. It touches no token: a hold that is there may stay, and one
// that a revocation deletes at the same time is gone afterwards either way, because
// either the deletion waits for this statement, or this statement finds no hold.
func (c conn) renew(ctx context.Context, h uia.Hold) (bool, error) {
	n, err := c.exec(ctx, `UPDATE uia_uses SET stamp = $1 WHERE session = $2 AND token = $3 AND state = 1`,
		ms(h.Until), h.Session, h.Token)
	return n > 0, err
}
