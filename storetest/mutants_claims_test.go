package storetest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

// beforePin, beforeUnpin, beforeCommit and beforeRelease make mutants that do
// something to the use first, if there is one.
func beforePin(f func(b *broken, u *modelUse, c *uia.Claim, now *time.Time)) func(*broken) {
	return func(b *broken) {
		b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error {
			b.first(ctx, c, func(u *modelUse) { f(b, u, &c, &now) })
			return b.model.Pin(ctx, c, now)
		}
	}
}

func beforeUnpin(f func(b *broken, u *modelUse, c *uia.Claim, until, now *time.Time)) func(*broken) {
	return func(b *broken) {
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			b.first(ctx, c, func(u *modelUse) { f(b, u, &c, &until, &now) })
			return b.model.Unpin(ctx, c, until, now)
		}
	}
}

func beforeCommit(f func(b *broken, u *modelUse, c *uia.Claim, user *string, now *time.Time)) func(*broken) {
	return func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			b.first(ctx, c, func(u *modelUse) { f(b, u, &c, &user, &now) })
			return b.model.Commit(ctx, c, user, now)
		}
	}
}

func beforeRelease(f func(b *broken, u *modelUse, c *uia.Claim)) func(*broken) {
	return func(b *broken) {
		b.release = func(ctx context.Context, c uia.Claim) error {
			b.first(ctx, c, func(u *modelUse) { f(b, u, &c) })
			return b.model.Release(ctx, c)
		}
	}
}

func (b *broken) first(ctx context.Context, c uia.Claim, f func(u *modelUse)) {
	b.locked(func() {
		if u := b.use(c.Token, c.Session); u != nil && ctx.Err() == nil {
			f(u)
		}
	})
}

// turns makes mutants whose claims return one error in place of another.
func turns(from, to error) []mutant {
	turn := func(err error) error {
		if errors.Is(err, from) {
			return to
		}
		return err
	}
	says := "nothing wrong"
	if to != nil {
		says = to.Error()
	}
	return []mutant{
		{"says " + says + " for " + from.Error() + " to Pin", func(b *broken) {
			b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error { return turn(b.model.Pin(ctx, c, now)) }
		}},
		{"says " + says + " for " + from.Error() + " to Unpin", func(b *broken) {
			b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
				return turn(b.model.Unpin(ctx, c, until, now))
			}
		}},
		{"says " + says + " for " + from.Error() + " to Commit", func(b *broken) {
			b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
				return turn(b.model.Commit(ctx, c, user, now))
			}
		}},
		{"says " + says + " for " + from.Error() + " to Release", func(b *broken) {
			b.release = func(ctx context.Context, c uia.Claim) error { return turn(b.model.Release(ctx, c)) }
		}},
	}
}

