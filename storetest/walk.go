package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// walkCases compare the store with the model.
var walkCases = []promise{{
	name: "agrees-with-the-model",
	says: "It is the contract that package memstore and package sqlstore fulfil and package storetest tests.",
	test: func(k *kit) {
		w := walker{k: k, model: newModel(), rnd: rand.New(rand.NewPCG(1, 2))}
		for range walkSteps {
			w.step()
		}
		k.same("the store at the end", k.snapshot(), (&kit{TB: k.TB, Store: w.model, ctx: k.ctx}).snapshot())
	},
}}

const walkSteps = 800

// walker does the same random things to a store and to the model.
type walker struct {
	k     *kit
	model *model
	rnd   *rand.Rand
	now   time.Duration
	log   []string
}

var sentinels = []error{
	uia.ErrNotFound, uia.ErrExists, uia.ErrExpired, uia.ErrExhausted, uia.ErrRevoked, uia.ErrSpent,
	uia.ErrNotHeld, uia.ErrConflict, uia.ErrFull, uia.ErrInvalid,
}

// answer shows what a call returned.
func answer(v any, err error) string {
	if err != nil {
		for _, s := range sentinels {
			if errors.Is(err, s) {
				return s.Error()
			}
		}
		return err.Error()
	}
	return show(v)
}

func pick[T any](w *walker, choices ...T) T { return choices[w.rnd.IntN(len(choices))] }

func (w *walker) step() {
	w.now += pick(w, 0, 0, milli, minute, 3*minute, -2*minute) // clocks differ
	now := at(w.now)
	token := pick(w, "t", "u", "~")
	session := pick(w, "a", "b", "c", "d")
	// Claims name mostly a use that there is, and the run that it bears or the
	// next one, or nearly all of them would be refused.
	claim := uia.Claim{Token: token, Session: session, Run: int64(1 + w.rnd.IntN(3))}
	if n := len(w.model.uses); n > 0 && w.rnd.IntN(5) > 0 {
		u := w.model.uses[w.rnd.IntN(n)]
		claim = uia.Claim{Token: u.Token, Session: u.Session, Run: max(1, u.Run+pick(w, int64(0), 0, 1))}
	}
	until := now.Add(pick(w, -minute, 0, milli, minute, 10*minute))
	var call string
	var do func(s uia.Store) (any, error)
	ctx := w.k.ctx
	switch what := w.rnd.IntN(26); {
	case what < 2:
		t := uia.Token{Value: token, Created: now, UsesAllowed: pick(w, nil, new(int64(0)), new(int64(1)), new(int64(2)), new(int64(3)))}
		t.Expires = pick(w, time.Time{}, time.Time{}, until.Add(hour))
		call = "CreateTokens " + show(t)
		do = func(s uia.Store) (any, error) { return nil, s.CreateTokens(ctx, t) }
	case what < 3 && w.rnd.IntN(2) == 0:
		call = "DeleteToken " + token
		do = func(s uia.Store) (any, error) { return nil, s.DeleteToken(ctx, token) }
	case what < 5:
		p, said := w.patch(until)
		call = fmt.Sprintf("UpdateToken %s: %s", token, said)
		do = func(s uia.Store) (any, error) { return s.UpdateToken(ctx, token, p, now) }
	case what < 13:
		if u := w.model.use(token, session); u != nil && u.State == uia.Pinned && u.of != w.model.token(token) {
			return // of a deleted token: the contract does not say what is returned
		}
		if w.tied(token, now) {
			return // nor which of two that lapsed at once is displaced
		}
		h := uia.Hold{Token: token, Session: session, Until: until}
		call = fmt.Sprintf("Reserve %s for %s until %s", token, session, show(until))
		do = func(s uia.Store) (any, error) { return nil, s.Reserve(ctx, h, now) }
	case what < 17:
		call = fmt.Sprintf("Pin %+v", claim)
		do = func(s uia.Store) (any, error) { return nil, s.Pin(ctx, claim, now) }
	case what < 19:
		if u := w.model.use(claim.Token, claim.Session); u != nil && u.State == uia.Held {
			return // if it is a repetition, the contract does not say whether it moves Until
		}
		call = fmt.Sprintf("Unpin %+v until %s", claim, show(until))
		do = func(s uia.Store) (any, error) { return nil, s.Unpin(ctx, claim, until, now) }
	case what < 20:
		user := pick(w, "@a", "@b")
		call = fmt.Sprintf("Commit %+v to %s", claim, user)
		do = func(s uia.Store) (any, error) { return nil, s.Commit(ctx, claim, user, now) }
	case what < 22:
		call = fmt.Sprintf("Release %+v", claim)
		do = func(s uia.Store) (any, error) { return nil, s.Release(ctx, claim) }
	case what < 23 && w.rnd.IntN(6) == 0:
		call = "SweepHolds 1000"
		do = func(s uia.Store) (any, error) { return s.SweepHolds(ctx, now, 1000) }
	case what < 25:
		r := uia.Record{Key: session, Revision: int64(w.rnd.IntN(3)), State: pick(w, uia.Open, uia.Running, uia.Done), Expires: until, Data: []byte(token)}
		if old := w.model.records[session]; w.rnd.IntN(4) > 0 {
			r.Revision = old.Revision
		}
		call = "SaveSession " + show(r)
		do = func(s uia.Store) (any, error) { return s.SaveSession(ctx, r, now) }
	default:
		call = "LoadSession " + session
		do = func(s uia.Store) (any, error) { return s.LoadSession(ctx, session, now) }
	}
	w.compare(ctx, now, call, do)
}

