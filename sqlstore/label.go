package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/matrix-uia/uia"
)

// labelled returns all tokens behind the cursor whose label has the prefix, in
// order, or nil if more than n labels have it.
func (c conn) labelled(ctx context.Context, q uia.TokenQuery, n int) ([]tokenRow, error) {
	// Counting up to n+1 reads only the index and, because of the order, only that part
	// of it: otherwise PostgreSQL may look up all matching rows first.
	where, args := labelRange(q.LabelPrefix, 1)
	var matches int
	_, err := c.one(ctx, fmt.Sprintf(`SELECT count(*) FROM (SELECT 1 FROM uia_tokens WHERE %s ORDER BY label LIMIT $%d) few`, where, len(args)+1),
		append(args, n+1), &matches)
	if err != nil || matches > n {
		return nil, err
	}
	rows, err := c.rows(ctx, fmt.Sprintf(`SELECT %s FROM uia_tokens WHERE %s ORDER BY label LIMIT $%d`,
		tokenFields, where, len(args)+1), append(args, n+1), (*tokenRow).fields)
	if err != nil || len(rows) > n {
		return nil, err
	}
	at := make(map[int64]uia.TokenCursor, len(rows)) // of each row, by its id
	for _, r := range rows {
		at[r.id] = r.cursor(q.Order)
	}
	rows = slices.DeleteFunc(rows, func(r tokenRow) bool { return q.After != nil && q.Compare(at[r.id], *q.After) <= 0 })
	slices.SortFunc(rows, func(a, b tokenRow) int { return q.Compare(at[a.id], at[b.id]) })
	if rows == nil {
		rows = []tokenRow{}
	}
	return rows, nil
}

// labelRange returns a condition that holds for the labels that begin with
// prefix, perhaps for a few more, and that an index serves. Its parameters are
// numbered from first.
func labelRange(prefix string, first int) (string, []any) {
	// A parameter must not end in the middle of a character.
	for !utf8.ValidString(prefix) {
		prefix = prefix[:len(prefix)-1]
	}
	prefix, _, _ = strings.Cut(prefix, "\x00")
	where, args := fmt.Sprintf("label >= $%d", first), []any{prefix}
	if end := after(prefix); end != "" {
		where += fmt.Sprintf(" AND label < $%d", first+1)
		args = append(args, end)
	}
	return where, args
}

// after returns the least text that is greater than all that begin with prefix:
// its last character is the next one, because UTF-8 sorts like its characters.
// It is empty if there is none.
func after(prefix string) string {
	for prefix != "" {
		r, size := utf8.DecodeLastRuneInString(prefix)
		prefix = prefix[:len(prefix)-size]
		if r == 0xD7FF {
			return prefix + "\uE000" // no characters in between
		}
		if r < utf8.MaxRune {
			return prefix + string(r+1)
		}
	}
	return ""
}
