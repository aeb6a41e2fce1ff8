package memstore

import (
	"container/heap"
	"context"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

type record struct {
	uia.Record
	of    *token // of which its session had a use when the record was created; nil: none
	index int    // in Store.expiry
}

// ends is from when on SweepSessions may delete the record.
func (r *record) ends() time.Time {
	if r.State == uia.Running {
		return r.Expires.Add(24 * time.Hour)
	}
	return r.Expires
}

func (r *record) before(o *record) bool { return r.ends().Before(o.ends()) }
func (r *record) place() *int           { return &r.index }

func (r *record) expired(now time.Time) bool {
	return r.State != uia.Running && !now.Before(r.Expires)
}

// LoadSession implements [uia.SessionStore].
func (s *Store) LoadSession(ctx context.Context, key string, now time.Time) (uia.Record, error) {
	unlock, err := s.rlock(ctx)
	if err != nil {
		return uia.Record{}, err
	}
	defer unlock()
	r := s.records[key]
	if r == nil || r.expired(now) {
		return uia.Record{}, uia.ErrNotFound
	}
	c := r.Record
	c.Data = slices.Clone(r.Data)
	return c, nil
}

// SaveSession implements [uia.SessionStore].
func (s *Store) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return uia.Record{}, err
	}
	defer unlock()
	if len(r.Data) > maxData {
		return uia.Record{}, uia.ErrInvalid
	}
	old := s.records[r.Key]
	switch {
	case r.Revision == 0:
		if old != nil && !old.expired(now) {
			return uia.Record{}, uia.ErrConflict
		}
	case old == nil || old.Revision != r.Revision:
		return uia.Record{}, uia.ErrConflict
	}
	kept := new(record)
	if old != nil {
		kept.of = old.of
		s.dropRecord(old)
	} else {
		s.forget(now)
		if u := s.latest[r.Key]; u != nil {
			kept.of = u.of
		}
		if err := s.roomForRecord(kept.of, now); err != nil {
			return uia.Record{}, err
		}
	}
	r.Revision++
	r.LeaseEnd, r.Expires = ms(r.LeaseEnd), ms(r.Expires)
	kept.Record = r
	kept.Data = slices.Clone(r.Data)
	s.records[r.Key] = kept
	heap.Push(&s.expiry, kept)
	if kept.of != nil {
		kept.of.records++
	}
	return r, nil
}

func (s *Store) dropRecord(r *record) {
	if r.of != nil {
		r.of.records--
	}
	delete(s.records, r.Key)
	heap.Remove(&s.expiry, r.index)
}

// SweepSessions implements [uia.SessionStore].
func (s *Store) SweepSessions(ctx context.Context, now time.Time, limit int) (n int, err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return 0, err
	}
	defer unlock()
	for ; n < limit; n++ {
		r, ok := s.expiry.top()
		if !ok || now.Before(r.ends()) {
			break
		}
		s.dropRecord(r)
	}
	return n, nil
}
