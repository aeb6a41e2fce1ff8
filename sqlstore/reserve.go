package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/matrix-uia/uia"
)

// Reserve implements [uia.TokenStore]. Where a use is free it is one statement on
// PostgreSQL, and one short transaction on SQLite.
func (s *Store) Reserve(ctx context.Context, h uia.Hold, now time.Time) (uia.Token, error) {
	if err := ctx.Err(); err != nil {
		return uia.Token{}, err
	}
	if !uia.ValidTokenValue(h.Token) || !storable(h.Session) {
		return uia.Token{}, uia.ErrNotFound
	}
	var t uia.Token
	if s.dialect == SQLite || s.state(ctx) != nil {
		err := s.atomic(ctx, func(ctx context.Context, c conn) (err error) {
			t, err = c.reserve(ctx, h, now)
			return err
		})
		return t, err
	}
	err := s.write(ctx, func(c conn) (err error) {
		t, err = c.reserve(ctx, h, now)
		return err
	})
	return t, err
}

// maxLooks bounds how often reserve looks again because another call has changed
// what it saw. Each time that other call got on.
const maxLooks = 100

var errBusy = errors.New("sqlstore: token is too busy")

// reserve takes a free use, or else looks at why there is none. Looking locks
// nothing, so that refusing does not slow down those who may have a use. It never
// yields a use by itself: whatever it saw, a use is taken only by take, which
// checks again, or by displace, which checks under the token's lock.
func (c conn) reserve(ctx context.Context, h uia.Hold, now time.Time) (uia.Token, error) {
	for range maxLooks {
		row, ok, err := c.take(ctx, h, now)
		if err != nil {
			return uia.Token{}, err
		}
		if ok {
			return row.token(), nil
		}
		row, own, err := c.look(ctx, h, now)
		if err != nil {
			return uia.Token{}, err
		}
		switch uia.UseState(own.state.Int64) {
		case uia.Spent:
			return uia.Token{}, uia.ErrSpent
		case uia.Pinned:
			return row.token(), nil
		}
		t := row.token()
		switch {
		case t.Revoked:
			return uia.Token{}, uia.ErrRevoked
		case own.state.Valid:
			moved, err := c.renew(ctx, h)
			if err != nil {
				return uia.Token{}, err
			}
			if !moved {
				continue
			}
			row.move(own.stamp.Int64, ms(h.Until), ms(now))
			return row.token(), nil
		}
		if err := t.Usable(now); err != nil {
			return uia.Token{}, err
		}
		if row.taken < row.allowed {
			continue // a use was given back since take
		}
		// Every use is taken, but some of them by holds that have lapsed.
		row, ok, err = c.displace(ctx, row.id, h, now)
		if err != nil {
			return uia.Token{}, err
		}
		if ok {
			return row.token(), nil
		}
	}
	return uia.Token{}, errBusy
}

// move corrects the counts for a hold that lapsed at from and now lapses at to.
func (r *tokenRow) move(from, to, now int64) {
	if from <= now {
		r.lapsed--
	}
	if to <= now {
		r.lapsed++
	}
}

// takeToken is the heart of it. The token's row is written first, and only if a
// use is free: whoever else wants one queues at this row, and its condition is
// evaluated again on what the one before left behind. Counting the uses instead
// over-spends on PostgreSQL, where a count does not see what another has not yet
// committed (4 to 8 of 16 clients got a use of a token that allows 3).
//
// A session has at most one use of a token: it is in the primary key.
const takeToken = `
	UPDATE uia_tokens SET taken = taken + 1
	WHERE expires > $1 AND token = $2 AND revoked = 0 AND taken < uses_allowed
		AND NOT EXISTS (SELECT 1 FROM uia_uses o WHERE o.session = $3 AND o.token = $2)`

