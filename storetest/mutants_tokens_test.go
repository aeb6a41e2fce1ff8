package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// mutant is a way to break a store. The name goes on from "a store which".
type mutant struct {
	name   string
	breaks func(b *broken)
}

func mutants() []mutant {
	all := slices.Concat(tokenMutants, listMutants, holdMutants, claimMutants, useMutants, sessionMutants, raceMutants, txMutants, inviteMutants, inviteRaceMutants, refusesAfterwards())
	methods := calls(nil, "")
	maps.Copy(methods, inviteCalls(nil))
	for method := range methods {
		all = append(all, mutant{"ignores that the context of " + method + " is cancelled", func(b *broken) { b.ignoresContext = method }})
	}
	return append(all, mutant{"ignores that the context of SweepHolds is cancelled", func(b *broken) { b.ignoresContext = "SweepHolds" }})
}

// facesStorms reports whether the mutant is put through the cases that race many
// callers, in transactions or not. They take their time, and most mutants do without
// locks.
func (m mutant) facesStorms(inTx bool) bool {
	among := func(mutants []mutant) bool {
		return slices.ContainsFunc(mutants, func(r mutant) bool { return r.name == m.name })
	}
	return m.name == "disregards lapsed holds without deleting them" || m.name == "commits for any run" ||
		among(raceMutants) || among(inviteRaceMutants) || inTx && among(txMutants)
}

// invites reports whether the mutant breaks what an InviteStore promises. Only the cases
// about that meet it, and they meet no other, which saves time.
func (m mutant) invites() bool {
	return slices.ContainsFunc(slices.Concat(inviteMutants, inviteRaceMutants), func(r mutant) bool { return r.name == m.name })
}

func (b *broken) locked(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// anywhere is the context of a mutant's own calls, be it in a transaction or not.
var anywhere = context.WithValue(context.Background(), inTx{}, true)

// editsCreated makes a mutant whose tokens differ from what was given.
func editsCreated(edit func(kept *uia.Token, given uia.Token)) func(*broken) {
	return func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			err := b.model.CreateTokens(ctx, tokens...)
			for _, t := range tokens {
				if err == nil {
					b.locked(func() { edit(&b.token(t.Value).Token, t) })
				}
			}
			return err
		}
	}
}

// editsGiven makes a mutant that changes tokens before it creates them.
func editsGiven(edit func(t *uia.Token)) func(*broken) {
	return func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			tokens = slices.Clone(tokens)
			for i := range tokens {
				edit(&tokens[i])
			}
			return b.model.CreateTokens(ctx, tokens...)
		}
	}
}

// editsToken makes a mutant that shows every token otherwise than it is.
func editsToken(edit func(t *uia.Token, now time.Time)) func(*broken) {
	return func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, v, now)
			edit(&t, now)
			return t, err
		}
	}
}

// editsPatch makes a mutant that changes a patch before it applies it.
func editsPatch(edit func(b *broken, v string, p *uia.TokenPatch)) func(*broken) {
	return func(b *broken) {
		b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
			edit(b, v, &p)
			return b.model.UpdateToken(ctx, v, p, now)
		}
	}
}

// beforeDelete makes a mutant that does something with the uses first.
func beforeDelete(f func(b *broken, of *modelToken)) func(*broken) {
	return func(b *broken) {
		b.deleteToken = func(ctx context.Context, v string) error {
			b.locked(func() {
				if t := b.token(v); t != nil {
					f(b, t)
				}
			})
			return b.model.DeleteToken(ctx, v)
		}
	}
}

