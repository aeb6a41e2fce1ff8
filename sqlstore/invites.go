package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

var _ uia.InviteStore = (*Store)(nil)

// lockCreator makes this transaction the only one that creates invitations of the
// creator, or revokes them together: the others wait here. What the statements that follow
// count therefore stays true. Counting alone would not do: on PostgreSQL a count does not
// see what another transaction has not yet committed.
func (c conn) lockCreator(ctx context.Context, name string) error {
	_, err := c.exec(ctx, `INSERT INTO uia_creators (name) VALUES ($1) ON CONFLICT (name) DO UPDATE SET name = excluded.name`, name)
	return err
}

// liveTokens is the condition of uia.Token.Live for the tokens of the creator $1 at $2.
// taken - held are the uses that are pinned or spent: only where they have reached the
// limit do the pinned ones have to be counted.
const liveTokens = `created_by = $1 AND revoked = 0 AND expires > $2 AND (taken - held < uses_allowed OR taken - held -
	(SELECT count(*) FROM uia_uses u WHERE u.token_id = id AND u.state = 2
		AND u.stamp BETWEEN -9223372036854775807 AND 9223372036854775807) < uses_allowed)`

// CreateInvite implements [uia.InviteStore].
func (s *Store) CreateInvite(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.Validate(); err != nil {
		return err
	}
	if t.CreatedBy == "" {
		return fmt.Errorf("%w: created by", uia.ErrInvalid)
	}
	joined := s.state(ctx) != nil
	return s.atomic(ctx, func(ctx context.Context, c conn) error {
		insert := func() error {
			if err := c.lockCreator(ctx, t.CreatedBy); err != nil {
				return err
			}
			if err := c.withinLimit(ctx, t.CreatedBy, limit, now); err != nil {
				return err
			}
			return c.insertTokens(ctx, []uia.Token{t})
		}
		if joined {
			return c.savepoint(ctx, insert)
		}
		return insert()
	})
}

// withinLimit returns ErrQuota unless the creator may have one more token. It counts no
// further than the limit.
func (c conn) withinLimit(ctx context.Context, creator string, limit uia.InviteLimit, now time.Time) error {
	if limit.Live <= 0 || limit.Recent <= 0 {
		return uia.ErrQuota
	}
	var n int
	_, err := c.one(ctx, `SELECT count(*) FROM (SELECT 1 FROM uia_tokens WHERE `+liveTokens+` LIMIT $3) few`,
		[]any{creator, ms(now), limit.Live}, &n)
	if err != nil || n >= limit.Live {
		return quota(err)
	}
	_, err = c.one(ctx, `SELECT count(*) FROM (SELECT 1 FROM uia_tokens WHERE created_by = $1 AND created >= $2 LIMIT $3) few`,
		[]any{creator, ms(limit.Since), limit.Recent}, &n)
	if err != nil || n >= limit.Recent {
		return quota(err)
	}
	return nil
}

// quota returns err, or else that the limit is reached.
func quota(err error) error {
	if err == nil {
		err = uia.ErrQuota
	}
	return err
}

// ListCreated implements [uia.InviteStore].
func (s *Store) ListCreated(ctx context.Context, q uia.CreatedQuery, now time.Time) (page uia.TokenPage, err error) {
	if err := ctx.Err(); err != nil {
		return page, err
	}
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return page, err
	}
	after := uia.TokenCursor{Key: always}
	if q.After != nil {
		after = *q.After
	}
	if !storable(after.Value) {
		return page, fmt.Errorf("%w: cursor", uia.ErrInvalid)
	}
	if !storable(q.CreatedBy) {
		return page, nil // nobody is called that
	}
	err = s.read(ctx, func(c conn) error {
		page = uia.TokenPage{}
		rows, err := c.rows(ctx, `SELECT `+tokenFields+` FROM uia_tokens WHERE created_by = $1
				AND created BETWEEN -9223372036854775807 AND $2 AND (created, token) < ($2, $3)
			ORDER BY created DESC, token DESC LIMIT $4`, []any{q.CreatedBy, after.Key, after.Value, limit + 1}, (*tokenRow).fields)
		if err != nil {
			return err
		}
		if len(rows) > limit {
			rows = rows[:limit]
			page.Next = new(rows[limit-1].cursor(uia.ByCreated))
		}
		page.Tokens, err = c.counted(ctx, rows, limit, now)
		return err
	})
	return page, err
}

// counted returns the tokens with their counts, without those that have been deleted
// since the rows were read.
func (c conn) counted(ctx context.Context, rows []tokenRow, limit int, now time.Time) (tokens []uia.Token, err error) {
	for len(rows) > 0 {
		part := rows[:countable(rows, limit)]
		rows = rows[len(part):]
		counted, err := c.count(ctx, part, now)
		if err != nil {
			return nil, err
		}
		for _, row := range part {
			if r, there := counted[row.id]; there {
				tokens = append(tokens, r.token())
			}
		}
	}
	return tokens, nil
}

