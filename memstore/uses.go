package memstore

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// Reserve implements [uia.TokenStore].
func (s *Store) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now = ms(now)
	u := s.uses[useKey{h.Token, h.Session}]
	if u != nil && u.State == uia.Spent {
		return uia.ErrSpent
	}
	t := s.tokens[h.Token]
	switch {
	case t == nil:
		return uia.ErrNotFound
	case u != nil && u.State == uia.Pinned:
		return nil
	case u != nil:
		s.change(u, func(u *uia.Use) { u.Until = ms(h.Until) })
		return nil
	case t.Revoked:
		return uia.ErrRevoked
	case !t.Expires.IsZero() && !now.Before(t.Expires):
		return uia.ErrExpired
	}
	s.forget(now)
	displace := int64(0) // how many lapsed holds are in the way
	if n := t.UsesAllowed; n != nil && *n <= t.imported+int64(len(t.all)) {
		displace = t.imported + int64(len(t.all)) - *n + 1
	}
	if displace > int64(t.lapsed(now)) {
		return uia.ErrExhausted
	}
	if displace == 0 {
		if err := s.roomForUse(t, now); err != nil {
			return err
		}
	}
	for range displace {
		s.drop(t.held[0])
	}
	s.add(&use{of: t, Use: uia.Use{
		Token: h.Token, Session: h.Session,
		State: uia.Held, Until: ms(h.Until), Made: now, Changed: now, InvitedBy: t.CreatedBy,
	}})
	return nil
}

// claimed returns the use that c names, if a claim can change it.
func (s *Store) claimed(c uia.Claim) (*use, error) {
	u := s.uses[useKey{c.Token, c.Session}]
	switch {
	case !uia.ValidTokenValue(c.Token):
		return nil, uia.ErrNotFound
	case u == nil:
		return nil, uia.ErrNotHeld
	case u.State == uia.Spent:
		return u, uia.ErrSpent
	}
	return u, nil
}

// Pin implements [uia.TokenStore].
func (s *Store) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if c.Run <= 0 {
		return uia.ErrInvalid
	}
	u, err := s.claimed(c)
	if err != nil {
		return err
	}
	if c.Run < u.Run || u.State == uia.Held && c.Run == u.Run {
		return uia.ErrNotHeld
	}
	s.change(u, func(u *uia.Use) {
		u.State, u.Until, u.Run, u.Changed = uia.Pinned, time.Time{}, c.Run, ms(now)
	})
	return nil
}

// Unpin implements [uia.TokenStore].
func (s *Store) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	u, err := s.claimed(c)
	switch {
	case err != nil:
		return err
	case c.Run != u.Run || c.Run <= 0:
		return uia.ErrNotHeld
	case u.State == uia.Held: // repeated; its session may have renewed it since
		return nil
	case u.of.deleted || u.of.Revoked:
		s.drop(u)
		return nil
	}
	s.change(u, func(u *uia.Use) { u.State, u.Until, u.Changed = uia.Held, ms(until), ms(now) })
	return nil
}

// Commit implements [uia.TokenStore].
func (s *Store) Commit(ctx context.Context, c uia.Claim, userID string, now time.Time) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if userID == "" {
		return uia.ErrInvalid
	}
	u, err := s.claimed(c)
	switch {
	case u != nil && u.State == uia.Spent && u.Run == c.Run && u.UserID == userID:
		return nil
	case err != nil:
		return err
	case u.State != uia.Pinned || c.Run != u.Run:
		return uia.ErrNotHeld
	}
	s.change(u, func(u *uia.Use) { u.State, u.UserID, u.Changed = uia.Spent, userID, ms(now) })
	return nil
}

// Release implements [uia.TokenStore].
func (s *Store) Release(ctx context.Context, c uia.Claim) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	u, err := s.claimed(c)
	if err != nil {
		return err
	}
	if c.Run < u.Run || u.State == uia.Pinned && c.Run != u.Run {
		return uia.ErrNotHeld
	}
	s.drop(u)
	return nil
}

// ListUses implements [uia.TokenStore].
func (s *Store) ListUses(ctx context.Context, q uia.UseQuery) (uia.UsePage, error) {
	limit, err := pageLimit(q.Limit)
	if err != nil {
		return uia.UsePage{}, err
	}
	unlock, err := s.rlock(ctx)
	if err != nil {
		return uia.UsePage{}, err
	}
	defer unlock()
	rest, err := s.usesOf(q)
	if err != nil {
		return uia.UsePage{}, err
	}
	var page uia.UsePage
	for _, u := range slices.Backward(until(rest, q.After)) {
		if len(page.Uses) == limit {
			last := page.Uses[limit-1]
			page.Next = &uia.UseCursor{Made: last.Made, Session: last.Session}
			break
		}
		page.Uses = append(page.Uses, u.Use)
	}
	return page, nil
}

// until returns the uses before the place, which are by Made and session; all of them if
// it is nil.
func until(uses []*use, after *uia.UseCursor) []*use {
	if after == nil {
		return uses
	}
	end, _ := slices.BinarySearchFunc(uses, *after, func(u *use, c uia.UseCursor) int {
		return cmp.Or(u.Made.Compare(c.Made), strings.Compare(u.Session, c.Session))
	})
	return uses[:end]
}

// usesOf returns the uses that q is about, by Made and session.
func (s *Store) usesOf(q uia.UseQuery) ([]*use, error) {
	if q.Deleted && uia.ValidTokenValue(q.Token) {
		var all []*use
		for _, t := range s.deleted[q.Token] {
			all = append(all, t.all...)
		}
		slices.SortFunc(all, byMade)
		return all, nil
	}
	t := s.tokens[q.Token]
	if t == nil {
		return nil, uia.ErrNotFound
	}
	return t.all, nil
}

// PinnedUses implements [uia.TokenStore].
func (s *Store) PinnedUses(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
	unlock, err := s.rlock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if limit < 1 {
		return nil, uia.ErrInvalid
	}
	var uses []uia.Use
	for _, u := range s.pinned {
		if len(uses) == limit || !u.Changed.Before(ms(before)) {
			break
		}
		uses = append(uses, u.Use)
	}
	return uses, nil
}

// SweepHolds implements [uia.TokenStore].
func (s *Store) SweepHolds(ctx context.Context, before time.Time, limit int) (n int, err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	for ; n < limit; n++ {
		u, ok := s.holds.top()
		if !ok || !u.Until.Before(ms(before)) {
			break
		}
		s.drop(u)
	}
	return n, nil
}
