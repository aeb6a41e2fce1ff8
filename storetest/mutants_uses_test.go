package storetest

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

// beforeReserve makes a mutant that does something first.
func beforeReserve(f func(b *broken, h *uia.Hold, now *time.Time)) func(*broken) {
	return func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			if ctx.Err() == nil {
				b.locked(func() { f(b, &h, &now) })
			}
			return b.model.Reserve(ctx, h, now)
		}
	}
}

// afterReserve makes a mutant that does something with the session's use and the
// answer afterwards. It may take the use for nil.
func afterReserve(f func(b *broken, u *modelUse, err *error)) func(*broken) {
	return func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			err := b.model.Reserve(ctx, h, now)
			b.locked(func() { f(b, b.use(h.Token, h.Session), &err) })
			return err
		}
	}
}

// refuses makes a mutant that refuses some of what it should reserve.
func refuses(with error, when func(b *broken, t *modelToken, u *modelUse, now time.Time) bool) func(*broken) {
	return func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			var refused bool
			b.locked(func() {
				t, u := b.token(h.Token), b.use(h.Token, h.Session)
				refused = t != nil && when(b, t, u, now)
			})
			if refused && ctx.Err() == nil {
				return with
			}
			return b.model.Reserve(ctx, h, now)
		}
	}
}

func lapsed(of string, now time.Time) func(*modelUse) bool {
	return func(u *modelUse) bool { return u.Token == of && u.State == uia.Held && !u.Until.After(now) }
}

// exhausted reports whether the token has as many uses as it may, lapsed or not.
func (b *broken) exhausted(t *modelToken) bool {
	n := int64(0)
	if t != nil {
		n = t.imported
	}
	for _, u := range b.uses {
		if u.of == t {
			n++
		}
	}
	return t != nil && t.UsesAllowed != nil && n >= *t.UsesAllowed
}

// add adds a hold without asking whether there is room.
func (b *broken) add(h uia.Hold, now time.Time) {
	b.uses = append(b.uses, &modelUse{of: b.token(h.Token), Use: uia.Use{
		Token: h.Token, Session: h.Session, State: uia.Held, Until: trunc(h.Until), Made: trunc(now), Changed: trunc(now),
	}})
}

