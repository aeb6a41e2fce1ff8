package storetest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

func (m *model) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	defer m.lock(ctx)()
	now = trunc(now)
	t, u := m.token(h.Token), m.use(h.Token, h.Session)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case u != nil && u.State == uia.Spent:
		return uia.ErrSpent
	case t == nil:
		return uia.ErrNotFound
	case u != nil && u.State == uia.Pinned:
		return nil
	case u != nil:
		u.Until = trunc(h.Until)
		return nil
	case t.Revoked:
		return uia.ErrRevoked
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return uia.ErrExpired
	}
	rows, lapsed := t.imported, []*modelUse{}
	for _, u := range m.uses {
		if u.of == t {
			if rows++; u.State == uia.Held && !u.Until.After(now) {
				lapsed = append(lapsed, u)
			}
		}
	}
	if t.UsesAllowed != nil && rows >= *t.UsesAllowed {
		need := rows - *t.UsesAllowed + 1
		if need > int64(len(lapsed)) {
			return uia.ErrExhausted
		}
		slices.SortFunc(lapsed, func(a, b *modelUse) int { return cmp.Or(a.Until.Compare(b.Until), cmp.Compare(a.Session, b.Session)) })
		m.remove(int(need), func(u *modelUse) bool { return slices.Contains(lapsed[:need], u) })
	}
	m.uses = append(m.uses, &modelUse{of: t, Use: uia.Use{
		Token: h.Token, Session: h.Session, State: uia.Held, Until: trunc(h.Until), Made: now, Changed: now, InvitedBy: t.CreatedBy,
	}})
	return nil
}

// claim returns the use that c names, if it is neither absent nor spent.
func (m *model) claim(ctx context.Context, c uia.Claim) (*modelUse, error) {
	u := m.use(c.Token, c.Session)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case !uia.ValidTokenValue(c.Token):
		return nil, uia.ErrNotFound
	case u == nil:
		return nil, uia.ErrNotHeld
	case u.State == uia.Spent:
		return u, uia.ErrSpent
	}
	return u, nil
}

func (m *model) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	defer m.lock(ctx)()
	u, err := m.claim(ctx, c)
	switch {
	case err != nil:
		return err
	case c.Run <= 0:
		return uia.ErrInvalid
	case c.Run < u.Run, c.Run == u.Run && u.State == uia.Held:
		return uia.ErrNotHeld
	}
	u.State, u.Until, u.Run, u.Changed = uia.Pinned, time.Time{}, c.Run, trunc(now)
	return nil
}

func (m *model) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	defer m.lock(ctx)()
	u, err := m.claim(ctx, c)
	switch {
	case err != nil:
		return err
	case c.Run != u.Run, c.Run == 0:
		return uia.ErrNotHeld
	case u.State == uia.Held:
		return nil
	case u.of.Revoked, !slices.Contains(m.tokens, u.of):
		m.remove(1, func(o *modelUse) bool { return o == u })
		return nil
	}
	u.State, u.Until, u.Changed = uia.Held, trunc(until), trunc(now)
	return nil
}

func (m *model) Commit(ctx context.Context, c uia.Claim, userID string, now time.Time) error {
	defer m.lock(ctx)()
	u, err := m.claim(ctx, c)
	switch {
	case ctx.Err() == nil && userID == "":
		return uia.ErrInvalid
	case u != nil && u.State == uia.Spent && u.Run == c.Run && u.UserID == userID:
		return nil
	case err != nil:
		return err
	case c.Run != u.Run, u.State == uia.Held:
		return uia.ErrNotHeld
	}
	u.State, u.UserID, u.Changed = uia.Spent, userID, trunc(now)
	return nil
}

func (m *model) Release(ctx context.Context, c uia.Claim) error {
	defer m.lock(ctx)()
	u, err := m.claim(ctx, c)
	switch {
	case err != nil:
		return err
	case c.Run < u.Run, c.Run != u.Run && u.State == uia.Pinned:
		return uia.ErrNotHeld
	}
	m.remove(1, func(o *modelUse) bool { return o == u })
	return nil
}

