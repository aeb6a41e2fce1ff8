package simtest

import (
	"context"
	"errors"
	"time"

	"github.com/matrix-uia/uia"
)

// This file does what sqlstore does on PostgreSQL: which writes of a group wait for
// the next, which are one statement, and what each statement changes and locks.

type groupKey struct{}

// group is what a Group has yet to write.
type group struct {
	hold  *deferredHold
	claim *deferredSave
	wrote bool // something may have been written: no hold is put off, and nothing is run again
	again bool // nothing has been written, and the calls are to be made again, each by itself
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

type spending struct {
	claim uia.Claim
	user  string
	now   time.Time
}

var errAgain = errors.New("the group is run again")

// Group implements uia.Grouper.
func (s Store) Group(ctx context.Context, fn func(context.Context) error) error {
	switch {
	case s.w.kind.writer:
		return s.InTx(ctx, fn)
	case !s.w.kind.rows, txOf(ctx) != nil, s.group(ctx) != nil:
		return fn(ctx)
	}
	g := &group{}
	in := context.WithValue(ctx, groupKey{}, g)
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

func (s Store) group(ctx context.Context) *group {
	if g, _ := ctx.Value(groupKey{}).(*group); g != nil && !g.over && txOf(ctx) == nil {
		return g
	}
	return nil
}

func (g *group) writes() {
	if g != nil {
		g.wrote = true
	}
}

func (g *group) defersHold(h uia.Hold, now time.Time) bool {
	if g == nil || g.wrote || g.again || g.hold != nil || g.claim != nil {
		return false
	}
	g.hold = &deferredHold{h, now}
	return true
}

func (g *group) defersSave(r uia.Record, now time.Time) bool {
	if g == nil || g.again || g.claim != nil || r.State != uia.Running {
		return false
	}
	g.claim = &deferredSave{r, now}
	return true
}

// flush writes what the transaction or the group has put off.
func (s Store) flush(ctx context.Context) error {
	if t := txOf(ctx); t != nil && t.spending != nil {
		p := *t.spending
		t.spending = nil
		return s.spend(ctx, p)
	}
	g := s.group(ctx)
	if g == nil {
		return nil
	}
	if g.again {
		return errAgain
	}
	h, r := g.hold, g.claim
	g.hold, g.claim = nil, nil
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

// free reports whether a use can be taken without displacing one.
func free(d *database, h uia.Hold, now time.Time) bool {
	t, err := d.Token(bg, h.Token, now)
	if err != nil || t.Revoked || !t.Expires.IsZero() && !now.Before(t.Expires) {
		return false
	}
	page, err := d.ListUses(bg, uia.UseQuery{Token: h.Token})
	if err != nil {
		return false
	}
	for _, u := range page.Uses {
		if u.Session == h.Session {
			return false
		}
	}
	return t.UsesAllowed == nil || int64(len(page.Uses)) < *t.UsesAllowed
}

var errNothing = errors.New("nothing is written")

// saveHeld is one statement: the hold, the save, and if cl is not nil the pin. If the
// record has another revision, the hold stays, but with a pin nothing is written. If no use
// is free nothing is written either, and where nothing is written the group runs again.
func (s Store) saveHeld(ctx context.Context, g *group, r deferredSave, cl *uia.Claim, now time.Time) error {
	h := *g.hold
	g.hold, g.claim = nil, nil
	saved := false
	p := point{name: "hold+save", arg: h.Token + " " + s.record(r.Record), locks: []string{tokenLock(h.Token), useLock(h.Token, h.Session), recordLock(r.Key)}}
	if cl != nil {
		p.name = "hold+save+pin"
	}
	err := s.watched(ctx, p, h.Hold, h.now, func(d *database) error {
		saved = false
		if !free(d, h.Hold, h.now) {
			return errNothing
		}
		_, err := d.SaveSession(bg, r.Record, r.now)
		saved = err == nil
		if !saved && cl != nil {
			return errNothing
		}
		if err := d.Reserve(bg, h.Hold, h.now); err != nil || cl == nil {
			return err
		}
		return d.Pin(bg, *cl, now)
	})
	switch {
	case errors.Is(err, errNothing):
		g.again = true
		return errAgain
	case err == nil && !saved:
		err = uia.ErrConflict
	}
	return err
}

// pinClaimed is one statement too, the save and the pin, unless the hold goes with it.
// The save stays if the use cannot be pinned.
func (s Store) pinClaimed(ctx context.Context, g *group, cl uia.Claim, now time.Time) error {
	r := *g.claim
	if h := g.hold; h != nil {
		if h.Token == cl.Token && h.Session == cl.Session {
			return s.saveHeld(ctx, g, r, &cl, now)
		}
		if err := s.flush(ctx); err != nil {
			return err
		}
		return s.Pin(ctx, cl, now)
	}
	g.claim = nil
	var pinned error
	p := s.about("save+pin", cl, recordLock(r.Key), useLock(cl.Token, cl.Session))
	p.arg += " " + s.record(r.Record)
	err := s.stmt(ctx, p, func(d *database) error {
		if _, err := d.SaveSession(bg, r.Record, r.now); err != nil {
			return err
		}
		pinned = d.Pin(bg, cl, now)
		return nil
	})
	if err == nil {
		err = pinned
	}
	return err
}

func (s Store) spend(ctx context.Context, p spending) error {
	return s.claimed(ctx, "Commit", p.claim, func(d *database) error { return d.Commit(bg, p.claim, p.user, p.now) })
}

// spendWith is one statement: the Commit that was put off, and the save, which is not
// made if there was nothing to spend. A use that is spent stays so in the transaction if
// the record has another revision.
func (s Store) spendWith(ctx context.Context, t *transaction, r uia.Record, now time.Time) error {
	p := *t.spending
	t.spending = nil
	conflict := false
	point := s.about("commit+save", p.claim, useLock(p.claim.Token, p.claim.Session), recordLock(r.Key))
	point.arg += " " + s.record(r)
	err := s.w.write(ctx, point, func(d *database) error {
		conflict = false
		if err := d.Commit(bg, p.claim, p.user, p.now); err != nil {
			return err
		}
		_, err := d.SaveSession(bg, r, now)
		conflict = errors.Is(err, uia.ErrConflict)
		if conflict {
			return nil
		}
		return err
	})
	if err == nil && conflict {
		err = uia.ErrConflict
	}
	return err
}