var holdMutants = []mutant{
	{"looks at the clock to reserve", beforeReserve(func(_ *broken, _ *uia.Hold, now *time.Time) { *now = time.Now() })},
	{"keeps nanoseconds of a hold", afterReserve(func(_ *broken, u *modelUse, err *error) {
		if u != nil {
			u.Until = u.Until.Add(1)
		}
	})},
	{"knows holds of five minutes only", beforeReserve(func(_ *broken, h *uia.Hold, now *time.Time) { h.Until = now.Add(5 * minute) })},
	{"gives a session a second use", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		if u, t := b.use(h.Token, h.Session), b.token(h.Token); u != nil && u.State == uia.Held && !b.exhausted(t) {
			b.add(*h, *now)
		}
	})},
	{"never shortens a hold", beforeReserve(func(b *broken, h *uia.Hold, _ *time.Time) {
		if u := b.use(h.Token, h.Session); u != nil && u.Until.After(h.Until) {
			h.Until = u.Until
		}
	})},
	{"makes a hold anew when it is renewed", func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			err := b.model.Reserve(ctx, h, now)
			if u := b.use(h.Token, h.Session); err == nil && u.State == uia.Held {
				u.Made = trunc(now)
			}
			return err
		}
	}},
	{"cannot renew a hold that has lapsed", refuses(uia.ErrExhausted, func(b *broken, t *modelToken, u *modelUse, now time.Time) bool {
		return u != nil && lapsed(t.Value, now)(u) && b.exhausted(t)
	})},
	{"cannot renew a hold when the token has expired", refuses(uia.ErrExpired, func(_ *broken, t *modelToken, u *modelUse, now time.Time) bool {
		return u != nil && u.State == uia.Held && errors.Is(t.Usable(now), uia.ErrExpired)
	})},
	{"cannot renew a hold when the limit was lowered", refuses(uia.ErrExhausted, func(_ *broken, t *modelToken, u *modelUse, _ time.Time) bool {
		return u != nil && u.State == uia.Held && t.UsesAllowed != nil && *t.UsesAllowed == 0
	})},
	{"reserves a token that is revoked", beforeReserve(func(b *broken, h *uia.Hold, _ *time.Time) {
		if t := b.token(h.Token); t != nil {
			t.Revoked = false
		}
	})},
	{"unpins what is reserved again", beforeReserve(func(b *broken, h *uia.Hold, _ *time.Time) {
		if u := b.use(h.Token, h.Session); u != nil && u.State == uia.Pinned {
			u.State = uia.Held
		}
	})},
	{"refuses who has pinned a use of an expired token", refuses(uia.ErrExpired, func(_ *broken, t *modelToken, u *modelUse, now time.Time) bool {
		return u != nil && u.State == uia.Pinned && errors.Is(t.Usable(now), uia.ErrExpired)
	})},
	{"refuses who has pinned a use of a revoked token", refuses(uia.ErrRevoked, func(_ *broken, t *modelToken, u *modelUse, _ time.Time) bool {
		return u != nil && u.State == uia.Pinned && t.Revoked
	})},
	{"reserves in the millisecond of expiry", beforeReserve(func(_ *broken, _ *uia.Hold, now *time.Time) { *now = now.Add(-milli) })},
	{"reserves nothing in the millisecond before expiry", refuses(uia.ErrExpired, func(_ *broken, t *modelToken, u *modelUse, now time.Time) bool {
		return u == nil && now.Add(milli).Equal(t.Expires)
	})},
	{"takes a token without expiry for expired", refuses(uia.ErrExpired, func(_ *broken, t *modelToken, _ *modelUse, now time.Time) bool {
		return t.Expires.IsZero() && now.After(at(10*365*day))
	})},
	{"finds a token exhausted before it finds it expired", refuses(uia.ErrExhausted, func(b *broken, t *modelToken, u *modelUse, _ time.Time) bool {
		return u == nil && !t.Revoked && b.exhausted(t) && !slices.ContainsFunc(b.uses, func(u *modelUse) bool { return u.State == uia.Held })
	})},
	{"finds a token expired before it finds it revoked", refuses(uia.ErrExpired, func(_ *broken, t *modelToken, u *modelUse, now time.Time) bool {
		return u == nil && t.Revoked && !t.Expires.IsZero() && !now.Before(t.Expires)
	})},
	{"finds a token revoked before it finds a use spent", refuses(uia.ErrRevoked, func(_ *broken, t *modelToken, u *modelUse, _ time.Time) bool {
		return u != nil && u.State == uia.Spent && t.Revoked
	})},
	{"finds no token before it finds a use spent", func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			if _, err := b.model.Token(ctx, h.Token, now); err != nil {
				return err
			}
			return b.model.Reserve(ctx, h, now)
		}
	}},
	{"reserves again what is spent", beforeReserve(func(b *broken, h *uia.Hold, _ *time.Time) {
		b.remove(1, func(u *modelUse) bool { return u.Token == h.Token && u.Session == h.Session && u.State == uia.Spent })
	})},
	{"deletes lapsed holds before it looks whether that is enough", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		if b.exhausted(b.token(h.Token)) && b.use(h.Token, h.Session) == nil {
			b.remove(math.MaxInt, lapsed(h.Token, *now))
		}
	})},
	{"deletes all lapsed holds whenever it reserves", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return lapsed(h.Token, *now)(u) && u.Session != h.Session })
	})},
	{"deletes one lapsed hold whenever it reserves", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		b.remove(1, func(u *modelUse) bool { return lapsed(h.Token, *now)(u) && u.Session != h.Session })
	})},
	{"displaces any lapsed hold", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		if b.exhausted(b.token(h.Token)) && b.use(h.Token, h.Session) == nil {
			b.remove(1, lapsed(h.Token, *now))
		}
	})},
	{"displaces the hold that lapsed last", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		t := b.token(h.Token)
		if !b.exhausted(t) || b.use(h.Token, h.Session) != nil {
			return
		}
		var last *modelUse
		for _, u := range b.uses {
			if lapsed(h.Token, *now)(u) && (last == nil || u.Until.After(last.Until)) {
				last = u
			}
		}
		b.remove(1, func(u *modelUse) bool { return u == last })
	})},
	{"displaces holds of other tokens", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		b.remove(1, func(u *modelUse) bool { return u.Token != h.Token && lapsed(u.Token, *now)(u) })
	})},
	{"never displaces", refuses(uia.ErrExhausted, func(b *broken, t *modelToken, u *modelUse, now time.Time) bool {
		return u == nil && t.Usable(now) == nil && b.exhausted(t)
	})},
	{"displaces at most one", refuses(uia.ErrExhausted, func(b *broken, t *modelToken, u *modelUse, now time.Time) bool {
		n := int64(0)
		for _, u := range b.uses {
			if u.of == t {
				n++
			}
		}
		return u == nil && t.Usable(now) == nil && t.UsesAllowed != nil && n > *t.UsesAllowed
	})},
	{"displaces a hold before it lapses", beforeReserve(func(_ *broken, _ *uia.Hold, now *time.Time) { *now = now.Add(milli) })},
	{"disregards lapsed holds without deleting them", func(b *broken) {
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			var done bool
			b.locked(func() {
				if of := b.token(h.Token); ctx.Err() == nil && of != nil && b.use(h.Token, h.Session) == nil && b.view(of, now).Usable(now) == nil {
					b.add(h, now)
					done = true
				}
			})
			if done {
				return nil
			}
			return b.model.Reserve(ctx, h, now)
		}
	}},
	{"lets a pin lapse after a day", beforeReserve(func(b *broken, h *uia.Hold, now *time.Time) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.State == uia.Pinned && now.After(u.Changed.Add(day)) })
	})},
	{"has one use for a session", beforeReserve(func(b *broken, h *uia.Hold, _ *time.Time) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.Session == h.Session && u.Token != h.Token })
	})},
	{"refuses a session that has a use of another token", func(b *broken) {
		refuses(uia.ErrExhausted, func(b *broken, t *modelToken, _ *modelUse, _ time.Time) bool {
			return slices.ContainsFunc(b.uses, func(u *modelUse) bool { return u.Session == "a" && u.of != t && u.State == uia.Spent })
		})(b)
	}},
	{"forgets lapsed holds when it is asked for a token", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			b.locked(func() { b.remove(math.MaxInt, lapsed(v, now)) })
			return b.model.Token(ctx, v, now)
		}
	}},
	{"forgets the run when a hold is renewed", beforeReserve(func(b *broken, h *uia.Hold, _ *time.Time) {
		if u := b.use(h.Token, h.Session); u != nil && u.State == uia.Held {
			u.Run = 0
		}
	})},
}

