package storetest

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// generalCases are about what the contract says of every method.
var generalCases = []promise{{
	name: "cancelled-context",
	says: "A call whose context is cancelled before it begins returns the context's error and changes nothing.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.pinned("t", "p", "q")
		k.held("t", "h")
		k.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
		k.save(uia.Record{Key: "old", State: uia.Open, Expires: at(0)}, 0)
		cancelled, cancel := context.WithCancel(k.ctx)
		cancel()
		k.unchanged(func() {
			all := calls(k.Store, "t")
			if invites, ok := k.Store.(uia.InviteStore); ok {
				maps.Copy(all, inviteCalls(invites))
			}
			for name, call := range all {
				k.outcome(call(cancelled), "%s with a cancelled context", name).is(context.Canceled)
			}
			_, err := k.SweepHolds(cancelled, at(hour), 9)
			k.outcome(err, "SweepHolds with a cancelled context").is(context.Canceled)
		})
		k.same("the record", k.load("k", 0).Revision, 1)
		if n, err := k.SweepSessions(k.ctx, at(0), 9); n != 1 || err != nil {
			k.Fatalf("SweepSessions: got %d, %v: the sweep with a cancelled context has deleted the record", n, err)
		}
	},
}, {
	name: "values-in-are-copied",
	says: "Nothing that is passed in or returned is aliased by the store.",
	test: func(k *kit) {
		t := uia.Token{Value: "t", UsesAllowed: new(int64(2)), Meta: json.RawMessage(`{"a":1}`)}
		k.create(t).ok()
		*t.UsesAllowed, t.Meta[2] = 7, 'x'
		k.same("limit after the argument was changed", k.token("t", 0).UsesAllowed, new(int64(2)))
		k.same("meta after the argument was changed", k.token("t", 0).Meta, json.RawMessage(`{"a":1}`))
		n, meta := new(int64(3)), json.RawMessage(`{"b":1}`)
		k.update("t", uia.TokenPatch{UsesAllowed: &n, Meta: &meta}).ok()
		*n, meta[2] = 7, 'x'
		k.same("limit after the patch was changed", k.token("t", 0).UsesAllowed, new(int64(3)))
		k.same("meta after the patch was changed", k.token("t", 0).Meta, json.RawMessage(`{"b":1}`))
		r := uia.Record{Key: "k", State: uia.Open, Expires: at(hour), Data: []byte("data")}
		k.save(r, 0)
		r.Data[0] = 'x'
		k.same("data after the argument was changed", string(k.load("k", 0).Data), "data")
	},
}, {
	name: "values-out-are-copies",
	says: "Nothing that is passed in or returned is aliased by the store.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(2)), Meta: json.RawMessage(`{"a":1}`)}).ok()
		k.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour), Data: []byte("data")}, 0)
		var got []uia.Token
		t, err := k.UpdateToken(k.ctx, "t", uia.TokenPatch{Label: new("new")}, epoch)
		k.outcome(err, "UpdateToken").ok()
		got = append(got, t, k.token("t", 0))
		page, err := k.ListTokens(k.ctx, uia.TokenQuery{}, epoch)
		k.outcome(err, "ListTokens").ok()
		got = append(got, page.Tokens...)
		for _, t := range got {
			*t.UsesAllowed, t.Meta[2] = 7, 'x'
			k.same("limit after a returned token was changed", k.token("t", 0).UsesAllowed, new(int64(2)))
			k.same("meta after a returned token was changed", k.token("t", 0).Meta, json.RawMessage(`{"a":1}`))
		}
		k.load("k", 0).Data[0] = 'x'
		k.same("data after a loaded record was changed", string(k.load("k", 0).Data), "data")
		r := k.save(uia.Record{Key: "k", Revision: 1, State: uia.Open, Expires: at(hour), Data: []byte("data")}, 0)
		r.Data[0] = 'x'
		k.same("data after a saved record was changed", string(k.load("k", 0).Data), "data")
	},
}, {
	name: "no-clock",
	says: "Time is an argument: a store reads no clock.",
	test: func(k *kit) {
		for i, now := range []time.Duration{-10 * 365 * day, 100 * 365 * day} {
			v := []string{"past", "future"}[i]
			k.create(uia.Token{Value: v, UsesAllowed: new(int64(1)), Expires: at(now + hour)}).ok()
			k.reserve(v, "a", now+minute, now).ok()
			k.counts(v, now, 1, 0)
			k.reserve(v, "b", now+minute, now).is(uia.ErrExhausted)
			k.same("usable at "+v, k.list(uia.TokenQuery{Valid: new(true)}, now+minute), []string{v})
			k.pin(v, "a", 1, now).ok()
			k.commit(v, "a", 1, "@a", now+2*milli).ok()
			u := k.uses(v)[0]
			k.same("when the use was made", u.Made, at(now))
			k.same("when the use was spent", u.Changed, at(now+2*milli))
			k.same("when the token was last used", k.token(v, now).LastUsed, at(now+2*milli))
			k.save(uia.Record{Key: v, State: uia.Open, Expires: at(now + minute)}, now)
			k.load(v, now)
			k.delete(v).ok()
		}
	},
}, {
	name: "times-in-milliseconds-utc",
	says: "Times are UTC with millisecond precision: a store truncates what it is given.",
	test: func(k *kit) {
		zone := time.FixedZone("", 3600)
		odd := func(d time.Duration) time.Time { return at(d + 999_999*time.Nanosecond).In(zone) }
		k.create(uia.Token{Value: "t", Created: odd(0), Expires: odd(hour)}).ok()
		k.same("created", k.token("t", 0).Created, at(0))
		k.same("expires", k.token("t", 0).Expires, at(hour))
		k.update("t", uia.TokenPatch{Expires: new(odd(2 * hour))}).ok()
		k.same("expires, updated", k.token("t", 0).Expires, at(2*hour))
		use := func() uia.Use { return k.uses("t")[0] }
		hold := func(until, now time.Duration) {
			err := k.Reserve(k.ctx, uia.Hold{Token: "t", Session: "a", Until: odd(until)}, odd(now))
			k.outcome(err, "Reserve").ok()
		}
		hold(minute, milli)
		k.same("made", use().Made, at(milli))
		k.same("until", use().Until, at(minute))
		hold(2*minute, milli)
		k.same("until, renewed", use().Until, at(2*minute))
		claim := uia.Claim{Token: "t", Session: "a", Run: 1}
		k.outcome(k.Pin(k.ctx, claim, odd(2*milli)), "Pin").ok()
		k.same("changed by Pin", use().Changed, at(2*milli))
		k.outcome(k.Unpin(k.ctx, claim, odd(hour), odd(3*milli)), "Unpin").ok()
		k.same("until, unpinned", use().Until, at(hour))
		k.same("changed by Unpin", use().Changed, at(3*milli))
		k.pin("t", "a", 2, 0).ok()
		claim.Run = 2
		k.outcome(k.Commit(k.ctx, claim, "@a", odd(4*milli)), "Commit").ok()
		k.same("changed by Commit", use().Changed, at(4*milli))
		k.same("last used", k.token("t", 0).LastUsed, at(4*milli))
		r := k.save(uia.Record{Key: "k", State: uia.Running, Expires: odd(hour), LeaseEnd: odd(minute)}, 0)
		for _, r := range []uia.Record{r, k.load("k", 0)} {
			k.same("expires", r.Expires, at(hour))
			k.same("the end of the lease", r.LeaseEnd, at(minute))
		}
	},
}, {
	name: "values-outside-the-grammar",
	says: "A value outside the token grammar is ErrInvalid for CreateTokens and ErrNotFound for every other method, an unknown session is ErrNotHeld.",
	test: func(k *kit) {
		for _, v := range []string{"", strings.Repeat("a", 65), "a b", "a/b", "a+b", "ä", "a\x00", "a\n", "\xff", "a'b", `a"b`, "%", "*"} {
			k.create(uia.Token{Value: v}).is(uia.ErrInvalid)
			k.create(uia.Token{Value: "fine"}, uia.Token{Value: v}).is(uia.ErrInvalid)
			for name, call := range calls(k.Store, v) {
				switch name {
				case "CreateTokens", "ListTokens", "PinnedUses", "LoadSession", "SaveSession", "SweepSessions":
					continue // take no value
				}
				k.outcome(call(k.ctx), "%s of %q", name, v).is(uia.ErrNotFound)
			}
		}
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{})
	},
}, {
	name: "unknown-sessions",
	says: "A value outside the token grammar is ErrInvalid for CreateTokens and ErrNotFound for every other method, an unknown session is ErrNotHeld.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.pinned("t", "a")
		k.unchanged(func() {
			for _, token := range []string{"t", "unknown"} {
				k.pin(token, "x", 1, 0).is(uia.ErrNotHeld)
				k.unpin(token, "x", 1, minute, 0).is(uia.ErrNotHeld)
				k.commit(token, "x", 1, "@x", 0).is(uia.ErrNotHeld)
				k.release(token, "x", 1).is(uia.ErrNotHeld)
			}
			k.release("t", "x", 0).is(uia.ErrNotHeld)
			k.release("t", "A", 1).is(uia.ErrNotHeld)
		})
	},
}, {
	name: "unknown-tokens",
	says: "ErrNotFound says that there is no such token, or no such session record.",
	test: func(k *kit) {
		k.limited("t", 9)
		for _, v := range []string{"x", "T", "t.", "t~"} {
			_, err := k.Token(k.ctx, v, epoch)
			k.outcome(err, "Token(%s)", v).is(uia.ErrNotFound)
			k.reserve(v, "a", minute, 0).is(uia.ErrNotFound)
			k.update(v, uia.TokenPatch{Label: new("x")}).is(uia.ErrNotFound)
			k.delete(v).is(uia.ErrNotFound)
		}
		_, err := k.LoadSession(k.ctx, "x", epoch)
		k.outcome(err, "LoadSession").is(uia.ErrNotFound)
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"t"})
	},
}}

