package storetest

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

func (m *model) CreateInvite(ctx context.Context, t uia.Token, limit uia.InviteLimit, now time.Time) error {
	defer m.lock(ctx)()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case t.CreatedBy == "" || t.Validate() != nil:
		return uia.ErrInvalid
	}
	if live, recent := m.countCreated(t.CreatedBy, limit.Since, now); live >= limit.Live || recent >= limit.Recent {
		return uia.ErrQuota
	}
	return m.create(t)
}

// countCreated counts the live tokens of a creator, and the recent ones.
func (m *model) countCreated(by string, since, now time.Time) (live, recent int) {
	for _, t := range m.createdBy(by) {
		if m.view(t, now).Live(trunc(now)) {
			live++
		}
		if !t.Created.Before(trunc(since)) {
			recent++
		}
	}
	return live, recent
}

// createdBy returns the tokens of a creator, the newest first.
func (m *model) createdBy(by string) (tokens []*modelToken) {
	for _, t := range m.tokens {
		if t.CreatedBy == by {
			tokens = append(tokens, t)
		}
	}
	slices.SortFunc(tokens, func(a, b *modelToken) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Value, a.Value))
	})
	return tokens
}

func (m *model) ListCreated(ctx context.Context, q uia.CreatedQuery, now time.Time) (page uia.TokenPage, err error) {
	defer m.lock(ctx)()
	limit := pageLimit(q.Limit)
	switch {
	case ctx.Err() != nil:
		return page, ctx.Err()
	case limit < 0:
		return page, uia.ErrInvalid
	}
	order := uia.TokenQuery{Order: uia.ByCreated, Descending: true}
	for _, t := range m.createdBy(q.CreatedBy) {
		switch {
		case q.After != nil && order.Compare(cursor(uia.ByCreated, t), *q.After) <= 0:
		case len(page.Tokens) < limit:
			page.Tokens = append(page.Tokens, m.view(t, now))
		case page.Next == nil:
			page.Next = new(cursor(uia.ByCreated, m.token(page.Tokens[limit-1].Value)))
		}
	}
	return page, nil
}

func (m *model) RevokeCreated(ctx context.Context, createdBy string, limit int, now time.Time) (values []string, err error) {
	defer m.lock(ctx)()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limit < 1:
		return nil, uia.ErrInvalid
	}
	for _, t := range m.createdBy(createdBy) {
		if len(values) < limit && m.view(t, now).Live(trunc(now)) {
			m.revoke(t)
			values = append(values, t.Value)
		}
	}
	return values, nil
}

func (m *model) revoke(t *modelToken) {
	t.Revoked = true
	m.remove(math.MaxInt, func(u *modelUse) bool { return u.of == t && u.State == uia.Held })
}

// belongs returns the use to which an account belongs, nil if there is none.
func (m *model) belongs(user string) (last *modelUse) {
	for _, u := range m.uses {
		if u.State == uia.Spent && u.InvitedBy != "" && u.UserID == user && (last == nil ||
			cmp.Or(u.Changed.Compare(last.Changed), cmp.Compare(u.Session, last.Session), cmp.Compare(u.Token, last.Token)) > 0) {
			last = u
		}
	}
	return last
}

func (m *model) ListInvited(ctx context.Context, q uia.InvitedQuery) (page uia.InvitedPage, err error) {
	defer m.lock(ctx)()
	limit := pageLimit(q.Limit)
	switch {
	case ctx.Err() != nil:
		return page, ctx.Err()
	case limit < 0:
		return page, uia.ErrInvalid
	}
	sorted := slices.SortedFunc(slices.Values(m.uses), func(a, b *modelUse) int {
		return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(b.Session, a.Session))
	})
	for _, u := range sorted {
		if u.State != uia.Spent || u.InvitedBy != q.InvitedBy || m.belongs(u.UserID) != u {
			continue
		}
		if q.After != nil && cmp.Or(u.Made.Compare(q.After.Made), cmp.Compare(u.Session, q.After.Session)) >= 0 {
			continue
		}
		if len(page.Invited) == limit {
			last := page.Invited[limit-1]
			page.Next = &uia.UseCursor{Made: last.Made, Session: last.Session}
			break
		}
		invites := slices.ContainsFunc(m.uses, func(o *modelUse) bool { return o.State == uia.Spent && o.InvitedBy == u.UserID })
		page.Invited = append(page.Invited, uia.Invited{Use: u.Use, Invites: invites})
	}
	return page, nil
}

func (m *model) InviteOf(ctx context.Context, userID string) (uia.Use, error) {
	defer m.lock(ctx)()
	if err := ctx.Err(); err != nil {
		return uia.Use{}, err
	}
	if u := m.belongs(userID); u != nil {
		return u.Use, nil
	}
	return uia.Use{}, uia.ErrNotFound
}