// editsUses makes a mutant that shows other uses than there are.
func editsUses(edit func(b *broken, q uia.UseQuery, p *uia.UsePage, err *error)) func(*broken) {
	return func(b *broken) {
		b.listUses = func(ctx context.Context, q uia.UseQuery) (uia.UsePage, error) {
			p, err := b.model.ListUses(ctx, q)
			edit(b, q, &p, &err)
			return p, err
		}
	}
}

// editsPinned makes a mutant that lists other pinned uses than there are.
func editsPinned(edit func(b *broken, uses []uia.Use, limit int) []uia.Use) func(*broken) {
	return func(b *broken) {
		b.pinnedUses = func(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
			uses, err := b.model.PinnedUses(ctx, before, math.MaxInt)
			if limit < 1 {
				return nil, uia.ErrInvalid
			}
			return edit(b, uses, limit), err
		}
	}
}

// sweeps makes a mutant that sweeps something else.
func sweeps(edit func(b *broken, before *time.Time, limit *int), count func(n int) int) func(*broken) {
	return func(b *broken) {
		b.sweepHolds = func(ctx context.Context, before time.Time, limit int) (int, error) {
			b.locked(func() { edit(b, &before, &limit) })
			n, err := b.model.SweepHolds(ctx, before, limit)
			if count != nil {
				n = count(n)
			}
			return n, err
		}
	}
}

// seesDeleted makes a mutant that lists other uses of deleted tokens than there are.
func seesDeleted(see func(b *broken, u uia.Use, q uia.UseQuery) bool) func(*broken) {
	return editsUses(func(b *broken, q uia.UseQuery, p *uia.UsePage, _ *error) {
		if q.Deleted {
			p.Uses = slices.DeleteFunc(p.Uses, func(u uia.Use) bool { return !see(b, u, q) })
		}
	})
}

