package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// Pin, Commit and Unpin compare the run in the statement that writes, so that of two
// owners of one session the overtaken one changes nothing. Commit locks the use alone.
// Whatever makes a use held, or makes something else of a held one, changes the
// token's counts and locks the token first: everywhere in this package locks are
// taken in the order token, use.

// pinUse pins a use of whichever state, on PostgreSQL. own locks the token of a held use,
// fresh pins that use, and counted takes it off the held ones; again moves the run of a
// use that is pinned already. Whether fresh or again applies depends on the state that
// the statement saw when it began: if the state has changed meanwhile, the statement
// changes nothing.
var pinUse = `WITH ` + ownToken(3) + `,` + pinFrom(1, ``) + `
	SELECT 1 FROM fresh UNION ALL SELECT 1 FROM again`

// ownToken locks the token of a held use. Its parameters, session and token, are
// numbered from n.
func ownToken(n int) string {
	return fmt.Sprintf(`own AS (SELECT t.id FROM uia_tokens t WHERE t.id =
		(SELECT o.token_id FROM uia_uses o WHERE o.session = $%d AND o.token = $%d AND o.state = 1) FOR UPDATE)`, n, n+1)
}

// pinFrom is the rest of pinUse, under a further condition. Its parameters, now, run,
// session and token, are numbered from n.
func pinFrom(n int, cond string) string {
	return fmt.Sprintf(`
	fresh AS (
		UPDATE uia_uses SET state = 2, stamp = $%[1]d, changed = $%[1]d, run = $%[2]d
		WHERE session = $%[3]d AND token = $%[4]d AND state = 1 AND run < $%[2]d AND EXISTS (SELECT 1 FROM own)%[5]s RETURNING token_id),
	again AS (
		UPDATE uia_uses SET stamp = $%[1]d, changed = $%[1]d, run = $%[2]d
		WHERE session = $%[3]d AND token = $%[4]d AND state = 2 AND run <= $%[2]d AND NOT EXISTS (SELECT 1 FROM fresh)%[5]s RETURNING 1),
	counted AS (UPDATE uia_tokens SET held = held - 1 WHERE id = (SELECT token_id FROM fresh))`, n, n+1, n+2, n+3, cond)
}

// The same on SQLite, as two statements: the write lock keeps others from changing
// anything in between.
const (
	pinHeld   = `UPDATE uia_uses SET state = 2, stamp = $1, changed = $1, run = $2 WHERE session = $3 AND token = $4 AND state = 1 AND run < $2`
	countHeld = `UPDATE uia_tokens SET held = held - 1 WHERE id = (SELECT token_id FROM uia_uses WHERE session = $1 AND token = $2)`
	pinAgain  = `UPDATE uia_uses SET stamp = $1, changed = $1, run = $2 WHERE session = $3 AND token = $4 AND state = 2 AND run <= $2`
)

// Pin implements [uia.TokenStore], with one statement on PostgreSQL. Whether the
// token is revoked need not be looked at: revoking or deleting it deletes its holds,
// so a hold that is there may be pinned, and one that is being deleted is either
// pinned first and stays, or is gone.
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
	return s.pin(ctx, cl, now)
}

func (s *Store) pin(ctx context.Context, cl uia.Claim, now time.Time) error {
	if s.dialect == SQLite {
		return s.atomic(ctx, func(ctx context.Context, c conn) error { return c.pin(ctx, cl, now) })
	}
	return s.write(ctx, func(c conn) error { return c.pin(ctx, cl, now) })
}

// pin pins the use, or says why it cannot be pinned.
func (c conn) pin(ctx context.Context, cl uia.Claim, now time.Time) error {
	for range maxLooks {
		pinned, err := c.tryPin(ctx, cl, now)
		if pinned || err != nil {
			return err
		}
		u, err := c.use(ctx, cl)
		if err == nil && (u.state == uia.Held && u.run < cl.Run || u.state == uia.Pinned && u.run <= cl.Run) {
			continue // it has changed in between
		}
		return u.refuse(err)
	}
	return errBusy
}