// takeUse does all of it in one statement. Both tables are changed or neither.
// It is right at every isolation level: a second Reserve of the same session that
// did not see the first one's use violates the primary key, and changes nothing.
//
// The counts are as of the statement's start, as is the last column, the taken of
// then; the token is as it is after waiting for its lock. The uses that came in
// between are taken for open ones.
const takeUse = `
	WITH took AS (` + takeToken + ` RETURNING ` + tokenFields + `),
	made AS (
		INSERT INTO uia_uses (session, token, token_id, state, stamp, attempt, user_id, made, changed)
		SELECT $3, token, id, 1, CAST($4 AS BIGINT), 0, '', $1, $1 FROM took
	)
	SELECT ` + tokenFields + `, ` + tokenCounts + `, (SELECT b.taken FROM uia_tokens b WHERE b.id = took.id) FROM took`

// returningCounts makes takeToken return the token as it is. On PostgreSQL the
// counts would be older than the token.
const returningCounts = ` RETURNING ` + tokenFields + `, ` + tokenCounts

// insertUse cannot fail because the session has a use already: in a transaction a
// violated constraint would end all of it.
const insertUse = `
	INSERT INTO uia_uses (session, token, token_id, state, stamp, attempt, user_id, made, changed)
	VALUES ($1, $2, $3, 1, $4, 0, '', $5, $5) ON CONFLICT (session, token) DO NOTHING`

// take takes a use if one is free and the session has none.
func (c conn) take(ctx context.Context, h uia.Hold, now time.Time) (row tokenRow, ok bool, err error) {
	if c.st == nil {
		var before int64
		ok, err = c.one(ctx, takeUse, []any{ms(now), h.Token, h.Session, ms(h.Until)}, append(row.all(), &before)...)
		if duplicate(err) {
			return row, false, nil // another Reserve of this session was quicker
		}
		row.open += row.taken - before
		if ms(h.Until) <= ms(now) {
			row.lapsed++
		}
		return row, ok, err
	}
	ok, err = c.one(ctx, takeToken+returningCounts, []any{ms(now), h.Token, h.Session}, row.all()...)
	if !ok || err != nil {
		return row, false, err
	}
	n, err := c.exec(ctx, insertUse, h.Session, h.Token, row.id, ms(h.Until), ms(now))
	if err != nil {
		return row, false, err
	}
	if n == 0 {
		// On PostgreSQL another Reserve of this session was quicker.
		return row, false, c.giveBack(ctx, row.id, 1)
	}
	if c.s.dialect == PostgreSQL {
		row, err = c.token(ctx, h.Token, now)
		return row, err == nil, err
	}
	row.open++
	if ms(h.Until) <= ms(now) {
		row.lapsed++
	}
	return row, true, nil
}

// ownUse is what a session has of a token; not valid if it has nothing.
type ownUse struct {
	state, stamp sql.NullInt64
}

// look reads the token and the session's use of it, at one moment. It returns
// ErrNotFound if there is no token, unless the session's use of one of this value
// is spent.
func (c conn) look(ctx context.Context, h uia.Hold, now time.Time) (row tokenRow, own ownUse, err error) {
	found, err := c.one(ctx, `SELECT `+tokenFields+`, `+tokenCounts+`,
		(SELECT o.state FROM uia_uses o WHERE o.session = $2 AND o.token = $3),
		(SELECT o.stamp FROM uia_uses o WHERE o.session = $2 AND o.token = $3)
		FROM uia_tokens WHERE token = $3`,
		[]any{ms(now), h.Session, h.Token}, append(row.all(), &own.state, &own.stamp)...)
	if found || err != nil {
		return row, own, err
	}
	_, err = c.one(ctx, `SELECT state FROM uia_uses WHERE session = $1 AND token = $2 AND state = 3`,
		[]any{h.Session, h.Token}, &own.state)
	if err == nil && !own.state.Valid {
		err = uia.ErrNotFound
	}
	return row, own, err
}

// renew moves the hold's end. It touches no token: a hold that is there may stay,
// and one that a revocation deletes at the same time is gone afterwards either
// way, because the deletion waits for this or this finds nothing.
func (c conn) renew(ctx context.Context, h uia.Hold) (bool, error) {
	n, err := c.exec(ctx, `UPDATE uia_uses SET stamp = $1 WHERE session = $2 AND token = $3 AND state = 1`,
		ms(h.Until), h.Session, h.Token)
	return n > 0, err
}
