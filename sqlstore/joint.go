package sqlstore

import (
	"context"
	"time"

	"github.com/matrix-uia/uia"
)

// The joint statements of a Group on PostgreSQL. In each, a part reads what the
// part before it returns: that is the order in which they are run and lock, and
// none is run if the one before it changed nothing.

// claimAndPin is a save and a pin. The pin is made only if the record had the
// revision that was expected: runs are distinct because leases are, and a pin
// without its lease would share one.
//
// It locks the record before the use, and a transaction that ends a registration
// the use before the record. The two meet only when one has overtaken the other;
// then the database ends one of them (40P01), and that is run again.
func claimAndPin(save string) string {
	return `WITH saved AS (` + save + ` RETURNING 1),
	pinned AS (
		UPDATE uia_uses SET state = 2, stamp = $9, changed = $9, run = $10
		WHERE session = $11 AND token = $12 AND EXISTS (SELECT 1 FROM saved)
			AND (state = 1 AND run < $10 OR state = 2 AND run <= $10) RETURNING 1)
	SELECT EXISTS (SELECT 1 FROM pinned) FROM saved`
}

// holdAndSave is takeUse and a save, and if pin is set the use is pinned at once.
// If no use is free it changes nothing. If the record has another revision than
// expected it makes the hold alone, as the two statements would.
//
// It locks the token before the record, which no statement does the other way
// around. The use is new: nobody else has a lock on it.
func holdAndSave(save func(cond string) string, pin bool) string {
	use := `1, CAST($12 AS BIGINT), 0, '', $9, $9 FROM took`
	if pin {
		use = `CASE WHEN done THEN 2 ELSE 1 END, CASE WHEN done THEN CAST($13 AS BIGINT) ELSE $12 END,
			CASE WHEN done THEN CAST($14 AS BIGINT) ELSE 0 END, '', $9, CASE WHEN done THEN $13 ELSE $9 END
			FROM took LEFT JOIN saved ON true`
	}
	return `WITH took AS (` + takeTokenAt(9) + `),
	saved AS (` + save(`EXISTS (SELECT 1 FROM took)`) + ` RETURNING true AS done),
	made AS (
		INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
		SELECT $11, $10, id, ` + use + ` RETURNING 1)
	SELECT EXISTS (SELECT 1 FROM saved) FROM made`
}

var joint = struct{ createAndPin, saveAndPin, holdAndCreate, holdAndSave, holdCreatePin, holdSavePin string }{
	createAndPin: claimAndPin(createRecord), saveAndPin: claimAndPin(saveRecord),
	holdAndCreate: holdAndSave(createRecordIf, false), holdAndSave: holdAndSave(saveRecordIf, false),
	holdCreatePin: holdAndSave(createRecordIf, true), holdSavePin: holdAndSave(saveRecordIf, true),
}

// jointArgs are the arguments of the save, which come first in every joint
// statement, and whether it creates the record.
func (r deferredSave) jointArgs() (args []any, creates bool) {
	if r.Revision == 0 {
		return createArgs(r.Record, r.now), true
	}
	return saveArgs(r.Record), false
}

// saveHeld writes the hold that g has put off together with the record, and
// if cl is not nil with its pin. What it returns is the save's error.
func (s *Store) saveHeld(ctx context.Context, g *group, r deferredSave, cl *uia.Claim, now time.Time) error {
	h := *g.hold
	g.hold, g.lease = nil, nil
	args, creates := r.jointArgs()
	args = append(args, ms(h.now), h.Token, h.Session, ms(h.Until))
	query := joint.holdAndSave
	switch {
	case creates && cl != nil:
		query = joint.holdCreatePin
	case creates:
		query = joint.holdAndCreate
	case cl != nil:
		query = joint.holdSavePin
	}
	if cl != nil {
		args = append(args, ms(now), cl.Run)
	}
	var made, saved bool
	err := s.write(ctx, func(c conn) (err error) {
		made, err = c.one(ctx, query, args, &saved)
		return err
	})
	switch {
	case err == nil && !made, Duplicate(err):
		g.again = true // why there is no use to be had is for Reserve to say
		return errAgain
	case err == nil && !saved:
		err = uia.ErrConflict
	}
	return err
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
		u, err := c.use(ctx, cl)
		return u.refuse(err)
	})
}