func (m *model) ListUses(ctx context.Context, q uia.UseQuery) (page uia.UsePage, err error) {
	defer m.lock(ctx)()
	t, limit := m.token(q.Token), pageLimit(q.Limit)
	switch {
	case ctx.Err() != nil:
		return page, ctx.Err()
	case limit < 0:
		return page, uia.ErrInvalid
	case t == nil && !(q.Deleted && uia.ValidTokenValue(q.Token)):
		return page, uia.ErrNotFound
	}
	about := func(u *modelUse) bool {
		if q.Deleted {
			return u.Token == q.Token && u.of != t
		}
		return u.of == t
	}
	newestFirst := func(a, b uia.UseCursor) int {
		return cmp.Or(b.Made.Compare(a.Made), cmp.Compare(b.Session, a.Session))
	}
	cursor := func(u uia.Use) uia.UseCursor { return uia.UseCursor{Made: u.Made, Session: u.Session} }
	var all []uia.Use
	for _, u := range m.uses {
		if about(u) && (q.After == nil || newestFirst(cursor(u.Use), *q.After) > 0) {
			all = append(all, u.Use)
		}
	}
	slices.SortFunc(all, func(a, b uia.Use) int { return newestFirst(cursor(a), cursor(b)) })
	if page.Uses = all; len(all) > limit {
		page.Uses, page.Next = all[:limit], new(cursor(all[limit-1]))
	}
	return page, nil
}

func (m *model) PinnedUses(ctx context.Context, before time.Time, limit int) (uses []uia.Use, err error) {
	defer m.lock(ctx)()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limit < 1:
		return nil, uia.ErrInvalid
	}
	for _, u := range m.uses {
		if u.State == uia.Pinned && u.Changed.Before(before) {
			uses = append(uses, u.Use)
		}
	}
	slices.SortFunc(uses, func(a, b uia.Use) int {
		return cmp.Or(a.Changed.Compare(b.Changed), cmp.Compare(a.Token, b.Token), cmp.Compare(a.Session, b.Session))
	})
	return uses[:min(limit, len(uses))], nil
}

func (m *model) SweepHolds(ctx context.Context, before time.Time, limit int) (int, error) {
	defer m.lock(ctx)()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return m.remove(limit, func(u *modelUse) bool { return u.State == uia.Held && u.Until.Before(before) }), nil
}

func expired(r uia.Record, now time.Time) bool {
	return r.State != uia.Running && !r.Expires.After(now)
}

func (m *model) LoadSession(ctx context.Context, key string, now time.Time) (uia.Record, error) {
	defer m.lock(ctx)()
	r, ok := m.records[key]
	switch {
	case ctx.Err() != nil:
		return uia.Record{}, ctx.Err()
	case !ok || expired(r, now):
		return uia.Record{}, uia.ErrNotFound
	}
	r.Data = bytes.Clone(r.Data)
	return r, nil
}

func (m *model) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	defer m.lock(ctx)()
	old, ok := m.records[r.Key]
	switch {
	case ctx.Err() != nil:
		return uia.Record{}, ctx.Err()
	case r.Revision == 0 && ok && !expired(old, now), r.Revision != 0 && (!ok || old.Revision != r.Revision):
		return uia.Record{}, uia.ErrConflict
	}
	r.Revision++
	r.LeaseEnd, r.Expires = trunc(r.LeaseEnd), trunc(r.Expires)
	own := r
	own.Data = bytes.Clone(r.Data)
	m.records[r.Key] = own
	return r, nil
}

func (m *model) SweepSessions(ctx context.Context, now time.Time, limit int) (n int, err error) {
	defer m.lock(ctx)()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	for key, r := range m.records {
		if n < limit && (expired(r, now) || !r.Expires.Add(24*time.Hour).After(now)) {
			delete(m.records, key)
			n++
		}
	}
	return n, nil
}