// calls returns a call of every method that takes a token's value, and of every
// other one, by its name. On a token with the pinned uses p and q each changes
// something.
func calls(s uia.Store, value string) map[string]func(context.Context) error {
	claim := func(session string) uia.Claim { return uia.Claim{Token: value, Session: session, Run: 1} }
	return map[string]func(context.Context) error{
		"CreateTokens": func(ctx context.Context) error { return s.CreateTokens(ctx, uia.Token{Value: "new"}) },
		"Token":        func(ctx context.Context) error { _, err := s.Token(ctx, value, epoch); return err },
		"ListTokens":   func(ctx context.Context) error { _, err := s.ListTokens(ctx, uia.TokenQuery{}, epoch); return err },
		"UpdateToken": func(ctx context.Context) error {
			_, err := s.UpdateToken(ctx, value, uia.TokenPatch{Label: new("x")}, epoch)
			return err
		},
		"DeleteToken": func(ctx context.Context) error { return s.DeleteToken(ctx, value) },
		"Reserve": func(ctx context.Context) error {
			err := s.Reserve(ctx, uia.Hold{Token: value, Session: "new", Until: at(hour)}, epoch)
			return err
		},
		"Pin":     func(ctx context.Context) error { return s.Pin(ctx, claim("h"), epoch) },
		"Unpin":   func(ctx context.Context) error { return s.Unpin(ctx, claim("p"), at(hour), epoch) },
		"Commit":  func(ctx context.Context) error { return s.Commit(ctx, claim("p"), "@p", epoch) },
		"Release": func(ctx context.Context) error { return s.Release(ctx, claim("q")) },
		"ListUses": func(ctx context.Context) error {
			_, err := s.ListUses(ctx, uia.UseQuery{Token: value})
			return err
		},
		"PinnedUses":  func(ctx context.Context) error { _, err := s.PinnedUses(ctx, at(hour), 9); return err },
		"LoadSession": func(ctx context.Context) error { _, err := s.LoadSession(ctx, "k", epoch); return err },
		"SaveSession": func(ctx context.Context) error {
			_, err := s.SaveSession(ctx, uia.Record{Key: "k", Revision: 1, State: uia.Open, Expires: at(hour)}, epoch)
			return err
		},
		"SweepSessions": func(ctx context.Context) error { _, err := s.SweepSessions(ctx, epoch, 9); return err },
	}
}
