package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

const loadRecord = `SELECT revision, state, run, owner, lease, expires, data
	FROM uia_sessions WHERE key = $1 AND (expires > $2 OR state = 2)`

// LoadSession implements [uia.SessionStore] with one read.
func (s *Store) LoadSession(ctx context.Context, key string, now time.Time) (uia.Record, error) {
	if err := ctx.Err(); err != nil {
		return uia.Record{}, err
	}
	if !storable(key) {
		return uia.Record{}, uia.ErrNotFound
	}
	r := uia.Record{Key: key}
	err := s.read(ctx, func(c conn) error {
		var lease, expires int64
		found, err := c.one(ctx, loadRecord, []any{key, ms(now)},
			&r.Revision, &r.State, &r.Run, &r.Owner, &lease, &expires, &r.Data)
		if err != nil {
			return err
		}
		if !found {
			return uia.ErrNotFound
		}
		r.LeaseEnd, r.Expires = fromMS(lease), fromMS(expires)
		return nil
	})
	if err != nil {
		return uia.Record{}, err
	}
	return r, nil
}

// createRecord makes two calls that create the same record wait for each other at the
// primary key. The later call finds the record of the earlier one, which has not expired,
// and changes nothing.
const createRecord = `
	INSERT INTO uia_sessions (key, revision, state, run, owner, lease, expires, data)
	VALUES ($1, 1, $2, $3, $4, $5, $6, $7)` + orReplace

const orReplace = `
	ON CONFLICT (key) DO UPDATE SET revision = 1, state = excluded.state, run = excluded.run,
		owner = excluded.owner, lease = excluded.lease, expires = excluded.expires, data = excluded.data
	WHERE uia_sessions.expires <= $8 AND uia_sessions.state <> 2`

// createRecordIf is createRecord under a condition.
func createRecordIf(cond string) string {
	return `
	INSERT INTO uia_sessions (key, revision, state, run, owner, lease, expires, data)
	SELECT $1, 1, CAST($2 AS SMALLINT), CAST($3 AS BIGINT), $4, CAST($5 AS BIGINT), CAST($6 AS BIGINT), CAST($7 AS BYTEA)
	WHERE ` + cond + orReplace
}

const saveRecord = `
	UPDATE uia_sessions SET revision = revision + 1, state = $1, run = $2, owner = $3, lease = $4,
		expires = $5, data = $6
	WHERE key = $7 AND revision = $8`

// saveRecordIf is saveRecord under a condition.
func saveRecordIf(cond string) string { return saveRecord + ` AND ` + cond }

// maxData is the greatest length of a record's data.
const maxData = 1 << 20

// SaveSession implements [uia.SessionStore] with one statement. It is a compare-and-swap,
// so that database/sql may send it again after a lost connection: the second save finds
// another revision.
func (s *Store) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	if err := ctx.Err(); err != nil {
		return uia.Record{}, err
	}
	if !storable(r.Key) || !storable(r.Owner) || len(r.Data) > maxData {
		return uia.Record{}, fmt.Errorf("%w: session record", uia.ErrInvalid)
	}
	var err error
	switch st, g := s.state(ctx), s.group(ctx); {
	case st != nil && st.spending != nil && r.Revision > 0:
		err = s.spendWith(ctx, st, r, now)
	case g.defersSave(r, now):
	case g != nil && g.hold != nil && g.lease == nil:
		err = s.saveHeld(ctx, g, deferredSave{r, now}, nil, now)
	default:
		err = s.save(ctx, r, now)
	}
	if err != nil {
		return uia.Record{}, err
	}
	r.Revision++
	r.LeaseEnd, r.Expires = fromMS(ms(r.LeaseEnd)), fromMS(ms(r.Expires))
	r.Data = append([]byte(nil), r.Data...)
	return r, nil
}

func (s *Store) save(ctx context.Context, r uia.Record, now time.Time) error {
	query, args := recordStatement(r, now)
	return s.write(ctx, func(c conn) error {
		n, err := c.exec(ctx, query, args...)
		if err == nil && n == 0 {
			err = uia.ErrConflict
		}
		return err
	})
}

// recordStatement is the statement that saves the record. It changes no row if the
// record has another revision than expected.
func recordStatement(r uia.Record, now time.Time) (query string, args []any) {
	if r.Revision == 0 {
		return createRecord, createArgs(r, now)
	}
	return saveRecord, saveArgs(r)
}

// createArgs are the arguments of createRecord.
func createArgs(r uia.Record, now time.Time) []any {
	return []any{r.Key, int64(r.State), r.Run, r.Owner, ms(r.LeaseEnd), ms(r.Expires), notNull(r.Data), ms(now)}
}

// saveArgs are the arguments of saveRecord.
func saveArgs(r uia.Record) []any {
	return []any{int64(r.State), r.Run, r.Owner, ms(r.LeaseEnd), ms(r.Expires), notNull(r.Data), r.Key, r.Revision}
}

// notNull returns data as the column takes it: nil would be NULL.
func notNull(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// SweepSessions implements [uia.SessionStore] with one statement. The condition
// stands in the outer statement too, where PostgreSQL evaluates it again for a
// record that was saved meanwhile.
func (s *Store) SweepSessions(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if limit < 0 {
		return 0, fmt.Errorf("%w: negative limit", uia.ErrInvalid)
	}
	var n int64
	err := s.write(ctx, func(c conn) (err error) {
		const gone = `expires <= $1 AND (state <> 2 OR expires <= $2)`
		n, err = c.exec(ctx, `DELETE FROM uia_sessions WHERE `+gone+` AND key IN
			(SELECT key FROM uia_sessions WHERE `+gone+` ORDER BY expires, key LIMIT $3)`,
			ms(now), ms(now.Add(-24*time.Hour)), limit)
		return err
	})
	return int(n), err
}
