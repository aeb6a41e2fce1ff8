package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/matrix-uia/uia"
)

// Group implements [uia.Grouper]. The group's first hold, the save of a record and the
// pin that follow each other are written together: each of these calls waits for the next
// call of the group. So the use of a registration that can run at once is written pinned,
// and never held. If no use can be held, fn is run again with each call written
// separately, so that the refusal comes from Reserve.
//
// A commit is what a small write costs on SQLite, so there a group is a transaction
// too. On PostgreSQL, where the three are one statement, a transaction around it would
// add two round trips.
func (s *Store) Group(ctx context.Context, fn func(context.Context) error) error {
	if s.state(ctx) != nil || s.group(ctx) != nil {
		return fn(ctx)
	}
	if s.dialect == PostgreSQL {
		return s.runGroup(ctx, fn)
	}
	return s.retry(ctx, func() error {
		return s.runTx(ctx, sql.LevelDefault, func(ctx context.Context) error {
			s.state(ctx).unlocked = true
			return s.runGroup(ctx, fn)
		})
	})
}

func (s *Store) runGroup(ctx context.Context, fn func(context.Context) error) error {
	g := &group{st: s.state(ctx)}
	in := context.WithValue(ctx, groupKey{s}, g)
	err := fn(in)
	if err == nil {
		err = s.flush(in)
	}
	g.over = true
	if g.again {
		return fn(ctx)
	}
	return err
}

// groupKey is the context key of a Store's group.
type groupKey struct{ s *Store }

// group is what a Group has not written yet. Only the goroutine that runs it uses it.
type group struct {
	st    *txState      // the transaction of the group; nil: none
	hold  *deferredHold // nil: none
	lease *deferredSave // nil: none
	// wrote is set once something may have been written. After that no hold is put
	// off, and fn is not run again.
	wrote bool
	again bool // nothing has been written, and fn must run again
	over  bool
}

type deferredHold struct {
	uia.Hold
	now time.Time
}

type deferredSave struct {
	uia.Record
	now time.Time
}

// group returns the group that ctx carries; nil if there is none, if it is over, or
// if another transaction has begun in it.
func (s *Store) group(ctx context.Context) *group {
	if g, _ := ctx.Value(groupKey{s}).(*group); g != nil && !g.over && s.state(ctx) == g.st {
		return g
	}
	return nil
}

// writes notes that something may have been written.
func (g *group) writes() {
	if g != nil {
		g.wrote = true
	}
}

// defersHold reports whether the hold is left for the next call of the group.
func (g *group) defersHold(h uia.Hold, now time.Time) bool {
	if g == nil || g.wrote || g.again || g.hold != nil || g.lease != nil {
		return false
	}
	g.hold = &deferredHold{h, now}
	return true
}

// defersSave reports whether the save is left for the next call of the group.
func (g *group) defersSave(r uia.Record, now time.Time) bool {
	if g == nil || g.again || g.lease != nil || r.State != uia.Running {
		return false
	}
	g.lease = &deferredSave{r, now}
	return true
}

// errAgain is what the calls of a group return when fn is about to be run again.
var errAgain = errors.New("sqlstore: the group is run again")

// flush writes what the transaction or the group that ctx carries has put off.
func (s *Store) flush(ctx context.Context) error {
	if st := s.state(ctx); st != nil && st.spending != nil {
		p := *st.spending
		st.spending = nil
		return s.spend(ctx, p)
	}
	g := s.group(ctx)
	if g == nil {
		return nil
	}
	if g.again {
		return errAgain
	}
	h, r := g.hold, g.lease
	g.hold, g.lease = nil, nil // each write flushes first
	if h != nil {
		err := s.hold(ctx, h.Hold, h.now)
		if refused(err) {
			g.again = true
			return errAgain
		}
		if err != nil {
			return err
		}
	}
	if r != nil {
		return s.save(ctx, r.Record, r.now)
	}
	return nil
}

// refused reports whether err is one by which Reserve says that it has reserved no use:
// then it has written nothing.
func refused(err error) bool {
	for _, refusal := range [...]error{uia.ErrNotFound, uia.ErrRevoked, uia.ErrExpired, uia.ErrExhausted, uia.ErrSpent} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
