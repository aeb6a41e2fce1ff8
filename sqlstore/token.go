package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/matrix-uia/uia"
)

// always stands for "never expires" and "any number of uses", so that a plain
// comparison and an index treat both as the greatest.
const always = math.MaxInt64

// ms is how times are stored: milliseconds since 1970, UTC.
func ms(t time.Time) int64 { return t.UnixMilli() }

// fromMS is the inverse of ms. The zero time survives.
func fromMS(n int64) time.Time { return time.UnixMilli(n).UTC() }

// tokenRow is a row of uia_tokens, with what its uses add up to.
type tokenRow struct {
	id, allowed, taken, held, expires, revoked, created int64

	value, label, createdBy string
	meta                    sql.NullString

	pinned, firm int64 // pinned uses, and held ones that have not lapsed
	last         sql.NullInt64
}

// tokenFields are the columns of uia_tokens that tokenRow.fields scans.
const tokenFields = `id, token, uses_allowed, taken, held, expires, revoked, label, meta, created, created_by`

// tokenCounts are the columns that tokenRow.counts scans; $1 must be now. Neither
// spent uses nor holds that have lapsed are counted, because there may be millions
// of the former and a stranger who knows a token can make as many of the latter. The
// spent ones are inferred from taken and held, and some of them may have been spent
// elsewhere, before the token was created here. What is counted is few, and each
// count is a range of the index uia_uses_counts, as is the last use.
//
// Every range has two ends, because PostgreSQL without statistics assumes that such a
// range is narrow. It then reads only the index, and marks the entries of former states
// of uses as dead while it passes them. If it expects many rows, it builds a bitmap
// instead, from all those entries each time or even from all uses of the token, and does
// not change that plan.
//
// id, taken and held are the token's: uia_uses has no such columns.
const tokenCounts = `
	CASE WHEN taken = held THEN 0 ELSE (SELECT count(*) FROM uia_uses u WHERE u.token_id = id AND u.state = 2
		AND u.stamp BETWEEN -9223372036854775807 AND 9223372036854775807) END,
	CASE WHEN held = 0 THEN 0 ELSE (SELECT count(*) FROM uia_uses u WHERE u.token_id = id AND u.state = 1
		AND u.stamp > $1 AND u.stamp <= 9223372036854775807) END,
	CASE WHEN taken = held THEN NULL ELSE
		(SELECT max(u.stamp) FROM uia_uses u WHERE u.token_id = id AND u.state = 3) END`

func (r *tokenRow) fields() []any {
	return []any{&r.id, &r.value, &r.allowed, &r.taken, &r.held, &r.expires, &r.revoked, &r.label, &r.meta, &r.created, &r.createdBy}
}

func (r *tokenRow) counts() []any { return []any{&r.pinned, &r.firm, &r.last} }

func (r *tokenRow) all() []any { return append(r.fields(), r.counts()...) }

// token returns what the row says.
func (r *tokenRow) token() uia.Token {
	t := uia.Token{
		Value: r.value, Revoked: r.revoked != 0, Label: r.label,
		Created: fromMS(r.created), CreatedBy: r.createdBy,
		Pending: r.pinned + r.firm, Completed: r.taken - r.held - r.pinned,
	}
	if r.allowed != always {
		t.UsesAllowed = new(r.allowed)
	}
	if r.expires != always {
		t.Expires = fromMS(r.expires)
	}
	if r.meta.Valid {
		t.Meta = json.RawMessage(r.meta.String)
	}
	if r.last.Valid {
		t.LastUsed = fromMS(r.last.Int64)
	}
	return t
}

// Token implements [uia.TokenStore] with one read.
func (s *Store) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	if err := ctx.Err(); err != nil {
		return uia.Token{}, err
	}
	if !uia.ValidTokenValue(value) {
		return uia.Token{}, uia.ErrNotFound
	}
	var t uia.Token
	err := s.read(ctx, func(c conn) error {
		row, err := c.token(ctx, value, now)
		if err == nil {
			t = row.token()
		}
		return err
	})
	return t, err
}

