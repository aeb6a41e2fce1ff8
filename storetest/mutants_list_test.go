package storetest

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// editsQuery makes a mutant that changes the query or the page.
func editsQuery(before func(q *uia.TokenQuery), after func(q uia.TokenQuery, p *uia.TokenPage)) func(*broken) {
	return func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			asked := q
			if before != nil {
				before(&q)
			}
			p, err := b.model.ListTokens(ctx, q, now)
			if after != nil && err == nil {
				after(asked, &p)
			}
			return p, err
		}
	}
}

// sortsBy makes a mutant that pages by its own order.
func sortsBy(o uia.TokenOrder, key func(b *broken, c uia.TokenCursor) uia.TokenCursor) func(*broken) {
	return func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			if q.Order != o || q.Limit < 0 || q.Valid != nil || ctx.Err() != nil {
				return b.model.ListTokens(ctx, q, now)
			}
			var p uia.TokenPage
			compare := func(a, c uia.TokenCursor) int { return q.Compare(key(b, a), key(b, c)) }
			sorted := slices.SortedFunc(slices.Values(b.tokens), func(a, c *modelToken) int { return compare(cursor(o, a), cursor(o, c)) })
			for _, t := range sorted {
				if !strings.HasPrefix(t.Label, q.LabelPrefix) || q.After != nil && compare(cursor(o, t), *q.After) <= 0 {
					continue
				}
				if len(p.Tokens) == pageLimit(q.Limit) {
					p.Next = new(cursor(o, b.token(p.Tokens[len(p.Tokens)-1].Value)))
					break
				}
				p.Tokens = append(p.Tokens, b.view(t, now))
			}
			return p, nil
		}
	}
}

var listMutants = []mutant{
	{"sorts values as a dictionary does", sortsBy(uia.ByValue, func(_ *broken, c uia.TokenCursor) uia.TokenCursor {
		c.Value = strings.ToLower(c.Value) + c.Value
		return c
	})},
	{"puts never first", sortsBy(uia.ByExpires, func(_ *broken, c uia.TokenCursor) uia.TokenCursor {
		if c.Key == math.MaxInt64 {
			c.Key = math.MinInt64
		}
		return c
	})},
	{"puts any number first", sortsBy(uia.ByUsesAllowed, func(_ *broken, c uia.TokenCursor) uia.TokenCursor {
		if c.Key == math.MaxInt64 {
			c.Key = -1
		}
		return c
	})},
	{"sorts by creation in seconds", sortsBy(uia.ByCreated, func(_ *broken, c uia.TokenCursor) uia.TokenCursor {
		c.Key /= 1000
		return c
	})},
	{"forgets the key of a cursor", sortsBy(uia.ByUsesAllowed, func(_ *broken, c uia.TokenCursor) uia.TokenCursor {
		c.Key = 0
		return c
	})},
	{"lists in the order of creation only", editsQuery(func(q *uia.TokenQuery) { q.Order = uia.ByValue }, nil)},
	{"lists ascending only", editsQuery(func(q *uia.TokenQuery) { q.Descending = false }, nil)},
	{"needs the token that a cursor names", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			if q.After != nil && b.token(q.After.Value) == nil {
				q.After = nil
			}
			return b.model.ListTokens(ctx, q, now)
		}
	}},
	{"pages by offset", func(b *broken) {
		offset := 0
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			if q.After == nil {
				offset = 0
			}
			limit := q.Limit
			q.After, q.Limit = nil, 1000
			p, err := b.model.ListTokens(ctx, q, now)
			if err != nil || limit < 0 {
				return p, uia.ErrInvalid
			}
			p.Tokens = p.Tokens[min(offset, len(p.Tokens)):]
			if n := pageLimit(limit); len(p.Tokens) > n {
				p.Tokens, p.Next, offset = p.Tokens[:n], &uia.TokenCursor{Value: p.Tokens[n-1].Value}, offset+n
			}
			return p, nil
		}
	}},
	{"has no greatest page", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			p, err := b.model.ListTokens(ctx, q, now)
			for q.Limit > 1000 && err == nil && p.Next != nil {
				q.After = p.Next
				var more uia.TokenPage
				more, err = b.model.ListTokens(ctx, q, now)
				p.Tokens, p.Next = append(p.Tokens, more.Tokens...), more.Next
			}
			return p, err
		}
	}},
	{"lists all when no limit is given", editsQuery(func(q *uia.TokenQuery) {
		if q.Limit == 0 {
			q.Limit = 1000
		}
	}, nil)},
	{"takes a negative limit for the default", editsQuery(func(q *uia.TokenQuery) { q.Limit = max(0, q.Limit) }, nil)},
	{"ends a list a token early", editsQuery(nil, func(_ uia.TokenQuery, p *uia.TokenPage) {
		if p.Next != nil && len(p.Tokens) > 1 {
			p.Tokens = p.Tokens[:len(p.Tokens)-1]
		}
	})},
	{"gives short pages without a filter", editsQuery(func(q *uia.TokenQuery) {
		if q.Limit > 1 && q.LabelPrefix == "" && q.Valid == nil {
			q.Limit--
		}
	}, nil)},
	{"ends a filtered list with the first short page", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			valid := q.Valid
			q.Valid = nil
			p, err := b.model.ListTokens(ctx, q, now)
			full := len(p.Tokens)
			p.Tokens = slices.DeleteFunc(p.Tokens, func(t uia.Token) bool { return valid != nil && *valid != (t.Usable(now) == nil) })
			if len(p.Tokens) < full {
				p.Next = nil
			}
			return p, err
		}
	}},
	{"takes a label prefix for a pattern", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			if strings.ContainsAny(q.LabelPrefix, "%_") {
				q.LabelPrefix = q.LabelPrefix[:strings.IndexAny(q.LabelPrefix, "%_")]
			}
			return b.model.ListTokens(ctx, q, now)
		}
	}},
	{"takes a label prefix for part of a label", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			if q.LabelPrefix == "ab" {
				q.LabelPrefix = "a"
			}
			return b.model.ListTokens(ctx, q, now)
		}
	}},
	{"totals a page", editsQuery(nil, func(q uia.TokenQuery, p *uia.TokenPage) {
		if q.Total {
			p.Total = int64(len(p.Tokens))
		}
	})},
	{"totals whether or not it is asked to", editsQuery(func(q *uia.TokenQuery) { q.Total = true }, nil)},
	{"totals tokens that the filter drops", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			p, err := b.model.ListTokens(ctx, q, now)
			if q.Total {
				p.Total = int64(len(b.tokens))
			}
			return p, err
		}
	}},
	{"totals what is behind the cursor", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			p, err := b.model.ListTokens(ctx, q, now)
			if q.Total && q.After != nil {
				p.Total--
			}
			return p, err
		}
	}},
	{"lists as usable what expires now", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			return b.model.ListTokens(ctx, q, now.Add(-milli))
		}
	}},
	{"lists as used up what has lapsed holds only", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			p, err := b.model.ListTokens(ctx, q, now)
			if q.Valid != nil && *q.Valid {
				p.Tokens = slices.DeleteFunc(p.Tokens, func(t uia.Token) bool {
					return t.UsesAllowed != nil && *t.UsesAllowed == 1 && slices.ContainsFunc(b.uses, func(u *modelUse) bool { return u.Token == t.Value })
				})
			}
			return p, err
		}
	}},
	{"cannot list what is not usable", editsQuery(func(q *uia.TokenQuery) {
		if q.Valid != nil && !*q.Valid {
			q.Valid = nil
		}
	}, nil)},
}
