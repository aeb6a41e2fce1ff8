package storetest

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/matrix-uia/uia"
)

// model is the contract in its plainest form: lists, searched from end to end
// under one lock. Other stores are compared with it, and the broken stores that
// prove the kit are made from it.
type model struct {
	turn    sync.RWMutex // held by a transaction, and shared by the calls outside of any
	mu      sync.Mutex   // held by each call
	tokens  []*modelToken
	uses    []*modelUse
	records map[string]uia.Record
}

type modelToken struct {
	uia.Token
	imported int64 // uses that were spent before the token was created
}

type modelUse struct {
	uia.Use
	of *modelToken // which may be deleted
}

func newModel() *model { return &model{records: map[string]uia.Record{}} }

// inTx is the context key of who is in a transaction.
type inTx struct{}

// lock is what each method begins with.
func (m *model) lock(ctx context.Context) (unlock func()) {
	if ctx.Value(inTx{}) != nil {
		m.mu.Lock()
		return m.mu.Unlock
	}
	m.turn.RLock()
	m.mu.Lock()
	return func() {
		m.mu.Unlock()
		m.turn.RUnlock()
	}
}

func trunc(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

func (m *model) token(value string) *modelToken {
	for _, t := range m.tokens {
		if t.Value == value {
			return t
		}
	}
	return nil
}

func (m *model) use(token, session string) *modelUse {
	for _, u := range m.uses {
		if u.Token == token && u.Session == session {
			return u
		}
	}
	return nil
}

// remove deletes up to limit uses which are as described, and returns how many.
func (m *model) remove(limit int, described func(*modelUse) bool) (n int) {
	m.uses = slices.DeleteFunc(m.uses, func(u *modelUse) bool {
		if n < limit && described(u) {
			n++
			return true
		}
		return false
	})
	return n
}

// view returns a copy of the token with its counters.
func (m *model) view(t *modelToken, now time.Time) uia.Token {
	c := clone(t.Token)
	c.Completed = t.imported
	for _, u := range m.uses {
		switch {
		case u.of != t:
		case u.State == uia.Pinned, u.State == uia.Held && u.Until.After(now):
			c.Pending++
		case u.State == uia.Spent:
			c.Completed++
			if u.Changed.After(c.LastUsed) {
				c.LastUsed = u.Changed
			}
		}
	}
	return c
}

// clone returns a copy of the token without counters.
func clone(t uia.Token) uia.Token {
	if t.UsesAllowed != nil {
		t.UsesAllowed = new(*t.UsesAllowed)
	}
	t.Meta = bytes.Clone(t.Meta)
	t.Pending, t.Completed, t.LastUsed = 0, 0, time.Time{}
	return t
}

// kept returns what a store keeps of the token.
func kept(t uia.Token) uia.Token {
	t = clone(t)
	t.Created, t.Expires = trunc(t.Created), trunc(t.Expires)
	return t
}

func (m *model) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	defer m.lock(ctx)()
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.create(tokens...)
}

func (m *model) create(tokens ...uia.Token) error {
	var fresh []*modelToken
	for _, t := range tokens {
		if t.Validate() != nil {
			return uia.ErrInvalid
		}
		if m.token(t.Value) != nil || slices.ContainsFunc(fresh, func(f *modelToken) bool { return f.Value == t.Value }) {
			return uia.ErrExists
		}
		fresh = append(fresh, &modelToken{kept(t), t.Completed})
	}
	m.tokens = append(m.tokens, fresh...)
	return nil
}

func (m *model) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	defer m.lock(ctx)()
	t := m.token(value)
	switch {
	case ctx.Err() != nil:
		return uia.Token{}, ctx.Err()
	case t == nil:
		return uia.Token{}, uia.ErrNotFound
	}
	return m.view(t, now), nil
}

func (m *model) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
	defer m.lock(ctx)()
	t := m.token(value)
	switch {
	case ctx.Err() != nil:
		return uia.Token{}, ctx.Err()
	case t == nil:
		return uia.Token{}, uia.ErrNotFound
	}
	n := p.Apply(t.Token)
	if n.Validate() != nil {
		return uia.Token{}, uia.ErrInvalid
	}
	if t.Token = kept(n); n.Revoked {
		m.revoke(t)
	}
	return m.view(t, now), nil
}

func (m *model) DeleteToken(ctx context.Context, value string) error {
	defer m.lock(ctx)()
	t := m.token(value)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case t == nil:
		return uia.ErrNotFound
	}
	m.tokens = slices.DeleteFunc(m.tokens, func(o *modelToken) bool { return o == t })
	m.remove(math.MaxInt, func(u *modelUse) bool { return u.of == t && u.State == uia.Held })
	return nil
}

func (m *model) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (page uia.TokenPage, err error) {
	defer m.lock(ctx)()
	limit := pageLimit(q.Limit)
	switch {
	case ctx.Err() != nil:
		return page, ctx.Err()
	case limit < 0:
		return page, uia.ErrInvalid
	}
	sorted := slices.SortedFunc(slices.Values(m.tokens), func(a, b *modelToken) int {
		return q.Compare(cursor(q.Order, a), cursor(q.Order, b))
	})
	for _, t := range sorted {
		v := m.view(t, now)
		if !strings.HasPrefix(t.Label, q.LabelPrefix) || q.Valid != nil && *q.Valid != (v.Usable(now) == nil) {
			continue
		}
		if q.Total {
			page.Total++
		}
		if q.After != nil && q.Compare(cursor(q.Order, t), *q.After) <= 0 {
			continue
		}
		if len(page.Tokens) < limit {
			page.Tokens = append(page.Tokens, v)
		} else if page.Next == nil {
			page.Next = new(cursor(q.Order, m.token(page.Tokens[limit-1].Value)))
		}
	}
	return page, nil
}

func cursor(o uia.TokenOrder, t *modelToken) uia.TokenCursor {
	c, _ := o.Cursor(t.Token)
	return c
}

// pageLimit returns the number of entries on a page, negative if it is invalid.
func pageLimit(limit int) int {
	if limit == 0 {
		return 100
	}
	return min(limit, 1000)
}
