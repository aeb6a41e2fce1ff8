package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

const useFields = `u.token, u.session, u.state, u.stamp, u.run, u.user_id, u.made, u.changed, u.invited_by`

// scanUse scans useFields, and what is selected behind them into more.
func scanUse(row scanner, more ...any) (u uia.Use, err error) {
	var stamp, made, changed int64
	err = row.Scan(append([]any{&u.Token, &u.Session, &u.State, &stamp, &u.Run, &u.UserID, &made, &changed, &u.InvitedBy}, more...)...)
	if u.State == uia.Held {
		u.Until = fromMS(stamp)
	}
	u.Made, u.Changed = fromMS(made), fromMS(changed)
	return u, err
}

// pageLimit applies the defaults of a query's limit.
func pageLimit(n int) (int, error) {
	switch {
	case n < 0:
		return 0, fmt.Errorf("%w: negative limit", uia.ErrInvalid)
	case n == 0:
		return 100, nil
	}
	return min(n, 1000), nil
}

// ListUses implements [uia.TokenStore].
func (s *Store) ListUses(ctx context.Context, q uia.UseQuery) (uia.UsePage, error) {
	if err := ctx.Err(); err != nil {
		return uia.UsePage{}, err
	}
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return uia.UsePage{}, err
	}
	if !uia.ValidTokenValue(q.Token) {
		return uia.UsePage{}, uia.ErrNotFound
	}
	made, session := int64(always), ""
	if q.After != nil {
		made, session = ms(q.After.Made), q.After.Session
		if !storable(session) {
			return uia.UsePage{}, fmt.Errorf("%w: cursor", uia.ErrInvalid)
		}
	}
	var page uia.UsePage
	err = s.read(ctx, func(c conn) error {
		page = uia.UsePage{}
		of, arg, err := c.usesOf(ctx, q)
		if err != nil {
			return err
		}
		// One more than asked for tells whether there is a next page.
		return c.each(ctx, `SELECT `+useFields+` FROM uia_uses u WHERE `+of+` AND (u.made, u.session) < ($2, $3)
			ORDER BY u.made DESC, u.session DESC LIMIT $4`, []any{arg, made, session, limit + 1}, func(row scanner) error {
			u, err := scanUse(row)
			if err != nil {
				return err
			}
			if len(page.Uses) == limit {
				last := page.Uses[limit-1]
				page.Next = &uia.UseCursor{Made: last.Made, Session: last.Session}
				return nil
			}
			page.Uses = append(page.Uses, u)
			return nil
		})
	})
	return page, err
}

// usesOf returns the condition of the uses that q is about, and its parameter $1. It
// compares the id of the token and not its value, because an earlier token may have had
// the same value.
func (c conn) usesOf(ctx context.Context, q uia.UseQuery) (condition string, arg any, err error) {
	if q.Deleted {
		return `u.token_id IN (SELECT d.id FROM uia_deleted d WHERE d.token = $1)`, q.Token, nil
	}
	var id int64
	found, err := c.one(ctx, `SELECT id FROM uia_tokens WHERE token = $1`, []any{q.Token}, &id)
	if err == nil && !found {
		err = uia.ErrNotFound
	}
	return `u.token_id = $1`, id, err
}

// PinnedUses implements [uia.TokenStore]. stamp is when the use was pinned. The
// condition user_id = ” is that of the index.
func (s *Store) PinnedUses(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("%w: limit below 1", uia.ErrInvalid)
	}
	var uses []uia.Use
	err := s.read(ctx, func(c conn) error {
		uses = nil
		return c.each(ctx, `SELECT `+useFields+` FROM uia_uses u WHERE u.user_id = '' AND u.state = 2 AND u.stamp < $1
			ORDER BY u.stamp, u.session LIMIT $2`, []any{ms(before), limit}, func(row scanner) error {
			u, err := scanUse(row)
			uses = append(uses, u)
			return err
		})
	})
	return uses, err
}

// SweepHolds implements [uia.TokenStore]. It goes token by token, each in a
// transaction of its own, so that it never holds the locks of two tokens.
func (s *Store) SweepHolds(ctx context.Context, before time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit < 0 {
		return 0, fmt.Errorf("%w: negative limit", uia.ErrInvalid)
	}
	deleted := 0
	for deleted < limit {
		// The token whose hold lapsed first.
		var id int64
		found := false
		err := s.read(ctx, func(c conn) (err error) {
			found, err = c.one(ctx, `SELECT token_id FROM uia_uses WHERE user_id = '' AND state = 1 AND stamp < $1
				ORDER BY stamp, session LIMIT 1`, []any{ms(before)}, &id)
			return err
		})
		if err != nil || !found {
			return deleted, err
		}
		n, err := s.sweepToken(ctx, id, before, limit-deleted)
		if err != nil {
			return deleted, err
		}
		deleted += n
	}
	return deleted, nil
}

// sweepToken deletes at most limit lapsed holds of one token.
func (s *Store) sweepToken(ctx context.Context, id int64, before time.Time, limit int) (int, error) {
	var n int64
	err := s.atomic(ctx, func(ctx context.Context, c conn) error {
		// The token's lock first, then the uses'. The condition stands in the outer
		// statement too: on PostgreSQL that is where it is evaluated again for a hold
		// that was renewed or pinned meanwhile.
		_, err := c.exec(ctx, `UPDATE uia_tokens SET taken = taken WHERE id = $1`, id)
		if err != nil {
			return err
		}
		n, err = c.exec(ctx, `DELETE FROM uia_uses WHERE state = 1 AND stamp < $1 AND token_id = $2 AND (session, token) IN
			(SELECT session, token FROM uia_uses WHERE token_id = $2 AND state = 1 AND stamp < $1
			ORDER BY stamp, session LIMIT $3)`, ms(before), id, limit)
		if err != nil || n == 0 {
			return err
		}
		return c.giveBack(ctx, id, n, n)
	})
	return int(n), err
}