// tied reports whether two holds of the token lapsed at the same time.
func (w *walker) tied(token string, now time.Time) bool {
	seen := map[time.Time]bool{}
	for _, u := range w.model.uses {
		if u.Token == token && u.State == uia.Held && !u.Until.After(now) {
			if seen[u.Until] {
				return true
			}
			seen[u.Until] = true
		}
	}
	return false
}

// patch returns a random patch and says what it is.
func (w *walker) patch(until time.Time) (p uia.TokenPatch, said string) {
	switch w.rnd.IntN(8) {
	case 0, 1:
		n := int64(w.rnd.IntN(4))
		return uia.TokenPatch{UsesAllowed: new(&n)}, fmt.Sprint("limit ", n)
	case 2:
		return uia.TokenPatch{Expires: &until}, "expires " + show(until)
	case 3:
		return uia.TokenPatch{Revoked: new(true)}, "revoked"
	case 4, 5:
		return uia.TokenPatch{Meta: &json.RawMessage{'{', '}'}, Expires: new(time.Time{})}, "meta, never expires"
	}
	return uia.TokenPatch{Revoked: new(false)}, "not revoked"
}

// compare makes the call on both and looks at all tokens afterwards.
func (w *walker) compare(ctx context.Context, now time.Time, call string, do func(uia.Store) (any, error)) {
	w.k.Helper()
	var answers, states [2]string
	for i, s := range []uia.Store{w.k.Store, w.model} {
		answers[i] = answer(do(s))
		states[i] = w.state(ctx, s, now)
	}
	w.log = append(w.log, fmt.Sprintf("at %s %s: %s", show(now), call, answers[1]))
	if answers[0] != answers[1] || states[0] != states[1] {
		last := strings.Join(w.log[max(0, len(w.log)-12):], "\n  ")
		w.k.Fatalf("after these calls, among others:\n  %s\nthe last one returned %s, and there is%s\nwant%s",
			last, answers[0], states[0], states[1])
	}
}

// state shows the first page of tokens and their uses: two calls or a few more.
func (w *walker) state(ctx context.Context, s uia.Store, now time.Time) (all string) {
	tokens, err := s.ListTokens(ctx, uia.TokenQuery{}, now)
	if err != nil {
		return err.Error()
	}
	for _, t := range tokens.Tokens {
		all += "\n  " + show(t)
		uses, err := s.ListUses(ctx, uia.UseQuery{Token: t.Value})
		if err != nil {
			return err.Error()
		}
		for _, u := range uses.Uses {
			all += "\n    " + show(u)
		}
	}
	return all
}
