package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// spending is a Commit.
type spending struct {
	claim uia.Claim
	user  string
	now   time.Time
}

const commitUse = `UPDATE uia_uses SET state = 3, stamp = $1, changed = $1, user_id = $2
	WHERE session = $3 AND token = $4 AND state = 2 AND run = $5`

// Commit implements [uia.TokenStore] with one statement. It does not touch the
// token: in a caller's transaction the token would stay locked until that ends.
//
// In a transaction of [Store.InTx] on PostgreSQL it waits for the next call of the Store:
// that is the save of the session's record, with which it is sent as one statement. The
// error of the Commit is then returned by that call, or by InTx.
func (s *Store) Commit(ctx context.Context, cl uia.Claim, userID string, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if userID == "" || !storable(userID) {
		return fmt.Errorf("%w: user ID", uia.ErrInvalid)
	}
	if err := knowable(cl); err != nil {
		return err
	}
	p := spending{cl, userID, now}
	if st := s.state(ctx); st != nil && st.defers {
		if err := s.flush(ctx); err != nil {
			return err
		}
		st.spending = &p
		return nil
	}
	return s.spend(ctx, p)
}

func (s *Store) spend(ctx context.Context, p spending) error {
	return s.write(ctx, func(c conn) error {
		n, err := c.exec(ctx, commitUse, ms(p.now), p.user, p.claim.Session, p.claim.Token, p.claim.Run)
		if err != nil || n > 0 {
			return err
		}
		return c.notSpent(ctx, p)
	})
}

// notSpent says why a use could not be spent.
func (c conn) notSpent(ctx context.Context, p spending) error {
	u, err := c.use(ctx, p.claim)
	if err == nil && u.state == uia.Spent && u.run == p.claim.Run && u.user == p.user {
		return nil // the answer to the first call was lost
	}
	return u.refuse(err)
}

// spendAndSave is commitUse and saveRecord. Both locks are taken in the order in
// which the statements would take them: the save reads what the commit returns.
const spendAndSave = `WITH spent AS (` + commitUse + ` RETURNING 1), saved AS (
		UPDATE uia_sessions SET revision = revision + 1, state = $6, run = $7, owner = $8, lease = $9,
			expires = $10, data = $11
		WHERE key = $12 AND revision = $13 AND EXISTS (SELECT 1 FROM spent) RETURNING 1)
	SELECT (SELECT count(*) FROM spent), (SELECT count(*) FROM saved)`

// spendWith saves r together with the Commit that the transaction has put off.
func (s *Store) spendWith(ctx context.Context, st *txState, r uia.Record, now time.Time) error {
	p := *st.spending
	st.spending = nil
	args := append([]any{ms(p.now), p.user, p.claim.Session, p.claim.Token, p.claim.Run}, saveArgs(r)...)
	var spent, saved int64
	c := s.on(ctx)
	if _, err := c.one(ctx, spendAndSave, args, &spent, &saved); err != nil {
		return err
	}
	switch {
	case saved > 0:
		return nil
	case spent > 0:
		return uia.ErrConflict
	}
	if err := c.notSpent(ctx, p); err != nil {
		return err
	}
	return s.save(ctx, r, now)
}