var useMutants = []mutant{
	{"lists no uses of deleted tokens", seesDeleted(func(*broken, uia.Use, uia.UseQuery) bool { return false })},
	{"lists the spent uses of deleted tokens alone", seesDeleted(func(_ *broken, u uia.Use, _ uia.UseQuery) bool { return u.State == uia.Spent })},
	{"knows the last token alone that was deleted", func(b *broken) {
		last := map[string]*modelToken{}
		b.deleteToken = func(ctx context.Context, v string) error {
			b.locked(func() { last[v] = b.token(v) })
			return b.model.DeleteToken(ctx, v)
		}
		seesDeleted(func(b *broken, u uia.Use, q uia.UseQuery) bool { return b.use(u.Token, u.Session).of == last[q.Token] })(b)
	}},
	{"lists the uses of the token among those of deleted ones", editsUses(func(b *broken, q uia.UseQuery, p *uia.UsePage, _ *error) {
		if q.Deleted && q.After == nil {
			own, _ := b.model.ListUses(context.Background(), uia.UseQuery{Token: q.Token})
			p.Uses = append(p.Uses, own.Uses...)
		}
	})},
	{"finds no uses where it knows no such value", editsUses(func(b *broken, q uia.UseQuery, _ *uia.UsePage, err *error) {
		if q.Deleted && b.token(q.Token) == nil && !slices.ContainsFunc(b.uses, func(u *modelUse) bool { return u.Token == q.Token }) {
			*err = uia.ErrNotFound
		}
	})},
	{"takes any text for the value of a deleted token", editsUses(func(_ *broken, q uia.UseQuery, _ *uia.UsePage, err *error) {
		if q.Deleted && errors.Is(*err, uia.ErrNotFound) {
			*err = nil
		}
	})},
	{"lists the oldest use first", editsUses(func(_ *broken, _ uia.UseQuery, p *uia.UsePage, _ *error) { slices.Reverse(p.Uses) })},
	{"lists uses by session only", editsUses(func(_ *broken, _ uia.UseQuery, p *uia.UsePage, _ *error) {
		slices.SortFunc(p.Uses, func(a, b uia.Use) int { return -compare(a.Session, b.Session) })
	})},
	{"lists uses of one moment in ascending order", editsUses(func(_ *broken, _ uia.UseQuery, p *uia.UsePage, _ *error) {
		slices.SortStableFunc(p.Uses, func(a, b uia.Use) int {
			if c := b.Made.Compare(a.Made); c != 0 {
				return c
			}
			return compare(a.Session, b.Session)
		})
	})},
	{"lists a use twice", editsUses(func(b *broken, q uia.UseQuery, p *uia.UsePage, err *error) {
		if q.After != nil && len(p.Uses) > 0 {
			*p, *err = b.model.ListUses(context.Background(), uia.UseQuery{Token: q.Token, Limit: 1})
		}
	})},
	{"pages uses by the time alone", editsUses(func(_ *broken, q uia.UseQuery, p *uia.UsePage, _ *error) {
		p.Uses = slices.DeleteFunc(p.Uses, func(u uia.Use) bool { return q.After != nil && !u.Made.Before(q.After.Made) })
	})},
	{"lists a hundred uses at most", editsUses(func(_ *broken, _ uia.UseQuery, p *uia.UsePage, _ *error) { p.Uses = p.Uses[:min(100, len(p.Uses))] })},
	{"takes a negative limit of uses for the default", editsUses(func(_ *broken, q uia.UseQuery, _ *uia.UsePage, err *error) {
		if q.Limit < 0 {
			*err = nil
		}
	})},
	{"lists uses of a deleted token", editsUses(func(b *broken, q uia.UseQuery, p *uia.UsePage, err *error) {
		for _, u := range b.uses {
			if u.Token == q.Token && u.of != b.token(q.Token) {
				p.Uses, *err = append(p.Uses, u.Use), nil
			}
		}
	})},
	{"lists no pinned uses of deleted tokens", editsPinned(func(b *broken, uses []uia.Use, limit int) []uia.Use {
		uses = slices.DeleteFunc(uses, func(u uia.Use) bool { return b.token(u.Token) == nil })
		return uses[:min(limit, len(uses))]
	})},
	{"lists the newest pinned uses", editsPinned(func(_ *broken, uses []uia.Use, limit int) []uia.Use {
		slices.Reverse(uses)
		return uses[:min(limit, len(uses))]
	})},
	{"lists all pinned uses", editsPinned(func(_ *broken, uses []uia.Use, _ int) []uia.Use { return uses })},
	{"lists pinned uses that changed at the very time", func(b *broken) {
		b.pinnedUses = func(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
			return b.model.PinnedUses(ctx, before.Add(milli), limit)
		}
	}},
	{"lists pinned uses without a limit", func(b *broken) {
		b.pinnedUses = func(ctx context.Context, before time.Time, limit int) ([]uia.Use, error) {
			if limit < 1 {
				limit = 1
			}
			return b.model.PinnedUses(ctx, before, limit)
		}
	}},
	{"sweeps a hold as it lapses", sweeps(func(_ *broken, before *time.Time, _ *int) { *before = before.Add(milli) }, nil)},
	{"sweeps more than it is asked to", sweeps(func(_ *broken, _ *time.Time, limit *int) { *limit++ }, nil)},
	{"sweeps more than it says", sweeps(func(*broken, *time.Time, *int) {}, func(n int) int { return min(n, 1) })},
	{"sweeps holds of one token only", sweeps(func(b *broken, _ *time.Time, limit *int) {
		if slices.ContainsFunc(b.uses, func(u *modelUse) bool { return u.Token == "u" }) {
			*limit = 0
		}
	}, nil)},
	{"sweeps pinned uses", sweeps(func(b *broken, before *time.Time, _ *int) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.State == uia.Pinned && u.Changed.Before(*before) })
	}, nil)},
	{"sweeps spent uses", sweeps(func(b *broken, before *time.Time, _ *int) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.State == uia.Spent && u.Changed.Before(*before) })
	}, nil)},
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
