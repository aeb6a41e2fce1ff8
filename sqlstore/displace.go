package sqlstore

import (
	"context"
	"time"

	"github.com/matrix-uia/uia"
)

// displace takes the place of holds that have lapsed. ok is false if that is no
// longer possible or no longer needed, and then nothing was changed.
func (c conn) displace(ctx context.Context, id int64, h uia.Hold, now time.Time) (ok bool, err error) {
	err = c.s.atomic(ctx, func(ctx context.Context, c conn) (err error) {
		ok, err = c.displaceLocked(ctx, id, h, now)
		return err
	})
	return ok && err == nil, err
}

func (c conn) displaceLocked(ctx context.Context, id int64, h uia.Hold, now time.Time) (ok bool, err error) {
	// Lock the token by writing it. From here on nobody adds a use of it, so what
	// the next statements count stays true.
	var taken, allowed int64
	var creator string
	ok, err = c.one(ctx, `UPDATE uia_tokens SET taken = taken WHERE id = $1 AND revoked = 0 AND expires > $2
		RETURNING taken, uses_allowed, created_by`, []any{id, ms(now)}, &taken, &allowed, &creator)
	if !ok || err != nil {
		return false, err
	}
	need := taken - allowed + 1
	if need <= 0 {
		return false, nil
	}
	// The holds that lapsed first. They are locked, because a Pin, which does not write
	// the token, may be taking one of them: either the Pin comes first, and then the hold
	// is not among these, or the Pin finds no hold. No more holds are selected than
	// needed; if there are fewer, none is deleted.
	query := `SELECT stamp, session FROM uia_uses WHERE token_id = $1 AND state = 1 AND stamp <= $2
		ORDER BY stamp, session LIMIT $3`
	if c.s.dialect == PostgreSQL {
		query += ` FOR UPDATE`
	}
	var n, stamp int64
	var session string
	err = c.each(ctx, query, []any{id, ms(now), need}, func(row scanner) error {
		n++
		return row.Scan(&stamp, &session)
	})
	if err != nil || n < need {
		return false, err
	}
	// The session may have got a use since it was looked for.
	made, err := c.exec(ctx, insertUse, h.Session, h.Token, id, ms(h.Until), ms(now), creator)
	if err != nil || made == 0 {
		return false, err
	}
	// The new hold itself may be in this range, when its Until has passed already.
	gone, err := c.exec(ctx, `DELETE FROM uia_uses WHERE token_id = $1 AND state = 1 AND (stamp, session) <= ($2, $3)
		AND session <> $4`, id, stamp, session, h.Session)
	if err != nil {
		return false, err
	}
	_, err = c.exec(ctx, `UPDATE uia_tokens SET taken = taken + 1 - $1, held = held + 1 - $2 WHERE id = $3`, gone, gone, id)
	return err == nil, err
}
