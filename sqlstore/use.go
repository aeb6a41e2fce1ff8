package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// Pin, Commit and Unpin compare the run in the statement that writes, so that
// of two owners of one session the overtaken one changes nothing. They lock the
// use alone unless the token counts, and then the token first: everywhere in this
// package locks are taken in the order token, use.

const pinUse = `UPDATE uia_uses SET state = 2, stamp = $1, changed = $1, run = $2
	WHERE session = $3 AND token = $4 AND (state = 1 AND run < $2 OR state = 2 AND run <= $2)`

// Pin implements [uia.TokenStore] with one statement. The token need not be
// looked at: revoking or deleting it deletes its holds, so a hold that is there
// may be pinned, and one that is being deleted is either pinned first and stays,
// or is gone.
func (s *Store) Pin(ctx context.Context, cl uia.Claim, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if cl.Run <= 0 {
		return fmt.Errorf("%w: run", uia.ErrInvalid)
	}
	if err := knowable(cl); err != nil {
		return err
	}
	if g := s.group(ctx); g != nil && g.lease != nil {
		return s.pinLeased(ctx, g, cl, now)
	}
	return s.write(ctx, func(c conn) error {
		n, err := c.exec(ctx, pinUse, ms(now), cl.Run, cl.Session, cl.Token)
		if err != nil || n > 0 {
			return err
		}
		u, err := c.use(ctx, cl)
		return u.refuse(err)
	})
}

// knowable refuses a claim that no use can have.
func knowable(cl uia.Claim) error {
	switch {
	case !uia.ValidTokenValue(cl.Token):
		return uia.ErrNotFound
	case !storable(cl.Session):
		return uia.ErrNotHeld
	}
	return nil
}

// useRow is what a refusal is explained with.
type useRow struct {
	state uia.UseState // zero: there is none
	run   int64
	user  string
}

func (c conn) use(ctx context.Context, cl uia.Claim) (u useRow, err error) {
	_, err = c.one(ctx, `SELECT state, run, user_id FROM uia_uses WHERE session = $1 AND token = $2`,
		[]any{cl.Session, cl.Token}, &u.state, &u.run, &u.user)
	return u, err
}

// refuse returns err, or else why the use cannot be changed.
func (u useRow) refuse(err error) error {
	switch {
	case err != nil:
		return err
	case u.state == uia.Spent:
		return uia.ErrSpent
	}
	return uia.ErrNotHeld
}

// lockToken locks the token of a use by writing it, before the use is touched, and
// returns its id. What follows must be about a use of this very token: one of the
// same session that came in between may belong to another. exists is false if the
// token has been deleted. Without a use it returns ErrNotHeld.
func (c conn) lockToken(ctx context.Context, cl uia.Claim) (id int64, revoked, exists bool, err error) {
	var flag int64
	exists, err = c.one(ctx, `UPDATE uia_tokens SET taken = taken
		WHERE id = (SELECT token_id FROM uia_uses WHERE session = $1 AND token = $2) RETURNING id, revoked`,
		[]any{cl.Session, cl.Token}, &id, &flag)
	if exists || err != nil {
		return id, flag != 0, exists, err
	}
	// Either there was no use, or no token. (A transaction of SQLite must write
	// first, which is why this is not asked first.)
	found, err := c.one(ctx, `SELECT token_id FROM uia_uses WHERE session = $1 AND token = $2`,
		[]any{cl.Session, cl.Token}, &id)
	if err != nil {
		return 0, false, false, err
	}
	if !found {
		return 0, false, false, uia.ErrNotHeld
	}
	// If the use has just come, its token is there: to take it for deleted would
	// lose the use's place in the count for ever.
	exists, err = c.one(ctx, `UPDATE uia_tokens SET taken = taken WHERE id = $1 RETURNING revoked`, []any{id}, &flag)
	return id, flag != 0, exists, err
}

// giveBack takes n deleted uses off the token's count. The id is that of the
// uses: a token that was made again with the same value has another.
func (c conn) giveBack(ctx context.Context, id, n int64) error {
	_, err := c.exec(ctx, `UPDATE uia_tokens SET taken = taken - $1 WHERE id = $2`, n, id)
	return err
}

// Unpin implements [uia.TokenStore]. The token is locked, so that no revocation
// or deletion that cancels holds can miss the one that this makes.
func (s *Store) Unpin(ctx context.Context, cl uia.Claim, until, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := knowable(cl); err != nil {
		return err
	}
	return s.atomic(ctx, func(ctx context.Context, c conn) error {
		id, revoked, exists, err := c.lockToken(ctx, cl)
		if err != nil {
			return err
		}
		var n int64
		if exists && !revoked {
			n, err = c.exec(ctx, `UPDATE uia_uses SET state = 1, stamp = $1, changed = $2
				WHERE session = $3 AND token = $4 AND token_id = $5 AND state = 2 AND run = $6`,
				ms(until), ms(now), cl.Session, cl.Token, id, cl.Run)
		} else {
			n, err = c.exec(ctx, `DELETE FROM uia_uses
				WHERE session = $1 AND token = $2 AND token_id = $3 AND state = 2 AND run = $4`,
				cl.Session, cl.Token, id, cl.Run)
			if err == nil && n > 0 && exists {
				err = c.giveBack(ctx, id, n)
			}
		}
		if err != nil || n > 0 {
			return err
		}
		u, err := c.use(ctx, cl)
		if err == nil && u.state == uia.Held && cl.Run > 0 && u.run == cl.Run {
			return nil // the answer to the first call was lost
		}
		return u.refuse(err)
	})
}

// Release implements [uia.TokenStore].
func (s *Store) Release(ctx context.Context, cl uia.Claim) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := knowable(cl); err != nil {
		return err
	}
	return s.atomic(ctx, func(ctx context.Context, c conn) error {
		id, _, exists, err := c.lockToken(ctx, cl)
		if err != nil {
			return err
		}
		n, err := c.exec(ctx, `DELETE FROM uia_uses WHERE session = $1 AND token = $2 AND token_id = $3
			AND (state = 2 AND run = $4 OR state = 1 AND run <= $4)`, cl.Session, cl.Token, id, cl.Run)
		if err != nil {
			return err
		}
		if n == 0 {
			u, err := c.use(ctx, cl)
			return u.refuse(err)
		}
		if !exists {
			return nil // the token is gone, and its count with it
		}
		return c.giveBack(ctx, id, n)
	})
}
