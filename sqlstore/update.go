package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// UpdateToken implements [uia.TokenStore].
func (s *Store) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
	if err := ctx.Err(); err != nil {
		return uia.Token{}, err
	}
	if !uia.ValidTokenValue(value) {
		return uia.Token{}, uia.ErrNotFound
	}
	if err := p.Apply(uia.Token{Value: value}).Validate(); err != nil {
		return uia.Token{}, err
	}
	// taken = taken changes nothing, and locks the token also when p is empty.
	set := []string{"taken = taken"}
	var args []any
	add := func(column string, value any) {
		args = append(args, value)
		set = append(set, fmt.Sprintf("%s = $%d", column, len(args)))
	}
	if p.UsesAllowed != nil {
		add("uses_allowed", allowedColumn(*p.UsesAllowed))
	}
	if p.Expires != nil {
		add("expires", expiresColumn(*p.Expires))
	}
	if p.Revoked != nil {
		add("revoked", revokedColumn(*p.Revoked))
	}
	if p.Label != nil {
		add("label", *p.Label)
	}
	if p.Meta != nil {
		add("meta", metaColumn(*p.Meta))
	}
	args = append(args, value)
	query := fmt.Sprintf(`UPDATE uia_tokens SET %s WHERE token = $%d RETURNING id`, strings.Join(set, ", "), len(args))

	var t uia.Token
	err := s.atomic(ctx, func(ctx context.Context, c conn) error {
		// This locks the token. Reserve and Unpin write or lock it too, so none of
		// them can add a hold from here on; those that were before are seen by the
		// statements that follow.
		var id int64
		found, err := c.one(ctx, query, args, &id)
		if err != nil {
			return err
		}
		if !found {
			return uia.ErrNotFound
		}
		if p.Revoked != nil && *p.Revoked {
			if err := c.dropHolds(ctx, id); err != nil {
				return err
			}
		}
		row, err := c.token(ctx, value, now)
		if err == nil {
			t = row.token()
		}
		return err
	})
	return t, err
}

// dropHolds deletes the holds of a token that this transaction has locked. If a Pin comes
// at the same time, either the Pin is first, and then this statement waits for it and
// does not delete the use, or this statement is first, and then the Pin finds no hold.
func (c conn) dropHolds(ctx context.Context, id int64) error {
	n, err := c.exec(ctx, `DELETE FROM uia_uses WHERE token_id = $1 AND state = 1`, id)
	if err != nil || n == 0 {
		return err
	}
	return c.giveBack(ctx, id, n, n)
}

// DeleteToken implements [uia.TokenStore].
func (s *Store) DeleteToken(ctx context.Context, value string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !uia.ValidTokenValue(value) {
		return uia.ErrNotFound
	}
	return s.atomic(ctx, func(ctx context.Context, c conn) error {
		// Delete the token first: the next statement sees the use of a Reserve that came
		// before, and a Reserve that comes later finds no token. Of two deletions one
		// finds no row.
		var id int64
		found, err := c.one(ctx, `DELETE FROM uia_tokens WHERE token = $1 RETURNING id`, []any{value}, &id)
		if err != nil {
			return err
		}
		if !found {
			return uia.ErrNotFound
		}
		if _, err = c.exec(ctx, `DELETE FROM uia_uses WHERE token_id = $1 AND state = 1`, id); err != nil {
			return err
		}
		// This row lets ListUses find the uses that stay.
		_, err = c.exec(ctx, `INSERT INTO uia_deleted (id, token) SELECT u.token_id, u.token FROM uia_uses u WHERE u.token_id = $1 LIMIT 1`, id)
		return err
	})
}