const readToken = `SELECT ` + tokenFields + `, ` + tokenCounts + ` FROM uia_tokens WHERE token = $2`

// token reads a token. It is one statement, so that taken and the counts are
// those of one moment.
func (c conn) token(ctx context.Context, value string, now time.Time) (tokenRow, error) {
	var row tokenRow
	found, err := c.one(ctx, readToken, []any{ms(now), value}, row.all()...)
	if err == nil && !found {
		err = uia.ErrNotFound
	}
	return row, err
}

// batch is how many tokens one INSERT makes: ten parameters each, where SQLite
// takes 32,766 and PostgreSQL 65,535.
const batch = 200

// CreateTokens implements [uia.TokenStore].
func (s *Store) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(tokens) == 0 {
		return nil
	}
	for _, t := range tokens {
		if err := t.Validate(); err != nil {
			return err
		}
	}
	// Sorted, so that two batches that overlap take their locks in one order.
	tokens = slices.Clone(tokens)
	slices.SortFunc(tokens, func(a, b uia.Token) int { return strings.Compare(a.Value, b.Value) })
	for i := range tokens[1:] {
		if tokens[i].Value == tokens[i+1].Value {
			return uia.ErrExists
		}
	}
	joined := s.state(ctx) != nil
	return s.atomic(ctx, func(ctx context.Context, c conn) error {
		insert := func() error {
			for part := range slices.Chunk(tokens, batch) {
				if err := c.insertTokens(ctx, part); err != nil {
					return err
				}
			}
			return nil
		}
		if joined {
			return c.savepoint(ctx, insert)
		}
		return insert()
	})
}

// insertTokens adds the tokens or returns ErrExists, with some of them added.
// ON CONFLICT waits for another transaction that is making the same value, and
// unlike a violated constraint leaves a caller's transaction usable.
func (c conn) insertTokens(ctx context.Context, tokens []uia.Token) error {
	var query strings.Builder
	query.WriteString(`INSERT INTO uia_tokens (token, uses_allowed, taken, expires, revoked, label, meta, created, created_by) VALUES `)
	const columns = 9
	args := make([]any, 0, columns*len(tokens))
	for i, t := range tokens {
		if i > 0 {
			query.WriteString(", ")
		}
		args = append(args, t.Value, allowedColumn(t.UsesAllowed), t.Completed, expiresColumn(t.Expires), revokedColumn(t.Revoked),
			t.Label, metaColumn(t.Meta), ms(t.Created), t.CreatedBy)
		query.WriteByte('(')
		for j := range columns {
			if j > 0 {
				query.WriteString(", ")
			}
			query.WriteString("$" + strconv.Itoa(columns*i+j+1))
		}
		query.WriteByte(')')
	}
	query.WriteString(` ON CONFLICT (token) DO NOTHING`)
	n, err := c.exec(ctx, query.String(), args...)
	if err == nil && n != int64(len(tokens)) {
		err = uia.ErrExists
	}
	return err
}

// savepoint runs fn in a caller's transaction and undoes what it did if it fails.
func (c conn) savepoint(ctx context.Context, fn func() error) error {
	if _, err := c.exec(ctx, "SAVEPOINT uia"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		// The first error is the one to report: if the transaction has failed for good,
		// this statement fails too.
		_, _ = c.exec(ctx, "ROLLBACK TO SAVEPOINT uia")
		_, _ = c.exec(ctx, "RELEASE SAVEPOINT uia")
		return err
	}
	_, err := c.exec(ctx, "RELEASE SAVEPOINT uia")
	return err
}

func allowedColumn(n *int64) int64 {
	if n == nil {
		return always
	}
	return *n
}

func expiresColumn(t time.Time) int64 {
	if t.IsZero() {
		return always
	}
	return ms(t)
}

func revokedColumn(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func metaColumn(m json.RawMessage) sql.NullString {
	return sql.NullString{String: string(m), Valid: m != nil}
}

// storable reports whether s can be a text value: PostgreSQL refuses NUL and what
// is not UTF-8, with an error that would end a caller's transaction.
func storable(s string) bool {
	return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}
