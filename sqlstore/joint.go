package sqlstore

import (
	"context"
	"time"

	"github.com/matrix-uia/uia"
)

// The joint statements of a Group on PostgreSQL. In each, a part reads what the
// part before it returns: that is the order in which they are run and lock, and
// none is run if the one before it changed nothing.

// leaseAndPin is a save and a pin. The pin is made only if the record had the expected
// revision: each lease has its own run number, and a pin without its lease could have the
// same run number as the lease that won.
//
// It locks the token, the record and the use, in this order. A transaction that ends a
// registration locks the use before the record: the two run at the same time only when
// one run has overtaken the other; the database then aborts one of them (40P01), which is
// run again.
func leaseAndPin(save func(cond string) string) string {
	return `WITH ` + ownToken(11) + `,
	saved AS (` + save(`(SELECT count(*) FROM own) >= 0`) + ` RETURNING 1),` + pinFrom(9, ` AND EXISTS (SELECT 1 FROM saved)`) + `
	SELECT EXISTS (SELECT 1 FROM fresh) OR EXISTS (SELECT 1 FROM again) FROM saved`
}

// holdAndSave is takeUse and a save. If no use is free it changes nothing. If the
// record has another revision than expected it makes the hold alone, as the two
// statements would.
//
// It locks the token before the record, which no statement does the other way
// around. The use is new: nobody else has a lock on it.
func holdAndSave(save func(cond string) string) string {
	return `WITH took AS (` + takeTokenAt(9) + `),
	saved AS (` + save(`EXISTS (SELECT 1 FROM took)`) + ` RETURNING 1),
	made AS (
		INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed, invited_by)
		SELECT $11, $10, id, 1, CAST($12 AS BIGINT), 0, '', $9, $9, created_by FROM took RETURNING 1)
	SELECT EXISTS (SELECT 1 FROM saved) FROM made`
}

// holdSaveAndPin takes a use, saves the record and pins the use at once, or changes
// nothing. If the record has another revision than expected, the use would have the state
// NULL, which the column does not take; if the session has a use of the token already, the
// primary key refuses another. Either error undoes the whole statement. So the token's row
// is written once, and neither locked first nor counted when it is known what the use has
// become, which would be a tenth of what a registration costs the database.
func holdSaveAndPin(save func(cond string) string) string {
	return `WITH took AS (UPDATE uia_tokens SET taken = taken + 1 WHERE ` + usableToken(9) + ` RETURNING id, created_by),
	saved AS (` + save(`EXISTS (SELECT 1 FROM took)`) + ` RETURNING 2)
	INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed, invited_by)
	SELECT $11, $10, id, (SELECT * FROM saved), CAST($12 AS BIGINT), CAST($13 AS BIGINT), '', $9, $12, created_by FROM took`
}

var joint = struct{ createAndPin, saveAndPin, holdAndCreate, holdAndSave, holdCreatePin, holdSavePin string }{
	createAndPin: leaseAndPin(createRecordIf), saveAndPin: leaseAndPin(saveRecordIf),
	holdAndCreate: holdAndSave(createRecordIf), holdAndSave: holdAndSave(saveRecordIf),
	holdCreatePin: holdSaveAndPin(createRecordIf), holdSavePin: holdSaveAndPin(saveRecordIf),
}

// jointArgs are the arguments of the save, which come first in every joint
// statement, and whether it creates the record.
func (r deferredSave) jointArgs() (args []any, creates bool) {
	if r.Revision == 0 {
		return createArgs(r.Record, r.now), true
	}
	return saveArgs(r.Record), false
}

// saveHeld writes the hold that g has put off together with the record, and if cl is not
// nil with its pin. It returns the error of the save.
func (s *Store) saveHeld(ctx context.Context, g *group, r deferredSave, cl *uia.Claim, now time.Time) error {
	h := *g.hold
	g.hold, g.lease = nil, nil
	made, saved, err := s.writeHeld(ctx, h, r, cl, now)
	switch {
	case err == nil && !made, Duplicate(err):
		g.again = true // each call by itself then says why
		return errAgain
	case err == nil && !saved:
		err = uia.ErrConflict
	}
	return err
}

// writeHeld reports whether the use was made, which it is not if none was free, and
// whether the record had the expected revision. On PostgreSQL a use that is to be pinned
// is not made either if the record was not saved.
func (s *Store) writeHeld(ctx context.Context, h deferredHold, r deferredSave, cl *uia.Claim, now time.Time) (made, saved bool, err error) {
	args, creates := r.jointArgs()
	args = append(args, ms(h.now), h.Token, h.Session)
	err = s.write(ctx, func(c conn) (err error) {
		switch {
		case s.dialect == SQLite:
			made, saved, err = c.writeHeld(ctx, h, r, cl, now)
		case cl != nil:
			query := joint.holdSavePin
			if creates {
				query = joint.holdCreatePin
			}
			var n int64
			n, err = c.exec(ctx, query, append(args, ms(now), cl.Run)...)
			if sqlState(err) == "23502" { // not_null_violation
				err = nil
			}
			made, saved = n > 0, n > 0
		default:
			query := joint.holdAndSave
			if creates {
				query = joint.holdAndCreate
			}
			made, err = c.one(ctx, query, append(args, ms(h.Until)), &saved)
		}
		return err
	})
	return made, saved, err
}

// writeHeld does the same statement by statement, in the transaction of the group on
// SQLite.
func (c conn) writeHeld(ctx context.Context, h deferredHold, r deferredSave, cl *uia.Claim, now time.Time) (made, saved bool, err error) {
	take := takeToken
	if cl != nil {
		take = takeTokenPinned
	}
	var id int64
	var creator string
	made, err = c.one(ctx, take, []any{ms(h.now), h.Token, h.Session}, &id, &creator)
	if !made || err != nil {
		return false, false, err
	}
	query, args := recordStatement(r.Record, r.now)
	n, err := c.exec(ctx, query, args...)
	if err != nil {
		return true, false, err
	}
	saved = n > 0
	if cl != nil && saved {
		_, err = c.exec(ctx, insertPinned, h.Session, h.Token, id, ms(now), cl.Run, ms(h.now), creator)
		return true, true, err
	}
	if _, err = c.exec(ctx, insertUse, h.Session, h.Token, id, ms(h.Until), ms(h.now), creator); err == nil && cl != nil {
		err = c.giveBack(ctx, id, 0, -1) // the use stays held
	}
	return true, saved, err
}

// pinLeased writes the lease that g has put off together with the pin.
func (s *Store) pinLeased(ctx context.Context, g *group, cl uia.Claim, now time.Time) error {
	r := *g.lease
	if h := g.hold; h != nil {
		if h.Token == cl.Token && h.Session == cl.Session {
			return s.saveHeld(ctx, g, r, &cl, now)
		}
		if err := s.flush(ctx); err != nil {
			return err
		}
		return s.Pin(ctx, cl, now)
	}
	if s.dialect == SQLite {
		if err := s.flush(ctx); err != nil {
			return err
		}
		return s.pin(ctx, cl, now)
	}
	g.lease = nil
	args, creates := r.jointArgs()
	query := joint.saveAndPin
	if creates {
		query = joint.createAndPin
	}
	args = append(args, ms(now), cl.Run, cl.Session, cl.Token)
	return s.write(ctx, func(c conn) error {
		var pinned bool
		saved, err := c.one(ctx, query, args, &pinned)
		switch {
		case err != nil:
			return err
		case !saved:
			return uia.ErrConflict
		case pinned:
			return nil
		}
		return c.pin(ctx, cl, now) // pin finds the reason for the refusal
	})
}