var tokenMutants = []mutant{
	{"keeps the pointer to the limit that it was given", editsCreated(func(kept *uia.Token, t uia.Token) { kept.UsesAllowed = t.UsesAllowed })},
	{"keeps the meta bytes that it was given", editsCreated(func(kept *uia.Token, t uia.Token) { kept.Meta = t.Meta })},
	{"keeps the pointers of a patch", func(b *broken) {
		b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
			t, err := b.model.UpdateToken(ctx, v, p, now)
			if err == nil && p.UsesAllowed != nil {
				b.token(v).UsesAllowed = *p.UsesAllowed
			}
			return t, err
		}
	}},
	{"hands out its own meta bytes", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, v, now)
			if err == nil {
				t.Meta = b.token(v).Meta
			}
			return t, err
		}
	}},
	{"hands out its own limit from ListTokens", func(b *broken) {
		b.listTokens = func(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
			p, err := b.model.ListTokens(ctx, q, now)
			for i := range p.Tokens {
				p.Tokens[i].UsesAllowed = b.token(p.Tokens[i].Value).UsesAllowed
			}
			return p, err
		}
	}},
	{"looks at the clock to count", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, _ time.Time) (uia.Token, error) {
			return b.model.Token(ctx, v, time.Now())
		}
	}},
	{"keeps nanoseconds of a token", editsCreated(func(kept *uia.Token, t uia.Token) { kept.Created = t.Created.UTC() })},
	{"keeps the time zone of a token", editsCreated(func(kept *uia.Token, t uia.Token) { kept.Expires = kept.Expires.In(t.Expires.Location()) })},
	{"keeps seconds only", editsCreated(func(kept *uia.Token, t uia.Token) { kept.Created = t.Created.UTC().Truncate(time.Second) })},
	{"rounds to the next millisecond", editsGiven(func(t *uia.Token) { t.Expires = t.Expires.Round(milli) })},
	{"knows no zero time", editsCreated(func(kept *uia.Token, t uia.Token) {
		if t.Created.IsZero() {
			kept.Created = time.UnixMilli(0).UTC()
		}
	})},
	{"cuts a value that is too long", editsGiven(func(t *uia.Token) { t.Value = t.Value[:min(64, len(t.Value))] })},
	{"trims a value", editsGiven(func(t *uia.Token) { t.Value = strings.TrimSpace(t.Value) })},
	{"refuses values of 64 characters", editsGiven(func(t *uia.Token) {
		if len(t.Value) > 63 {
			t.Value = ""
		}
	})},
	{"knows no tilde", editsGiven(func(t *uia.Token) {
		if strings.Contains(t.Value, "~") {
			t.Value = ""
		}
	})},
	{"ignores case", func(b *broken) {
		editsGiven(func(t *uia.Token) { t.Value = strings.ToLower(t.Value) })(b)
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, strings.ToLower(v), now)
			t.Value = v
			return t, err
		}
	}},
	{"knows every token", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, v, now)
			if errors.Is(err, uia.ErrNotFound) && uia.ValidTokenValue(v) {
				return uia.Token{Value: v}, nil
			}
			return t, err
		}
	}},
	{"returns a token only while it is usable", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, v, now)
			return t, errors.Join(err, t.Usable(now))
		}
	}},
	{"loses who created a token", editsCreated(func(kept *uia.Token, _ uia.Token) { kept.CreatedBy = "" })},
	{"has 32 bits for a limit", editsCreated(func(kept *uia.Token, t uia.Token) {
		if t.UsesAllowed != nil {
			kept.UsesAllowed = new(int64(int32(*t.UsesAllowed)))
		}
	})},
	{"takes zero uses for any number", editsCreated(func(kept *uia.Token, t uia.Token) {
		if t.UsesAllowed != nil && *t.UsesAllowed == 0 {
			kept.UsesAllowed = nil
		}
	})},
	{"takes any number of uses for a thousand", editsCreated(func(kept *uia.Token, t uia.Token) {
		if t.UsesAllowed == nil {
			kept.UsesAllowed = new(int64(1000))
		}
	})},
	{"keeps the counters that it is given", func(b *broken) {
		given := map[string]int64{}
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			for _, t := range tokens {
				given[t.Value] = t.Pending
			}
			return b.model.CreateTokens(ctx, tokens...)
		}
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, v, now)
			t.Pending += given[v]
			return t, err
		}
	}},
	{"forgets what was spent elsewhere", editsGiven(func(t *uia.Token) { t.Completed = 0 })},
	{"shows what was spent elsewhere, and lets it be spent again", func(b *broken) {
		given := map[string]int64{}
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			tokens = slices.Clone(tokens)
			for i, t := range tokens {
				given[t.Value], tokens[i].Completed = t.Completed, min(t.Completed, 0)
			}
			return b.model.CreateTokens(ctx, tokens...)
		}
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			t, err := b.model.Token(ctx, v, now)
			t.Completed += given[v]
			return t, err
		}
	}},
	{"forgets what was spent elsewhere when the limit changes", editsPatch(func(b *broken, v string, p *uia.TokenPatch) {
		if t := b.token(v); t != nil && p.UsesAllowed != nil {
			t.imported = 0
		}
	})},
	{"takes a negative number of spent uses for none", editsGiven(func(t *uia.Token) { t.Completed = max(t.Completed, 0) })},
	{"takes a huge number of spent uses for the greatest", editsGiven(func(t *uia.Token) { t.Completed = min(t.Completed, uia.MaxUses) })},
	{"takes a huge limit for any number", editsGiven(func(t *uia.Token) {
		if t.UsesAllowed != nil && *t.UsesAllowed > uia.MaxUses {
			t.UsesAllowed = nil
		}
	})},
	{"takes a huge new limit for any number", editsPatch(func(_ *broken, _ string, p *uia.TokenPatch) {
		if p.UsesAllowed != nil && *p.UsesAllowed != nil && **p.UsesAllowed > uia.MaxUses {
			p.UsesAllowed = new((*int64)(nil))
		}
	})},
	{"refuses the greatest limit", editsGiven(func(t *uia.Token) {
		if t.UsesAllowed != nil && *t.UsesAllowed == uia.MaxUses {
			t.UsesAllowed = new(int64(-1))
		}
	})},
	{"creates tokens one by one", func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			for _, t := range tokens {
				if err := b.model.CreateTokens(ctx, t); err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"creates over what exists", func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			for _, t := range tokens {
				err := b.model.CreateTokens(ctx, t)
				if errors.Is(err, uia.ErrExists) {
					b.locked(func() { b.token(t.Value).Token = kept(t) })
				} else if err != nil {
					return err
				}
			}
			return nil
		}
	}},
	{"takes a negative limit for none", editsGiven(func(t *uia.Token) {
		if t.UsesAllowed != nil && *t.UsesAllowed < 0 {
			t.UsesAllowed = new(int64(0))
		}
	})},
	{"does not look at meta", editsGiven(func(t *uia.Token) {
		if (uia.Token{Value: "v", Meta: t.Meta}).Validate() != nil {
			t.Meta = nil
		}
	})},
	{"cuts a label that is too long", editsGiven(func(t *uia.Token) { t.Label = strings.ToValidUTF8(t.Label[:min(255, len(t.Label))], "") })},
	{"does not look at a new label", editsPatch(func(_ *broken, _ string, p *uia.TokenPatch) {
		if p.Label != nil {
			p.Label = new(strings.ToValidUTF8((*p.Label)[:min(255, len(*p.Label))], ""))
		}
	})},
	{"finds nothing to create in no tokens", func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			if len(tokens) == 0 {
				return uia.ErrInvalid
			}
			return b.model.CreateTokens(ctx, tokens...)
		}
	}},
	{"gives the uses of a deleted token to one created again", func(b *broken) {
		b.createTokens = func(ctx context.Context, tokens ...uia.Token) error {
			err := b.model.CreateTokens(ctx, tokens...)
			b.locked(func() {
				for _, u := range b.uses {
					if t := b.token(u.Token); err == nil && t != nil {
						u.of = t
					}
				}
			})
			return err
		}
	}},
	{"deletes a token that is not there", func(b *broken) {
		b.deleteToken = func(ctx context.Context, v string) error {
			if err := b.model.DeleteToken(ctx, v); !uia.ValidTokenValue(v) || !errors.Is(err, uia.ErrNotFound) {
				return err
			}
			return nil
		}
	}},
	{"keeps the holds of a deleted token", beforeDelete(func(b *broken, t *modelToken) {
		for _, u := range b.uses {
			if u.of == t && u.State == uia.Held {
				u.of = &modelToken{}
			}
		}
	})},
	{"deletes the holds of all tokens with one", beforeDelete(func(b *broken, t *modelToken) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.State == uia.Held })
	})},
	{"deletes the pinned uses of a token with it", beforeDelete(func(b *broken, t *modelToken) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.of == t && u.State == uia.Pinned })
	})},
	{"deletes the spent uses of a token with it", beforeDelete(func(b *broken, t *modelToken) {
		b.remove(math.MaxInt, func(u *modelUse) bool { return u.of == t && u.State == uia.Spent })
	})},
	{"clears what a patch does not name", editsPatch(func(b *broken, v string, p *uia.TokenPatch) {
		if p.Expires == nil {
			p.Expires = new(time.Time{})
		}
	})},
	{"cannot clear a limit", editsPatch(func(_ *broken, _ string, p *uia.TokenPatch) {
		if p.UsesAllowed != nil && *p.UsesAllowed == nil {
			p.UsesAllowed = nil
		}
	})},
	{"cannot clear an expiry", editsPatch(func(_ *broken, _ string, p *uia.TokenPatch) {
		if p.Expires != nil && p.Expires.IsZero() {
			p.Expires = nil
		}
	})},
	{"cannot clear meta", editsPatch(func(_ *broken, _ string, p *uia.TokenPatch) {
		if p.Meta != nil && *p.Meta == nil {
			p.Meta = &json.RawMessage{'{', '}'}
		}
	})},
	{"returns an updated token without its counters", func(b *broken) {
		b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
			t, err := b.model.UpdateToken(ctx, v, p, now)
			t.Pending, t.Completed = 0, 0
			return t, err
		}
	}},
	{"returns an updated token as it was", func(b *broken) {
		b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
			old, _ := b.model.Token(ctx, v, now)
			t, err := b.model.UpdateToken(ctx, v, p, now)
			t.Pending = old.Pending
			return t, err
		}
	}},
	{"creates a token that is updated", editsPatch(func(b *broken, v string, _ *uia.TokenPatch) {
		if uia.ValidTokenValue(v) {
			b.model.CreateTokens(anywhere, uia.Token{Value: v})
		}
	})},
	{"updates before it looks whether it may", editsPatch(func(b *broken, v string, p *uia.TokenPatch) {
		b.model.UpdateToken(anywhere, v, uia.TokenPatch{Label: p.Label, Revoked: p.Revoked}, epoch)
	})},
	{"deletes pinned uses when a token is revoked", editsPatch(func(b *broken, v string, p *uia.TokenPatch) {
		if p.Revoked != nil && *p.Revoked {
			b.locked(func() { b.remove(math.MaxInt, func(u *modelUse) bool { return u.Token == v && u.State == uia.Pinned }) })
		}
	})},
	{"keeps holds when a token is revoked", func(b *broken) {
		b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
			revoked := p.Revoked
			p.Revoked = nil
			t, err := b.model.UpdateToken(ctx, v, p, now)
			if err == nil && revoked != nil {
				b.locked(func() { b.token(v).Revoked, t.Revoked = *revoked, *revoked })
			}
			return t, err
		}
	}},
	{"revokes for ever", editsPatch(func(_ *broken, _ string, p *uia.TokenPatch) {
		if p.Revoked != nil && !*p.Revoked {
			p.Revoked = nil
		}
	})},
	{"deletes holds when a limit is lowered", editsPatch(func(b *broken, v string, p *uia.TokenPatch) {
		if p.UsesAllowed != nil {
			b.locked(func() { b.remove(math.MaxInt, func(u *modelUse) bool { return u.Token == v && u.State == uia.Held }) })
		}
	})},
	{"refuses a limit below what is used", func(b *broken) {
		b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
			t, _ := b.model.Token(ctx, v, now)
			if p.UsesAllowed != nil && *p.UsesAllowed != nil && **p.UsesAllowed < t.Pending+t.Completed {
				return uia.Token{}, uia.ErrInvalid
			}
			return b.model.UpdateToken(ctx, v, p, now)
		}
	}},
	{"lets a pinned use lapse in the counters", editsToken(func(t *uia.Token, now time.Time) {
		if now.After(at(day)) && now.Before(at(2000*day)) {
			t.Pending = 0
		}
	})},
	{"counts a hold until after it lapses", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			return b.model.Token(ctx, v, now.Add(-milli))
		}
	}},
	{"counts a hold until before it lapses", func(b *broken) {
		b.getToken = func(ctx context.Context, v string, now time.Time) (uia.Token, error) {
			return b.model.Token(ctx, v, now.Add(milli))
		}
	}},
	{"takes any call on a token for its last use", editsToken(func(t *uia.Token, now time.Time) {
		if t.Pending > 0 {
			t.LastUsed = now
		}
	})},
	{"loses all tokens in a restart", func(b *broken) { b.restarted = func() { b.tokens = nil } }},
	{"loses runs in a restart", func(b *broken) {
		b.restarted = func() {
			for _, u := range b.uses {
				if u.State == uia.Held {
					u.Run = 0
				}
			}
		}
	}},
	{"loses uses of deleted tokens in a restart", func(b *broken) {
		b.restarted = func() {
			b.remove(math.MaxInt, func(u *modelUse) bool { return !slices.Contains(b.tokens, u.of) })
		}
	}},
	{"undoes a group but for a session record", func(b *broken) {
		b.group = func(ctx context.Context, fn func(context.Context) error) error {
			err := b.model.Group(ctx, fn)
			if err != nil {
				b.model.SaveSession(context.WithoutCancel(ctx), uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, epoch)
			}
			return err
		}
	}},
	{"loses what a group has done", func(b *broken) {
		b.group = func(ctx context.Context, fn func(context.Context) error) error {
			defer b.model.copied()()
			return b.model.Group(ctx, fn)
		}
	}},
	{"swallows the error of a group", func(b *broken) {
		b.group = func(ctx context.Context, fn func(context.Context) error) error { b.model.Group(ctx, fn); return nil }
	}},
	{"begins a group with another context", func(b *broken) {
		b.group = func(ctx context.Context, fn func(context.Context) error) error {
			return b.model.Group(context.WithoutCancel(ctx), fn)
		}
	}},
	{"tells a refusal when the group has been written", func(b *broken) {
		var late error
		commit := b.commit
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			err := commit(ctx, c, user, now)
			if ctx.Value(inTx{}) != nil && errors.Is(err, uia.ErrNotHeld) {
				late = err
				return nil
			}
			return err
		}
		b.group = func(ctx context.Context, fn func(context.Context) error) error {
			late = nil
			return cmp.Or(b.model.Group(ctx, fn), late)
		}
	}},
	{"forgets everything in a group that failed", func(b *broken) {
		b.group = func(ctx context.Context, fn func(context.Context) error) error {
			err := b.model.Group(ctx, fn)
			if err != nil {
				b.uses = nil
			}
			return err
		}
	}},
}
