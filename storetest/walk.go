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
		for range 600 {
			w.step()
		}
		k.same("the store after 600 steps", k.snapshot(), (&kit{tb: k.tb, Store: w.model, ctx: k.ctx}).snapshot())
	},
}}

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
	w.now += pick(w, 0, 0, milli, minute, 7*minute, -2*minute) // clocks differ
	now := at(w.now)
	token := pick(w, "t", "u", "V", "~", ".")
	session := pick(w, "a", "b", "c", "d")
	// Mostly the attempt that the use bears or the next one, or nothing would work.
	claim := uia.Claim{Token: token, Session: session, Attempt: int64(1 + w.rnd.IntN(3))}
	u := w.model.use(token, session)
	if u != nil && w.rnd.IntN(4) > 0 {
		claim.Attempt = u.Attempt + pick(w, int64(0), 1)
	}
	claim.Attempt = max(claim.Attempt, 1)
	until := now.Add(pick(w, -minute, 0, milli, minute, 10*minute))
	var call string
	var do func(s uia.Store) (any, error)
	ctx := w.k.ctx
	switch what := w.rnd.IntN(26); {
	case what < 2:
		t := uia.Token{Value: token, Created: now, UsesAllowed: pick(w, nil, new(int64(0)), new(int64(1)), new(int64(2)), new(int64(3)))}
		t.Expires = pick(w, time.Time{}, time.Time{}, until)
		call = "CreateTokens " + show(t)
		do = func(s uia.Store) (any, error) { return nil, s.CreateTokens(ctx, t) }
	case what < 3 && w.rnd.IntN(4) == 0:
		call = "DeleteToken " + token
		do = func(s uia.Store) (any, error) { return nil, s.DeleteToken(ctx, token) }
	case what < 5:
		p, said := w.patch(until)
		call = fmt.Sprintf("UpdateToken %s: %s", token, said)
		do = func(s uia.Store) (any, error) { return s.UpdateToken(ctx, token, p, now) }
	case what < 13:
		if u != nil && u.State == uia.Pinned && u.of != w.model.token(token) {
			return // of a deleted token: the contract does not say what is returned
		}
		h := uia.Hold{Token: token, Session: session, Until: until}
		call = fmt.Sprintf("Reserve %s for %s until %s", token, session, show(until))
		do = func(s uia.Store) (any, error) { return s.Reserve(ctx, h, now) }
	case what < 17:
		call = fmt.Sprintf("Pin %+v", claim)
		do = func(s uia.Store) (any, error) { return nil, s.Pin(ctx, claim, now) }
	case what < 19:
		call = fmt.Sprintf("Unpin %+v until %s", claim, show(until))
		do = func(s uia.Store) (any, error) { return nil, s.Unpin(ctx, claim, until, now) }
		if u != nil && u.State == uia.Held {
			return // repeated or not: the contract does not say whether it moves Until
		}
	case what < 20:
		user := pick(w, "@a", "@b")
		call = fmt.Sprintf("Commit %+v to %s", claim, user)
		do = func(s uia.Store) (any, error) { return nil, s.Commit(ctx, claim, user, now) }
	case what < 22:
		call = fmt.Sprintf("Release %+v", claim)
		do = func(s uia.Store) (any, error) { return nil, s.Release(ctx, claim) }
	case what < 23 && w.rnd.IntN(6) == 0:
		call = "SweepHolds"
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
	w.compare(ctx, now, token, call, do)
}

// patch returns a random patch and says what it is.
func (w *walker) patch(until time.Time) (p uia.TokenPatch, said string) {
	switch w.rnd.IntN(5) {
	case 0:
		n := int64(w.rnd.IntN(4))
		return uia.TokenPatch{UsesAllowed: new(&n)}, fmt.Sprint("limit ", n)
	case 1:
		return uia.TokenPatch{Expires: &until}, "expires " + show(until)
	case 2:
		return uia.TokenPatch{Revoked: new(true)}, "revoked"
	case 3:
		return uia.TokenPatch{Meta: &json.RawMessage{'{', '}'}, Expires: new(time.Time{})}, "meta, never expires"
	}
	return uia.TokenPatch{Revoked: new(false)}, "not revoked"
}

// compare makes the call on both and looks at what it did to the token.
func (w *walker) compare(ctx context.Context, now time.Time, token, call string, do func(uia.Store) (any, error)) {
	w.k.Helper()
	var got [2]string
	for i, s := range []uia.Store{w.k.Store, w.model} {
		got[i] = answer(do(s)) + "\n token: "
		t, err := s.Token(ctx, token, now)
		if got[i] += answer(t, err); err == nil {
			page, err := s.ListUses(ctx, uia.UseQuery{Token: token})
			got[i] += "\n uses: " + answer(len(page.Uses), err)
			for _, u := range page.Uses {
				got[i] += "\n  " + show(u)
			}
		}
	}
	w.log = append(w.log, fmt.Sprintf("%s: %s", show(now), call))
	if got[0] != got[1] {
		last := strings.Join(w.log[max(0, len(w.log)-12):], "\n  ")
		w.k.Fatalf("after these calls, among others:\n  %s\nthe last one returned\n got %s\nwant %s", last, got[0], got[1])
	}
}
