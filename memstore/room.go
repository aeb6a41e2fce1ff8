package memstore

import (
	"time"

	"github.com/matrix-uia/uia"
)

// A stranger who knows one token must not be able to fill the store and so keep others
// out. So a token's holds, and its sessions' records, take no more of the store than is
// left beside them: one token gets half of it, two a third each, and there is always room
// for another. A token that has used up its share gets room from its own lapsed holds,
// the oldest first.

// roomForUse makes room for one more use of t, or returns uia.ErrFull.
func (s *Store) roomForUse(t *token, now time.Time) error {
	if len(t.held) < s.opts.MaxUses-len(s.uses) {
		return nil
	}
	if u := s.lapsedFor(t, len(t.held), now); u != nil {
		s.yield(u)
		return nil
	}
	return uia.ErrFull
}

// roomForRecord makes room for one more record of a session that has a use of t, nil
// if it has none, or returns uia.ErrFull.
func (s *Store) roomForRecord(t *token, now time.Time) error {
	free := s.opts.MaxSessions - len(s.records)
	if t == nil && free > 0 || t != nil && t.records < free {
		return nil
	}
	if r, ok := s.expiry.top(); ok && !now.Before(r.ends()) {
		s.dropRecord(r)
		return nil
	}
	mine := 0
	if t != nil {
		mine = t.records
	}
	for range 16 { // a few of the holds may have no record
		u := s.lapsedFor(t, mine, now)
		if u == nil {
			break
		}
		if s.yield(u) {
			return nil
		}
	}
	return uia.ErrFull
}

// lapsedFor returns the lapsed hold to delete so that t, which has mine uses or records,
// gets room: the one of t that lapsed first or, if t has none, of all holds the one that
// lapsed first, provided that its token has more uses or records than mine. It returns
// nil if there is none.
func (s *Store) lapsedFor(t *token, mine int, now time.Time) *use {
	if t != nil && t.lapsed(now) > 0 {
		return t.held[0]
	}
	if u, ok := s.holds.top(); ok && !now.Before(u.Until) && max(len(u.of.held), u.of.records) > mine {
		return u
	}
	return nil
}

// yield deletes a hold that has lapsed. If the record of its session is open, so that
// only the hold is lost, yield deletes the record too and reports true. The session then
// starts anew.
func (s *Store) yield(u *use) bool {
	s.drop(u)
	r := s.records[u.Session]
	if r == nil || r.State != uia.Open {
		return false
	}
	s.dropRecord(r)
	return true
}
