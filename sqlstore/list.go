package sqlstore

import (
	"context"
	"fmt"
	"slices"
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

// cursor returns the row's place in an order.
func (r *tokenRow) cursor(o uia.TokenOrder) uia.TokenCursor {
	c, _ := o.Cursor(r.token()) // ListTokens has looked at the order
	return c
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
	if _, err := q.Order.Cursor(uia.Token{}); err != nil {
		return uia.TokenPage{}, err
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
	rows, more, err := c.examine(ctx, q, limit)
	if err != nil || len(rows) == 0 {
		return page, err
	}
	next := func(r tokenRow) *uia.TokenCursor { return new(r.cursor(q.Order)) }
	last := rows[len(rows)-1]
	if more {
		page.Next = next(last)
	}
	rows = slices.DeleteFunc(rows, func(r tokenRow) bool { return !r.passes(q, now) })
	for rest := rows; len(rest) > 0; {
		part := rest[:countable(rest, limit)]
		rest = rest[len(part):]
		counted, err := c.count(ctx, part, now)
		if err != nil {
			return page, err
		}
		for _, row := range part {
			r, there := counted[row.id] // false if the token has been deleted meanwhile
			if !there || !r.wanted(q, now) {
				continue
			}
			if page.Tokens = append(page.Tokens, r.token()); len(page.Tokens) < limit {
				continue
			}
			if more || row.id != last.id {
				page.Next = next(row)
			}
			return page, nil
		}
	}
	return page, nil
}

// wanted reports whether the token, whose uses are counted, is one that q asks for.
func (r *tokenRow) wanted(q uia.TokenQuery, now time.Time) bool {
	return r.passes(q, now) && (q.Valid == nil || *q.Valid == (r.token().Usable(now) == nil))
}

// passes reports whether the token may be one that q asks for. It does not count uses, so
// it may say yes to a token that has none left.
func (r *tokenRow) passes(q uia.TokenQuery, now time.Time) bool {
	if !strings.HasPrefix(r.label, q.LabelPrefix) {
		return false
	}
	switch {
	case q.Valid == nil:
		return true
	case r.revoked != 0 || r.expires <= ms(now):
		return !*q.Valid
	case r.taken < r.allowed:
		return *q.Valid
	}
	return true
}

// countable returns how many of the rows to count at once: as many as the page may
// need and one statement can count.
func countable(rows []tokenRow, limit int) int {
	used := 0
	for i, r := range rows {
		if r.taken > 0 {
			used++
		}
		if used > countBatch || i == max(limit, countBatch) {
			return i
		}
	}
	return len(rows)
}

// countBatch is how many tokens' uses are counted in one statement. Counting for a whole
// page at once looks so expensive to PostgreSQL, when it has no statistics, that
// PostgreSQL compiles the statement first, which takes a second.
const countBatch = 200

// count reads the rows again, by id, with what their uses add up to. Tokens that
// nobody has used, as most are, need no reading.
func (c conn) count(ctx context.Context, rows []tokenRow, now time.Time) (map[int64]tokenRow, error) {
	counted := make(map[int64]tokenRow, len(rows))
	args := make([]any, 1, countBatch+1)
	args[0] = ms(now)
	for _, r := range rows {
		if r.taken == 0 {
			counted[r.id] = r
		} else {
			args = append(args, r.id)
		}
	}
	if len(args) == 1 {
		return counted, nil
	}
	for len(args) <= countBatch { // always the same statement
		args = append(args, args[1])
	}
	used, err := c.rows(ctx, countTokens, args, (*tokenRow).all)
	for _, r := range used {
		counted[r.id] = r
	}
	return counted, err
}

var countTokens = func() string {
	params := make([]string, countBatch)
	for i := range params {
		params[i] = fmt.Sprintf("$%d", i+2)
	}
	return `SELECT ` + tokenFields + `, ` + tokenCounts + ` FROM uia_tokens WHERE id IN (` + strings.Join(params, ", ") + `)`
}()

// examine returns the tokens behind the cursor, in order, among which the page is
// to be found; more says that there are others behind them.
func (c conn) examine(ctx context.Context, q uia.TokenQuery, limit int) (rows []tokenRow, more bool, err error) {
	n := limit
	if q.Valid != nil || q.LabelPrefix != "" {
		n = max(limit, window)
	}
	if q.LabelPrefix != "" {
		// If few labels match, the index of labels gives all of them at once. If many
		// do, a range of the order has its share of them.
		rows, err := c.labelled(ctx, q, n)
		if rows != nil || err != nil {
			return rows, false, err
		}
	}
	var args []any
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
		where = "WHERE token " + op + " $1"
		args = append(args, q.After.Value)
	default:
		where = "WHERE (" + column + ", token) " + op + " ($1, $2)"
		args = append(args, q.After.Key, q.After.Value)
	}
	args = append(args, n+1)
	query := fmt.Sprintf(`SELECT %s FROM uia_tokens %s ORDER BY %s LIMIT $%d`, tokenFields, where, order, len(args))
	rows, err = c.rows(ctx, query, args, (*tokenRow).fields)
	if len(rows) > n {
		return rows[:n], true, err
	}
	return rows, false, err
}

// rows returns the tokens that a query finds; into returns the destinations of the
// columns.
func (c conn) rows(ctx context.Context, query string, args []any, into func(*tokenRow) []any) (rows []tokenRow, err error) {
	err = c.each(ctx, query, args, func(row scanner) error {
		var r tokenRow
		err := row.Scan(into(&r)...)
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
			return c.countPages(ctx, q, now)
		}
		where, args = labelRange(q.LabelPrefix, 1)
	}
	if q.Valid != nil {
		args = append(args, ms(now))
		param := fmt.Sprintf("$%d", len(args))
		usable := `revoked = 0 AND expires > ` + param + ` AND (taken < uses_allowed OR
			taken - held + (SELECT count(*) FROM uia_uses u WHERE u.token_id = id AND u.state = 1 AND u.stamp > ` + param + `)
			< uses_allowed)`
		if !*q.Valid {
			usable = "NOT (" + usable + ")"
		}
		where += " AND (" + usable + ")"
	}
	_, err = c.one(ctx, `SELECT count(*) FROM uia_tokens WHERE `+where, args, &n)
	return n, err
}

// countPages counts page by page, for a prefix that ends within a character and so
// cannot be a parameter.
func (c conn) countPages(ctx context.Context, q uia.TokenQuery, now time.Time) (n int64, err error) {
	for q.After = nil; ; {
		page, err := c.page(ctx, q, window, now)
		n += int64(len(page.Tokens))
		if q.After = page.Next; q.After == nil || err != nil {
			return n, err
		}
	}
}
