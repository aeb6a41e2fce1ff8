package sqlstore

import (
	"context"
	"strconv"
	"time"

	"github.com/matrix-uia/uia"
)

// Group implements [uia.Grouper]. A commit is what a small write costs on SQLite,
// so there it is InTx.
//
// On PostgreSQL each write is one statement, and a transaction around them would
// add two round trips. There a claim of a session and the pin that follows it are
// sent as one statement instead, which saves a round trip and a commit: the save
// waits for the pin, or for whatever else comes next, and a conflict is told then.
func (s *Store) Group(ctx context.Context, fn func(context.Context) error) error {
	if s.dialect == SQLite {
		return s.InTx(ctx, fn)
	}
	if s.state(ctx) != nil || s.group(ctx) != nil {
		return fn(ctx)
	}
	g := &group{}
	ctx = context.WithValue(ctx, groupKey{s}, g)
	err := fn(ctx)
	g.over = true
	if err != nil {
		return err
	}
	return s.flush(ctx)
}

// groupKey is the context key of a Store's group.
type groupKey struct{ s *Store }

// group is what a Group has yet to write. Only the goroutine that runs it uses it.
type group struct {
	claim *uia.Record // nil: nothing
	now   time.Time
	over  bool
}

func (s *Store) group(ctx context.Context) *group {
	g, _ := ctx.Value(groupKey{s}).(*group)
	return g
}

// defers reports whether the save is left for the next call of the group.
func (g *group) defers(r uia.Record, now time.Time) bool {
	if g == nil || g.over || r.State != uia.Running {
		return false
	}
	g.claim, g.now = &r, now
	return true
}

// flush writes what the transaction or the group that ctx carries has put off.
func (s *Store) flush(ctx context.Context) error {
	if st := s.state(ctx); st != nil && st.spending != nil {
		p := *st.spending
		st.spending = nil
		return s.spend(ctx, p)
	}
	g := s.group(ctx)
	if g == nil || g.claim == nil {
		return nil
	}
	r := *g.claim
	g.claim = nil
	return s.save(ctx, r, g.now)
}

// claimAndPin is a save and a pin. The pin reads the save's result, so that it is
// made only if the record had the revision that was expected: attempts are
// distinct because claims are, and a pin without its claim would share one.
//
// It locks the record before the use, and a transaction that ends a registration
// the use before the record. The two meet only when one has overtaken the other;
// then the database ends one of them (40P01), and that is run again.
func claimAndPin(save string, n int) string {
	arg := func(i int) string { return "$" + strconv.Itoa(i) }
	return `WITH saved AS (` + save + ` RETURNING 1), pinned AS (
		UPDATE uia_uses SET state = 2, stamp = ` + arg(n+1) + `, changed = ` + arg(n+1) + `, attempt = ` + arg(n+2) + `
		WHERE session = ` + arg(n+3) + ` AND token = ` + arg(n+4) + ` AND EXISTS (SELECT 1 FROM saved)
			AND (state = 1 AND attempt < ` + arg(n+2) + ` OR state = 2 AND attempt <= ` + arg(n+2) + `) RETURNING 1)
	SELECT (SELECT count(*) FROM saved), (SELECT count(*) FROM pinned)`
}

var (
	claimNewAndPin = claimAndPin(createRecord, 8)
	claimAndPinUse = claimAndPin(saveRecord, 8)
)

// pinClaimed writes the claim that g has put off together with the pin.
func (s *Store) pinClaimed(ctx context.Context, g *group, cl uia.Claim, now time.Time) error {
	r, saved := *g.claim, g.now
	g.claim = nil
	query, args := claimAndPinUse, saveArgs(r)
	if r.Revision == 0 {
		query, args = claimNewAndPin, createArgs(r, saved)
	}
	args = append(args, ms(now), cl.Attempt, cl.Session, cl.Token)
	return s.write(ctx, func(c conn) error {
		var claims, pins int64
		if _, err := c.one(ctx, query, args, &claims, &pins); err != nil {
			return err
		}
		switch {
		case claims == 0:
			return uia.ErrConflict
		case pins > 0:
			return nil
		}
		u, err := c.use(ctx, cl)
		return u.refuse(err)
	})
}