var claimMutants = slices.Concat([]mutant{
	{"pins for run zero", beforePin(func(_ *broken, _ *modelUse, c *uia.Claim, _ *time.Time) { c.Run = max(1, c.Run) })},
	{"pins no hold that has lapsed", func(b *broken) {
		b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && lapsed(c.Token, now)(u) {
				return uia.ErrNotHeld
			}
			return b.model.Pin(ctx, c, now)
		}
	}},
	{"does not pin twice", func(b *broken) {
		b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && u.State == uia.Pinned && u.Run == c.Run {
				return uia.ErrNotHeld
			}
			return b.model.Pin(ctx, c, now)
		}
	}},
	{"pins what is pinned for nobody else", func(b *broken) {
		b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && u.State == uia.Pinned && u.Run < c.Run {
				return uia.ErrNotHeld
			}
			return b.model.Pin(ctx, c, now)
		}
	}},
	{"pins for a lower run", beforePin(func(_ *broken, u *modelUse, c *uia.Claim, _ *time.Time) {
		if u.State != uia.Spent {
			u.Run = min(u.Run, c.Run)
		}
	})},
	{"pins what is held for the run that it bears", beforePin(func(_ *broken, u *modelUse, c *uia.Claim, _ *time.Time) {
		if u.State == uia.Held && c.Run == u.Run {
			u.Run--
		}
	})},
	{"pins without moving Changed when it repeats", beforePin(func(_ *broken, u *modelUse, c *uia.Claim, now *time.Time) {
		if u.State == uia.Pinned && u.Run == c.Run {
			*now = u.Changed
		}
	})},
	{"pins without moving Changed for a later run", beforePin(func(_ *broken, u *modelUse, c *uia.Claim, now *time.Time) {
		if u.State == uia.Pinned && u.Run < c.Run {
			*now = u.Changed
		}
	})},
	{"makes a use anew when it is pinned", beforePin(func(_ *broken, u *modelUse, _ *uia.Claim, now *time.Time) { u.Made = trunc(*now) })},
	{"keeps Until of what is pinned", func(b *broken) {
		b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error {
			var until time.Time
			b.first(ctx, c, func(u *modelUse) { until = u.Until })
			err := b.model.Pin(ctx, c, now)
			b.first(ctx, c, func(u *modelUse) { u.Until = until })
			return err
		}
	}},
	{"looks at the clock to pin", beforePin(func(_ *broken, _ *modelUse, _ *uia.Claim, now *time.Time) { *now = time.Now() })},
	{"unpins for any run", beforeUnpin(func(_ *broken, u *modelUse, c *uia.Claim, _, _ *time.Time) { c.Run = max(1, u.Run) })},
	{"unpins for a later run", beforeUnpin(func(_ *broken, u *modelUse, c *uia.Claim, _, _ *time.Time) {
		if c.Run > u.Run && u.State == uia.Pinned {
			c.Run = u.Run
		}
	})},
	{"unpins for no longer than five minutes", beforeUnpin(func(_ *broken, _ *modelUse, _ *uia.Claim, until, now *time.Time) { *until = now.Add(5 * minute) })},
	{"forgets the run when it unpins", func(b *broken) {
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			err := b.model.Unpin(ctx, c, until, now)
			b.first(ctx, c, func(u *modelUse) {
				if u.State == uia.Held {
					u.Run = 0
				}
			})
			return err
		}
	}},
	{"deletes what is unpinned", func(b *broken) {
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			err := b.model.Unpin(ctx, c, until, now)
			if err == nil {
				b.locked(func() { b.remove(1, func(u *modelUse) bool { return u == b.use(c.Token, c.Session) }) })
			}
			return err
		}
	}},
	{"does not unpin twice", func(b *broken) {
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && u.State == uia.Held {
				return uia.ErrNotHeld
			}
			return b.model.Unpin(ctx, c, until, now)
		}
	}},
	{"unpins what was never pinned", func(b *broken) {
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && u.State == uia.Held && u.Run == 0 {
				return nil
			}
			return b.model.Unpin(ctx, c, until, now)
		}
	}},
	{"holds a use of a revoked token when it is unpinned", func(b *broken) {
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			t := b.token(c.Token)
			if t == nil || !t.Revoked {
				return b.model.Unpin(ctx, c, until, now)
			}
			t.Revoked = false
			defer func() { t.Revoked = true }()
			return b.model.Unpin(ctx, c, until, now)
		}
	}},
	{"holds a use of a deleted token when it is unpinned", beforeUnpin(func(b *broken, u *modelUse, _ *uia.Claim, _, _ *time.Time) {
		if t := b.token(u.Token); t != nil {
			u.of = t
		}
	})},
	{"deletes what was pinned while the token was revoked for a while", func(b *broken) {
		was := map[string]bool{}
		editsPatch(func(_ *broken, v string, p *uia.TokenPatch) {
			if p.Revoked != nil && *p.Revoked {
				was[v] = true
			}
		})(b)
		b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
			if was[c.Token] {
				return b.model.Release(ctx, c)
			}
			return b.model.Unpin(ctx, c, until, now)
		}
	}},
	{"commits for any run", beforeCommit(func(_ *broken, u *modelUse, c *uia.Claim, _ *string, _ *time.Time) {
		if u.State == uia.Pinned {
			c.Run = u.Run
		}
	})},
	{"commits for a later run", beforeCommit(func(_ *broken, u *modelUse, c *uia.Claim, _ *string, _ *time.Time) {
		if u.State == uia.Pinned && c.Run > u.Run {
			c.Run = u.Run
		}
	})},
	{"commits what is held", beforeCommit(func(_ *broken, u *modelUse, c *uia.Claim, _ *string, _ *time.Time) {
		if u.State == uia.Held && u.Run == c.Run {
			u.State = uia.Pinned
		}
	})},
	{"commits what was displaced", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			b.locked(func() {
				if b.use(c.Token, c.Session) == nil && b.token(c.Token) != nil && ctx.Err() == nil && user != "" {
					b.add(uia.Hold{Token: c.Token, Session: c.Session}, now)
					u := b.use(c.Token, c.Session)
					u.State, u.Run = uia.Pinned, c.Run
				}
			})
			return b.model.Commit(ctx, c, user, now)
		}
	}},
	{"commits to nobody", beforeCommit(func(_ *broken, _ *modelUse, _ *uia.Claim, user *string, _ *time.Time) { *user += " " })},
	{"commits for ever only once", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && u.State == uia.Spent {
				return uia.ErrSpent
			}
			return b.model.Commit(ctx, c, user, now)
		}
	}},
	{"commits a second time to another user", beforeCommit(func(_ *broken, u *modelUse, _ *uia.Claim, user *string, _ *time.Time) {
		if u.State == uia.Spent {
			*user = u.UserID
		}
	})},
	{"commits a second time for another run", beforeCommit(func(_ *broken, u *modelUse, c *uia.Claim, _ *string, _ *time.Time) {
		if u.State == uia.Spent {
			c.Run = u.Run
		}
	})},
	{"moves Changed when a commit is repeated", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			err := b.model.Commit(ctx, c, user, now)
			b.first(ctx, c, func(u *modelUse) {
				if err == nil {
					u.Changed = trunc(now)
				}
			})
			return err
		}
	}},
	{"forgets the run that committed", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			err := b.model.Commit(ctx, c, user, now)
			b.first(ctx, c, func(u *modelUse) {
				if u.State == uia.Spent {
					u.Run = 0
				}
			})
			return err
		}
	}},
	{"commits no use of a deleted token", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			if u := b.use(c.Token, c.Session); u != nil && u.of != b.token(c.Token) {
				return uia.ErrNotHeld
			}
			return b.model.Commit(ctx, c, user, now)
		}
	}},
	{"commits no use of a revoked token", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			if t := b.token(c.Token); t != nil && t.Revoked {
				return uia.ErrNotHeld
			}
			return b.model.Commit(ctx, c, user, now)
		}
	}},
	{"counts a deleted token's use for the one created again", beforeCommit(func(b *broken, u *modelUse, _ *uia.Claim, _ *string, _ *time.Time) {
		if t := b.token(u.Token); t != nil {
			u.of = t
		}
	})},
	{"releases what is spent", beforeRelease(func(_ *broken, u *modelUse, c *uia.Claim) {
		if u.State == uia.Spent && u.Run == c.Run {
			u.State = uia.Pinned
		}
	})},
	{"releases for any run", beforeRelease(func(_ *broken, u *modelUse, c *uia.Claim) {
		if u.State != uia.Spent {
			c.Run = u.Run
		}
	})},
	{"releases what is pinned for a later run", beforeRelease(func(_ *broken, u *modelUse, c *uia.Claim) {
		if u.State == uia.Pinned && c.Run > u.Run {
			c.Run = u.Run
		}
	})},
	{"releases what is held for a lower run", beforeRelease(func(_ *broken, u *modelUse, c *uia.Claim) {
		if u.State == uia.Held && c.Run < u.Run {
			c.Run = u.Run
		}
	})},
	{"releases a hold only for the run that it bears", func(b *broken) {
		b.release = func(ctx context.Context, c uia.Claim) error {
			if u := b.use(c.Token, c.Session); u != nil && u.State == uia.Held && u.Run != c.Run {
				return uia.ErrNotHeld
			}
			return b.model.Release(ctx, c)
		}
	}},
	{"lets what is released lapse instead", func(b *broken) {
		b.release = func(ctx context.Context, c uia.Claim) error {
			var held bool
			b.first(ctx, c, func(u *modelUse) {
				if held = u.State == uia.Held && c.Run >= u.Run; held {
					u.Until = at(-1000 * day)
				}
			})
			if held {
				return nil
			}
			return b.model.Release(ctx, c)
		}
	}},
	{"releases the session's uses of all tokens", beforeRelease(func(b *broken, u *modelUse, _ *uia.Claim) {
		b.remove(9, func(o *modelUse) bool { return o.Session == u.Session && o.Token != u.Token })
	})},
	{"pins the session's uses of all tokens", beforePin(func(b *broken, u *modelUse, c *uia.Claim, _ *time.Time) {
		for _, o := range b.uses {
			if o.Session == u.Session && o.State == uia.Held && o != u {
				o.State, o.Run = uia.Pinned, c.Run
			}
		}
	})},
}, turns(uia.ErrNotHeld, uia.ErrNotFound), turns(uia.ErrNotHeld, nil), turns(uia.ErrSpent, uia.ErrNotHeld),
	turns(uia.ErrNotFound, uia.ErrNotHeld), turns(uia.ErrSpent, nil))