// RevokeCreated implements [uia.InviteStore]. The tokens are locked in the order of
// their values, as everywhere.
func (s *Store) RevokeCreated(ctx context.Context, createdBy string, limit int, now time.Time) (values []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if limit < 1 {
		return nil, fmt.Errorf("%w: limit below 1", uia.ErrInvalid)
	}
	if !storable(createdBy) {
		return nil, nil
	}
	// Most members of a branch have no live token, and then nothing is written.
	var live []string
	err = s.read(ctx, func(c conn) error {
		live, err = c.live(ctx, createdBy, 1, now)
		return err
	})
	if err != nil || len(live) == 0 {
		return nil, err
	}
	err = s.atomic(ctx, func(ctx context.Context, c conn) error {
		if err := c.lockCreator(ctx, createdBy); err != nil {
			return err
		}
		live, err := c.live(ctx, createdBy, limit, now)
		if err == nil {
			values, err = c.revoke(ctx, createdBy, live)
		}
		return err
	})
	return values, err
}

// live returns the values of at most limit live tokens of a creator, in order.
func (c conn) live(ctx context.Context, creator string, limit int, now time.Time) (values []string, err error) {
	err = c.each(ctx, `SELECT token FROM uia_tokens WHERE `+liveTokens+` ORDER BY token LIMIT $3`,
		[]any{creator, ms(now), limit}, func(row scanner) error {
			var value string
			err := row.Scan(&value)
			values = append(values, value)
			return err
		})
	return values, err
}

// revoke revokes the tokens that have not been deleted meanwhile, and returns their
// values.
func (c conn) revoke(ctx context.Context, creator string, values []string) (revoked []string, err error) {
	for _, value := range values {
		var id int64
		found, err := c.one(ctx, `UPDATE uia_tokens SET revoked = 1 WHERE token = $1 AND created_by = $2 RETURNING id`, []any{value, creator}, &id)
		if err == nil && found {
			revoked = append(revoked, value)
			err = c.dropHolds(ctx, id)
		}
		if err != nil {
			return nil, err
		}
	}
	return revoked, nil
}

// listInvited examines the accounts of one inviter in order. The rows are chosen before
// anything else is asked of them: PostgreSQL without statistics would otherwise ask it of
// every account of the inviter, and sort then. The range has two ends for the same reason
// as in tokenCounts: otherwise PostgreSQL reads all accounts of the inviter and sorts them,
// instead of following the index. For each it says to which use the account
// belongs, and whether the account invites. The conditions on
// user_id and invited_by are those of the indexes.
const listInvited = `SELECT ` + useFields + `,
		(SELECT o.session || '/' || o.token FROM uia_uses o WHERE o.user_id = u.user_id AND o.user_id <> '' AND o.invited_by <> ''
			ORDER BY o.changed DESC, o.session DESC, o.token DESC LIMIT 1),
		(SELECT count(*) FROM (SELECT 1 FROM uia_uses c WHERE c.invited_by = u.user_id AND c.user_id <> '' AND c.invited_by <> '' LIMIT 1) one)
	FROM (SELECT * FROM uia_uses i WHERE i.invited_by = $1 AND i.user_id <> '' AND i.invited_by <> ''
			AND i.made BETWEEN -9223372036854775807 AND $2 AND (i.made, i.session) < ($2, $3)
		ORDER BY i.made DESC, i.session DESC LIMIT $4) u
	ORDER BY u.made DESC, u.session DESC`

// ListInvited implements [uia.InviteStore].
func (s *Store) ListInvited(ctx context.Context, q uia.InvitedQuery) (page uia.InvitedPage, err error) {
	if err := ctx.Err(); err != nil {
		return page, err
	}
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return page, err
	}
	made, session := int64(always), ""
	if q.After != nil {
		made, session = ms(q.After.Made), q.After.Session
	}
	if !storable(session) {
		return page, fmt.Errorf("%w: cursor", uia.ErrInvalid)
	}
	if q.InvitedBy == "" || !storable(q.InvitedBy) {
		return page, nil
	}
	err = s.read(ctx, func(c conn) error {
		page = uia.InvitedPage{}
		examined, last := 0, uia.UseCursor{}
		return c.each(ctx, listInvited, []any{q.InvitedBy, made, session, limit + 1}, func(row scanner) error {
			var belongs string
			var invites int
			u, err := scanUse(row, &belongs, &invites)
			if err != nil {
				return err
			}
			if examined++; examined > limit {
				page.Next = &last
				return nil
			}
			last = uia.UseCursor{Made: u.Made, Session: u.Session}
			if belongs == u.Session+"/"+u.Token {
				page.Invited = append(page.Invited, uia.Invited{Use: u, Invites: invites > 0})
			}
			return nil
		})
	})
	return page, err
}

// InviteOf implements [uia.InviteStore].
func (s *Store) InviteOf(ctx context.Context, userID string) (u uia.Use, err error) {
	if err := ctx.Err(); err != nil {
		return u, err
	}
	if userID == "" || !storable(userID) {
		return u, uia.ErrNotFound
	}
	err = s.read(ctx, func(c conn) error {
		found := false
		err := c.each(ctx, `SELECT `+useFields+` FROM uia_uses u WHERE u.user_id = $1 AND u.user_id <> '' AND u.invited_by <> ''
			ORDER BY u.changed DESC, u.session DESC, u.token DESC LIMIT 1`, []any{userID}, func(row scanner) (err error) {
			found = true
			u, err = scanUse(row)
			return err
		})
		if err == nil && !found {
			err = uia.ErrNotFound
		}
		return err
	})
	return u, err
}
