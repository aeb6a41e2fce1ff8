package simtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// Store is the store of all processes. Its kind says whether it does as memstore
// does, or as sqlstore does on SQLite or PostgreSQL.
type Store struct{ w *world }

var (
	_ uia.Store   = Store{}
	_ uia.Grouper = Store{}
)

// NewPostgres returns what stands for sqlstore on PostgreSQL, without a scheduler: each
// call is made at once.
func NewPostgres() Store {
	w := &world{sc: &Scenario{begin: &beginning{}}, kind: kind{rows: true}, db: newDatabase(), locks: map[string]*transaction{}, t0: time.Now()}
	return Store{w}
}

var bg = context.Background()

// The rows that calls lock.
func tokenLock(token string) string        { return "t:" + token }
func useLock(token, session string) string { return "u:" + token + "/" + session }
func recordLock(key string) string         { return "s:" + key }

// stmt makes a write by itself or in the transaction: what was put off goes first.
func (s Store) stmt(ctx context.Context, p point, do write) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.group(ctx).writes()
	return s.w.write(ctx, p, do)
}

// query makes a read.
func (s Store) query(ctx context.Context, p point, do func(*database) (string, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.w.read(ctx, p, do)
}

// CreateTokens implements uia.TokenStore.
func (s Store) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	var locks []string
	for _, t := range tokens {
		locks = append(locks, tokenLock(t.Value))
	}
	return s.stmt(ctx, point{name: "CreateTokens", locks: locks}, func(d *database) error { return d.CreateTokens(bg, tokens...) })
}

// Token implements uia.TokenStore.
func (s Store) Token(ctx context.Context, value string, now time.Time) (t uia.Token, err error) {
	err = s.query(ctx, point{name: "Token", arg: value}, func(d *database) (string, error) {
		var err error
		t, err = d.Token(bg, value, now)
		return fmt.Sprintf("pending %d completed %d revoked %t", t.Pending, t.Completed, t.Revoked), err
	})
	return kept(t, err)
}

// ListTokens implements uia.TokenStore. The engine does not call it.
func (s Store) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
	return s.w.db.ListTokens(ctx, q, now)
}

// UpdateToken implements uia.TokenStore.
func (s Store) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (t uia.Token, err error) {
	err = s.stmt(ctx, point{name: "UpdateToken", arg: value, locks: []string{tokenLock(value)}}, func(d *database) error {
		var err error
		t, err = d.UpdateToken(bg, value, p, now)
		return err
	})
	return kept(t, err)
}

// DeleteToken implements uia.TokenStore.
func (s Store) DeleteToken(ctx context.Context, value string) error {
	return s.stmt(ctx, point{name: "DeleteToken", arg: value, locks: []string{tokenLock(value)}}, func(d *database) error { return d.DeleteToken(bg, value) })
}

// Reserve implements uia.TokenStore.
func (s Store) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.group(ctx).defersHold(h, now) {
		return nil
	}
	return s.hold(ctx, h, now)
}

func (s Store) hold(ctx context.Context, h uia.Hold, now time.Time) error {
	p := point{name: "Reserve", arg: h.Token + " " + s.w.session(h.Session), locks: []string{tokenLock(h.Token), useLock(h.Token, h.Session)}}
	return s.watched(ctx, p, h, now, func(d *database) error { return d.Reserve(bg, h, now) })
}

// Pin implements uia.TokenStore.
func (s Store) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Run <= 0 {
		return uia.ErrInvalid
	}
	if g := s.group(ctx); g != nil && g.claim != nil {
		return s.pinClaimed(ctx, g, c, now)
	}
	return s.claimed(ctx, "Pin", c, func(d *database) error { return d.Pin(bg, c, now) })
}

// Unpin implements uia.TokenStore.
func (s Store) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	return s.claimed(ctx, "Unpin", c, func(d *database) error { return d.Unpin(bg, c, until, now) }, tokenLock(c.Token))
}

// Commit implements uia.TokenStore.
func (s Store) Commit(ctx context.Context, c uia.Claim, user string, now time.Time) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if user == "" {
		return uia.ErrInvalid
	}
	if t := txOf(ctx); t != nil && s.w.kind.rows {
		if err := s.flush(ctx); err != nil {
			return err
		}
		t.spending = &spending{c, user, now}
		return nil
	}
	return s.spend(ctx, spending{c, user, now})
}

// Release implements uia.TokenStore.
func (s Store) Release(ctx context.Context, c uia.Claim) error {
	return s.claimed(ctx, "Release", c, func(d *database) error { return d.Release(bg, c) }, tokenLock(c.Token))
}

func (s Store) about(name string, c uia.Claim, locks ...string) point {
	return point{name: name, arg: fmt.Sprintf("%s %s run %d", c.Token, s.w.session(c.Session), c.Run), locks: locks}
}

// ListUses implements uia.TokenStore.
func (s Store) ListUses(ctx context.Context, q uia.UseQuery) (page uia.UsePage, err error) {
	err = s.query(ctx, point{name: "ListUses"}, func(d *database) (string, error) {
		var err error
		page, err = d.ListUses(bg, q)
		return "", err
	})
	return kept(page, err)
}

// PinnedUses implements uia.TokenStore.
func (s Store) PinnedUses(ctx context.Context, before time.Time, limit int) (out []uia.Use, err error) {
	err = s.query(ctx, point{name: "PinnedUses"}, func(d *database) (string, error) {
		var err error
		out, err = d.PinnedUses(bg, before, limit)
		var text strings.Builder
		for _, u := range out {
			fmt.Fprintf(&text, "%s/%s@%d ", u.Token, s.w.session(u.Session), u.Run)
		}
		return text.String(), err
	})
	return kept(out, err)
}

