package memstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// CreateTokens implements [uia.TokenStore].
func (s *Store) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return s.create(tokens...)
}

// create adds all of the tokens or, on any error, none.
func (s *Store) create(tokens ...uia.Token) error {
	fresh := make(map[string]*token, len(tokens))
	for _, t := range tokens {
		imported := t.Completed
		t, err := normal(t)
		if err != nil {
			return err
		}
		if s.tokens[t.Value] != nil || fresh[t.Value] != nil {
			return uia.ErrExists
		}
		fresh[t.Value] = &token{Token: t, imported: imported}
	}
	if len(s.tokens)+len(fresh) > s.opts.MaxTokens {
		return uia.ErrFull
	}
	for _, t := range fresh {
		s.addToken(t)
	}
	return nil
}

// Token implements [uia.TokenStore].
func (s *Store) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	unlock, err := s.rlock(ctx)
	if err != nil {
		return uia.Token{}, err
	}
	defer unlock()
	t := s.tokens[value]
	if t == nil {
		return uia.Token{}, uia.ErrNotFound
	}
	return copied(t.at(ms(now))), nil
}

// UpdateToken implements [uia.TokenStore].
func (s *Store) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return uia.Token{}, err
	}
	defer unlock()
	t := s.tokens[value]
	if t == nil {
		return uia.Token{}, uia.ErrNotFound
	}
	n := p.Apply(t.Token)
	if n, err = normal(n); err != nil {
		return uia.Token{}, err
	}
	t.Token = n
	if t.Revoked {
		s.cancelHolds(t)
	}
	return copied(t.at(ms(now))), nil
}

// DeleteToken implements [uia.TokenStore].
func (s *Store) DeleteToken(ctx context.Context, value string) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	t := s.tokens[value]
	if t == nil {
		return uia.ErrNotFound
	}
	s.dropToken(t)
	s.cancelHolds(t)
	// Its uses that are left point to it. They need no more than its identity.
	t.deleted, t.Token = true, uia.Token{}
	if len(t.all) > 0 {
		s.deleted[value] = append(s.deleted[value], t)
	}
	return nil
}

func (s *Store) cancelHolds(t *token) {
	for len(t.held) > 0 {
		s.drop(t.held[len(t.held)-1])
	}
}

// ListTokens implements [uia.TokenStore]. It sorts what comes after the cursor,
// each time.
func (s *Store) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return uia.TokenPage{}, err
	}
	if _, err := q.Order.Cursor(uia.Token{}); err != nil {
		return uia.TokenPage{}, err
	}
	unlock, err := s.rlock(ctx)
	if err != nil {
		return uia.TokenPage{}, err
	}
	defer unlock()
	now = ms(now)

	type entry struct {
		uia.TokenCursor
		*token
	}
	var page uia.TokenPage
	var rest []entry
	for _, t := range s.tokens {
		if !strings.HasPrefix(t.Label, q.LabelPrefix) {
			continue
		}
		if q.Valid != nil && *q.Valid != (t.at(now).Usable(now) == nil) {
			continue
		}
		if q.Total {
			page.Total++
		}
		if c, _ := q.Order.Cursor(t.Token); q.After == nil || q.Compare(c, *q.After) > 0 {
			rest = append(rest, entry{c, t})
		}
	}
	slices.SortFunc(rest, func(a, b entry) int { return q.Compare(a.TokenCursor, b.TokenCursor) })
	if len(rest) > limit {
		rest = rest[:limit]
		page.Next = new(rest[limit-1].TokenCursor)
	}
	for _, e := range rest {
		page.Tokens = append(page.Tokens, copied(e.at(now)))
	}
	return page, nil
}

func pageLimit(limit int) (int, error) {
	switch {
	case limit < 0:
		return 0, uia.ErrInvalid
	case limit == 0:
		return 100, nil
	}
	return min(limit, 1000), nil
}
