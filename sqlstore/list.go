package sqlstore

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// window is how many tokens a filtered page examines. It bounds what a page
// costs when few tokens, or none, pass the filter.
const window = 500

// orderColumn is what each order sorts by before the value. Each has an index.
var orderColumn = map[uia.TokenOrder]string{
	uia.ByValue:       "",
	uia.ByCreated:     "created",
	uia.ByExpires:     "expires",
	uia.ByUsesAllowed: "uses_allowed",
}

// key returns the row's key in an order.
func (r *tokenRow) key(o uia.TokenOrder) int64 {
	switch o {
	case uia.ByCreated:
		return r.created
	case uia.ByExpires:
		return r.expires
	case uia.ByUsesAllowed:
		return r.allowed
	}
	return 0
}

// ListTokens implements [uia.TokenStore]. A page is a range of an index, never an
// offset. Valid is decided by [uia.Token.Usable] on the rows of that range.
func (s *Store) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
	if err := ctx.Err(); err != nil {
		return uia.TokenPage{}, err
	}
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return uia.TokenPage{}, err
	}
	if _, ok := orderColumn[q.Order]; !ok {
		return uia.TokenPage{}, fmt.Errorf("%w: order %d", uia.ErrInvalid, int(q.Order))
	}
	if q.After != nil && !storable(q.After.Value) {
		return uia.TokenPage{}, fmt.Errorf("%w: cursor", uia.ErrInvalid)
	}
	var page uia.TokenPage
	err = s.read(ctx, func(c conn) (err error) {
		if page, err = c.page(ctx, q, limit, now); err == nil && q.Total {
			page.Total, err = c.total(ctx, q, now)
		}
		return err
	})
	return page, err
}

// page returns one page without its total.
func (c conn) page(ctx context.Context, q uia.TokenQuery, limit int, now time.Time) (page uia.TokenPage, err error) {
	rows, more, err := c.examine(ctx, q, limit, now)
	if err != nil {
		return page, err
	}
	for i, row := range rows {
		t := row.token()
		if strings.HasPrefix(t.Label, q.LabelPrefix) && (q.Valid == nil || *q.Valid == (t.Usable(now) == nil)) {
			page.Tokens = append(page.Tokens, t)
		}
		last := i == len(rows)-1
		if (last || len(page.Tokens) == limit) && (!last || more) {
			page.Next = &uia.TokenCursor{Key: row.key(q.Order), Value: row.value}
			break
		}
	}
	return page, nil
}

// examine returns the tokens behind the cursor, in order, among which the page is
// to be found; more says that there are others behind them.
func (c conn) examine(ctx context.Context, q uia.TokenQuery, limit int, now time.Time) (rows []tokenRow, more bool, err error) {
	n := limit
	if q.Valid != nil || q.LabelPrefix != "" {
		n = max(limit, window)
	}
	if q.LabelPrefix != "" {
		// If few labels match, the index of labels gives all of them at once. If many
		// do, a range of the order has its share of them.
		rows, err := c.labelled(ctx, q, n, now)
		if rows != nil || err != nil {
			return rows, false, err
		}
	}
	args := []any{ms(now)}
	where := ""
	column, op, dir := orderColumn[q.Order], ">", ""
	if q.Descending {
		op, dir = "<", " DESC"
	}
	order := "token" + dir
	if column != "" {
		order = column + dir + ", " + order
	}
	switch {
	case q.After == nil:
	case column == "":
		where = "WHERE token " + op + " $2"
		args = append(args, q.After.Value)
	default:
		where = "WHERE (" + column + ", token) " + op + " ($2, $3)"
		args = append(args, q.After.Key, q.After.Value)
	}
	args = append(args, n+1)
	query := fmt.Sprintf(`SELECT %s, %s FROM uia_tokens %s ORDER BY %s LIMIT $%d`,
		tokenFields, tokenCounts, where, order, len(args))
	rows, err = c.rows(ctx, query, args)
	if len(rows) > n {
		return rows[:n], true, err
	}
	return rows, false, err
}

func (c conn) rows(ctx context.Context, query string, args []any) (rows []tokenRow, err error) {
	err = c.each(ctx, query, args, func(row scanner) error {
		var r tokenRow
		err := row.Scan(r.all()...)
		rows = append(rows, r)
		return err
	})
	return rows, err
}

// total counts what the filters keep. The condition is that of Usable.
func (c conn) total(ctx context.Context, q uia.TokenQuery, now time.Time) (n int64, err error) {
	where := "1 = 1"
	var args []any
	if q.LabelPrefix != "" {
		if !storable(q.LabelPrefix) {
			return c.count(ctx, q, now)
		}
		where, args = labelRange(q.LabelPrefix, 1)
	}
	if q.Valid != nil {
		args = append(args, ms(now))
		param := fmt.Sprintf("$%d", len(args))
		usable := `revoked = 0 AND expires > ` + param + ` AND (taken < uses_allowed OR
			taken - (SELECT count(*) FROM uia_uses u WHERE u.token_id = id AND u.state = 1 AND u.stamp <= ` + param + `)
			< uses_allowed)`
		if !*q.Valid {
			usable = "NOT (" + usable + ")"
		}
		where += " AND (" + usable + ")"
	}
	_, err = c.one(ctx, `SELECT count(*) FROM uia_tokens WHERE `+where, args, &n)
	return n, err
}

// count counts page by page, for a prefix that ends within a character and so
// cannot be a parameter.
func (c conn) count(ctx context.Context, q uia.TokenQuery, now time.Time) (n int64, err error) {
	for q.After = nil; ; {
		page, err := c.page(ctx, q, window, now)
		n += int64(len(page.Tokens))
		if q.After = page.Next; q.After == nil || err != nil {
			return n, err
		}
	}
}