// SweepHolds implements uia.TokenStore. It is explored where the scenario says so.
func (s Store) SweepHolds(ctx context.Context, before time.Time, limit int) (n int, err error) {
	if s.w.sc.Sweeps {
		err = s.stmt(ctx, point{name: "SweepHolds", locks: s.w.allUses()}, func(d *database) (err error) {
			n, err = d.SweepHolds(bg, before, limit)
			return err
		})
	}
	return kept(n, err)
}

// LoadSession implements uia.SessionStore.
func (s Store) LoadSession(ctx context.Context, key string, now time.Time) (r uia.Record, err error) {
	err = s.query(ctx, point{name: loadPoint, arg: s.w.session(key)}, func(d *database) (string, error) {
		var err error
		r, err = d.LoadSession(bg, key, now)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("revision %d state %d run %d owner %.4s", r.Revision, r.State, r.Run, r.Owner), nil
	})
	return kept(r, err)
}

const loadPoint = "LoadSession"

// SaveSession implements uia.SessionStore.
func (s Store) SaveSession(ctx context.Context, r uia.Record, now time.Time) (out uia.Record, err error) {
	if err := ctx.Err(); err != nil {
		return out, err
	}
	switch t, g := txOf(ctx), s.group(ctx); {
	case t != nil && t.spending != nil && r.Revision > 0:
		err = s.spendWith(ctx, t, r, now)
	case g.defersSave(r, now):
	case g != nil && g.hold != nil && g.claim == nil:
		err = s.saveHeld(ctx, g, deferredSave{r, now}, nil, now)
	default:
		err = s.save(ctx, r, now)
	}
	if err != nil {
		return uia.Record{}, err
	}
	r.Revision++
	r.LeaseEnd, r.Expires = r.LeaseEnd.UTC().Truncate(time.Millisecond), r.Expires.UTC().Truncate(time.Millisecond)
	return r, nil
}

func (s Store) save(ctx context.Context, r uia.Record, now time.Time) error {
	return s.stmt(ctx, point{name: "SaveSession", arg: s.record(r), locks: []string{recordLock(r.Key)}}, func(d *database) error {
		_, err := d.SaveSession(bg, r, now)
		return err
	})
}

func (s Store) record(r uia.Record) string {
	return fmt.Sprintf("%s revision %d+1 state %d run %d owner %.4s", s.w.session(r.Key), r.Revision, r.State, r.Run, r.Owner)
}

// SweepSessions implements uia.SessionStore.
func (s Store) SweepSessions(ctx context.Context, now time.Time, limit int) (n int, err error) {
	if s.w.sc.Sweeps {
		var locks []string
		for _, k := range s.w.sc.begin.keys {
			locks = append(locks, recordLock(k))
		}
		err = s.stmt(ctx, point{name: "SweepSessions", locks: locks}, func(d *database) (err error) {
			n, err = d.SweepSessions(bg, now, limit)
			return err
		})
	}
	return kept(n, err)
}

func (w *world) allUses() (locks []string) {
	for _, t := range w.sc.Tokens {
		for _, k := range w.sc.begin.keys {
			locks = append(locks, useLock(t.Value, k))
		}
	}
	return locks
}

// claimed is stmt for what changes a use in the name of a run. It must not change one
// that bears a higher run, nor, unless it pins it, one that another run has pinned.
func (s Store) claimed(ctx context.Context, name string, c uia.Claim, do write, locks ...string) error {
	p := s.about(name, c, append(locks, useLock(c.Token, c.Session))...)
	return s.stmt(ctx, p, s.watching(ctx, c.Token, do, func(before, after map[string]uia.Use) {
		was, is := before[c.Session], after[c.Session]
		if was != is && (c.Run < was.Run || was.State == uia.Pinned && c.Run != was.Run && is.State != uia.Pinned) {
			s.w.wrong("%s in the name of run %d has changed the use of %s by %s, which bears run %d", name, c.Run, c.Token, s.w.session(c.Session), was.Run)
		}
		if was.State == uia.Spent && was != is {
			s.w.wrong("%s has changed the use of %s by %s, which is spent", name, c.Token, s.w.session(c.Session))
		}
	}))
}

// watching returns do with a look at the uses of the token before and after: at the call
// itself, and not when it is made again on a copy.
func (s Store) watching(ctx context.Context, token string, do write, look func(before, after map[string]uia.Use)) write {
	if actorOf(ctx) == nil {
		return do
	}
	seen := false
	return func(d *database) error {
		if seen {
			return do(d)
		}
		seen = true
		before := d.usesBySession(token)
		err := do(d)
		look(before, d.usesBySession(token))
		return err
	}
}

// watched is stmt for a hold, which must not displace what is firm: what was not held,
// or has not lapsed by the clock of who asks.
func (s Store) watched(ctx context.Context, p point, h uia.Hold, now time.Time, do write) error {
	return s.stmt(ctx, p, s.watching(ctx, h.Token, do, func(before, after map[string]uia.Use) {
		if t := s.w.now(actorOf(ctx).proc); t.After(now) {
			now = t
		}
		for session, u := range before {
			if _, there := after[session]; !there && (u.State != uia.Held || u.Until.After(now)) {
				s.w.wrong("the use of %s by %s (state %d, until %v from now) was displaced", h.Token, s.w.session(session), u.State, u.Until.Sub(now))
			}
		}
	}))
}

func kept[T any](out T, err error) (T, error) {
	if err != nil {
		return *new(T), err
	}
	return out, nil
}

// refused reports whether err is one that Reserve returns for a use that is not to be
// had: it has written nothing.
func refused(err error) bool {
	for _, refusal := range [...]error{uia.ErrNotFound, uia.ErrRevoked, uia.ErrExpired, uia.ErrExhausted, uia.ErrSpent} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}