func (c conn) tryPin(ctx context.Context, cl uia.Claim, now time.Time) (bool, error) {
	args := []any{ms(now), cl.Run, cl.Session, cl.Token}
	if c.s.dialect == PostgreSQL {
		var one int
		return c.one(ctx, pinUse, args, &one)
	}
	n, err := c.exec(ctx, pinHeld, args...)
	if err == nil && n > 0 {
		_, err = c.exec(ctx, countHeld, cl.Session, cl.Token)
	} else if err == nil {
		n, err = c.exec(ctx, pinAgain, args...)
	}
	return n > 0 && err == nil, err
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

// useRow is what is read of a use to explain a refusal.
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
	// Either there is no use or no token. (This is read only now, because a transaction
	// of SQLite must write before it reads.)
	found, err := c.one(ctx, `SELECT token_id FROM uia_uses WHERE session = $1 AND token = $2`,
		[]any{cl.Session, cl.Token}, &id)
	if err != nil {
		return 0, false, false, err
	}
	if !found {
		return 0, false, false, uia.ErrNotHeld
	}
	// If the use was made just now, its token exists: treating the token as deleted would
	// leave the use in the token's count for ever.
	exists, err = c.one(ctx, `UPDATE uia_tokens SET taken = taken WHERE id = $1 RETURNING revoked`, []any{id}, &flag)
	return id, flag != 0, exists, err
}

// giveBack takes deleted uses, some or all of them held, off the token's counts. The
// id is that of the uses: a token that was made again with the same value has another.
func (c conn) giveBack(ctx context.Context, id, uses, held int64) error {
	_, err := c.exec(ctx, `UPDATE uia_tokens SET taken = taken - $1, held = held - $2 WHERE id = $3`, uses, held, id)
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
		var done bool
		if exists && !revoked {
			done, err = c.holdPinned(ctx, id, cl, until, now)
		} else {
			done, err = c.dropPinned(ctx, id, cl, exists)
		}
		if done || err != nil {
			return err
		}
		u, err := c.use(ctx, cl)
		if err == nil && u.state == uia.Held && cl.Run > 0 && u.run == cl.Run {
			return nil // the answer to the first call was lost
		}
		return u.refuse(err)
	})
}

// holdPinned makes a use that is pinned by exactly this run held again, and reports
// whether there was one.
func (c conn) holdPinned(ctx context.Context, id int64, cl uia.Claim, until, now time.Time) (bool, error) {
	n, err := c.exec(ctx, `UPDATE uia_uses SET state = 1, stamp = $1, changed = $2
		WHERE session = $3 AND token = $4 AND token_id = $5 AND state = 2 AND run = $6`,
		ms(until), ms(now), cl.Session, cl.Token, id, cl.Run)
	if err != nil || n == 0 {
		return false, err
	}
	return true, c.giveBack(ctx, id, 0, -1)
}

// dropPinned deletes a use that is pinned by exactly this run, because its token is
// revoked or deleted, and reports whether there was one.
func (c conn) dropPinned(ctx context.Context, id int64, cl uia.Claim, tokenExists bool) (bool, error) {
	n, err := c.exec(ctx, `DELETE FROM uia_uses
		WHERE session = $1 AND token = $2 AND token_id = $3 AND state = 2 AND run = $4`,
		cl.Session, cl.Token, id, cl.Run)
	if err != nil || n == 0 || !tokenExists {
		return n > 0, err
	}
	return true, c.giveBack(ctx, id, n, 0)
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
		var state uia.UseState
		deleted, err := c.one(ctx, `DELETE FROM uia_uses WHERE session = $1 AND token = $2 AND token_id = $3
			AND (state = 2 AND run = $4 OR state = 1 AND run <= $4) RETURNING state`,
			[]any{cl.Session, cl.Token, id, cl.Run}, &state)
		if err != nil {
			return err
		}
		if !deleted {
			u, err := c.use(ctx, cl)
			return u.refuse(err)
		}
		if !exists {
			return nil // the token is gone, and its counts with it
		}
		if state == uia.Held {
			return c.giveBack(ctx, id, 1, 1)
		}
		return c.giveBack(ctx, id, 1, 0)
	})
}
