package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/matrix-uia/uia"
)

// txCases are about stores that implement uia.TxStore.
var txCases = []promise{{
	name:  "in-a-transaction",
	says:  "InTx runs fn in a transaction and commits it if fn returns nil.",
	needs: aTxStore,
	test: func(k *kit) {
		k.limited("t", 2)
		k.held("t", "h")
		k.create(uia.Token{Value: "deleted"}).ok()
		k.inTx(func(k *kit) error { k.everything(); return nil }).ok()
		k.checkEverything()
	},
}, {
	name:  "in-a-transaction-joined",
	says:  "every method that is called with it joins, and sees what has been written in it before; so does another InTx.",
	needs: aTxStore,
	test: func(k *kit) {
		k.limited("t", 2)
		k.held("t", "h")
		k.create(uia.Token{Value: "deleted"}).ok()
		before := k.snapshot()
		failure := errors.New("the failure of the transaction")
		k.inTx(func(k *kit) error {
			k.inTx(func(k *kit) error { k.everything(); return nil }).ok()
			k.checkEverything()
			return failure
		}).is(failure)
		k.same("the store after a transaction that failed", k.snapshot(), before)
		k.absent("r")
	},
}, {
	name:  "in-a-transaction-that-fails",
	says:  "either way nothing has been written.",
	needs: aTxStore,
	test: func(k *kit) {
		k.limited("t", 9)
		k.pinned("t", "p")
		k.held("t", "h", "g")
		k.save(uia.Record{Key: "old", State: uia.Open, Expires: at(hour)}, 0)
		k.save(uia.Record{Key: "expired", State: uia.Open, Expires: at(0)}, 0)
		before := k.snapshot()
		work := func(k *kit) {
			k.held("t", "new")
			k.pin("t", "h", 1, 0).ok()
			k.release("t", "g", 0).ok()
			k.commit("t", "p", 1, "@p", 0).ok()
			k.update("t", uia.TokenPatch{Label: new("label"), Expires: new(at(day))}).ok()
			k.create(uia.Token{Value: "u"}).ok()
			k.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
			k.save(uia.Record{Key: "old", Revision: 1, State: uia.Done, Expires: at(hour)}, 0)
			k.sweep(0, 9, 1)
			k.delete("t").ok()
		}
		unchanged := func(after string) {
			k.Helper()
			k.same("the store after "+after, k.snapshot(), before)
			k.same("revision", k.load("old", 0).Revision, 1)
			k.absent("k")
			k.conflict(uia.Record{Key: "k", Revision: 1, State: uia.Open, Expires: at(hour)}, 0)
		}
		failure := errors.New("the failure of the transaction")
		k.inTx(func(k *kit) error { work(k); return failure }).is(failure)
		unchanged("a transaction that failed")
		func() {
			defer func() {
				if p := recover(); p != failure {
					k.Fatalf("InTx whose function panics: recovered %v, want what it panicked with", p)
				}
			}()
			k.inTx(func(k *kit) error { work(k); panic(failure) })
		}()
		unchanged("a transaction that panicked")
		k.held("t", "new") // nothing is locked any more
	},
}, {
	name:  "in-a-transaction-refused",
	says:  "A refusal does not spoil a transaction.",
	needs: aTxStore,
	test: func(k *kit) {
		k.limited("t", 2)
		k.spent("t", "s")
		k.limited("full", 0)
		k.create(uia.Token{Value: "expired", Expires: at(0)}, uia.Token{Value: "revoked", Revoked: true}).ok()
		k.inTx(func(k *kit) error {
			k.held("t", "a")
			for token, want := range map[string]error{
				"t": uia.ErrExhausted, "full": uia.ErrExhausted, "expired": uia.ErrExpired, "revoked": uia.ErrRevoked, "absent": uia.ErrNotFound,
			} {
				k.reserve(token, "b", hour, 0).is(want)
			}
			k.reserve("t", "s", hour, 0).is(uia.ErrSpent)
			k.pin("t", "b", 1, 0).is(uia.ErrNotHeld)
			k.pin("t", "s", 2, 0).is(uia.ErrSpent)
			k.unpin("t", "a", 1, hour, 0).is(uia.ErrNotHeld)
			k.release("t", "s", 9).is(uia.ErrSpent)
			k.create(uia.Token{Value: "other"}, uia.Token{Value: "t"}).is(uia.ErrExists)
			k.delete("absent").is(uia.ErrNotFound)
			k.update("absent", uia.TokenPatch{Revoked: new(true)}).is(uia.ErrNotFound)
			k.conflict(uia.Record{Key: "k", Revision: 1, State: uia.Open, Expires: at(hour)}, 0)
			k.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
			return nil
		}).ok()
		k.rows("t", "a held #0 10m0s", "s spent #1 @s")
		k.same("revision", k.load("k", 0).Revision, 1)
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"expired", "full", "revoked", "t"})
	},
}, {
	name:  "in-a-transaction-refused-late",
	says:  "That of a Commit may come late: from the next method that is called, or from InTx, which then has written nothing.",
	needs: aTxStore,
	test: func(k *kit) {
		k.limited("t", 9)
		k.pinned("t", "a")
		k.pin("t", "a", 3, 0).ok() // another has taken over
		k.held("t", "h")
		k.spent("t", "s")
		k.save(uia.Record{Key: "k", State: uia.Running, Run: 1, Expires: at(hour)}, 0)
		next := map[string]func(k *kit) error{
			"nothing": func(*kit) error { return nil },
			"save": func(k *kit) error {
				_, err := k.SaveSession(k.ctx, uia.Record{Key: "k", Revision: 1, State: uia.Done, Expires: at(hour)}, epoch)
				return err
			},
			"create": func(k *kit) error {
				_, err := k.SaveSession(k.ctx, uia.Record{Key: "new", State: uia.Open, Expires: at(hour)}, epoch)
				return err
			},
			"read": func(k *kit) error { _, err := k.Token(k.ctx, "t", epoch); return err },
			"commit": func(k *kit) error {
				return k.Commit(k.ctx, uia.Claim{Token: "t", Session: "a", Run: 3}, "@a", epoch)
			},
		}
		for session, want := range map[string]error{"a": uia.ErrNotHeld, "h": uia.ErrNotHeld, "s": uia.ErrSpent, "nobody": uia.ErrNotHeld} {
			for name, call := range next {
				k.unchanged(func() {
					o := k.inTx(func(k *kit) error {
						err := k.Commit(k.ctx, uia.Claim{Token: "t", Session: session, Run: 1}, "@other", epoch)
						if err == nil {
							err = call(k)
						}
						return err
					})
					o.call = fmt.Sprintf("a transaction of Commit(t/%s #1) and %s", session, name)
					o.is(want)
				})
				k.same("revision", k.load("k", 0).Revision, 1)
				k.absent("new")
			}
		}
	},
}, {
	name:  "in-a-transaction-with-a-cancelled-context",
	says:  "A call whose context is cancelled before it begins returns the context's error and changes nothing.",
	needs: aTxStore,
	test: func(k *kit) {
		ctx, cancel := context.WithCancel(k.ctx)
		cancel()
		err := k.Store.(uia.TxStore).InTx(ctx, func(ctx context.Context) error {
			return k.CreateTokens(ctx, uia.Token{Value: "t"})
		})
		k.outcome(err, "InTx with a cancelled context").is(context.Canceled)
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string(nil))
	},
}, {
	name:  "in-a-transaction-unseen",
	says:  "Others see all of a transaction or nothing of it.",
	needs: aTxStore,
	test: func(k *kit) {
		k.limited("t", 99)
		k.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
		var over atomic.Bool
		k.race(4, func(i int) {
			if i > 0 {
				for !over.Load() {
					k.seesPairs("t", "k")
				}
				return
			}
			defer over.Store(true)
			for n := range 20 {
				o := k.inTx(func(k *kit) error {
					for j := range 2 {
						if err := k.Reserve(k.ctx, uia.Hold{Token: "t", Session: fmt.Sprint(n, "-", j), Until: at(hour)}, epoch); err != nil {
							return err
						}
						gosched()
					}
					_, err := k.SaveSession(k.ctx, uia.Record{Key: "k", Revision: int64(n + 1), State: uia.Open, Expires: at(hour)}, epoch)
					return err
				})
				if o.err != nil {
					k.Errorf("InTx: %v", o.err)
					return
				}
			}
		})
	},
}, {
	name:  "transactions-that-cross",
	says:  "Two transactions that want the same two tokens in different orders both succeed.",
	needs: aTxStore,
	test:  func(k *kit) { k.cross(func(name string, run int) string { return name }) },
}, {
	name:  "transactions-run-again",
	says:  "If the database gives the transaction up for another's sake, fn is run again, and what it wrote before is gone.",
	needs: aTxStore,
	test:  func(k *kit) { k.cross(func(name string, run int) string { return fmt.Sprint(name, "-", run) }) },
}, {
	name:  "overtaken-in-a-transaction",
	says:  "Commit spends a use that is pinned by exactly c.Run: it is never given back.",
	needs: aTxStore,
	test: func(k *kit) {
		// A run commits its use and its record, while another run takes the use from it.
		for round := range 20 {
			token, session := fmt.Sprint("t", round), fmt.Sprint("s", round)
			k.limited(token, 1)
			k.pinned(token, session)
			k.save(uia.Record{Key: session, State: uia.Running, Run: 1, Expires: at(hour)}, 0)
			var ended, taken error
			k.race(2, func(i int) {
				if i == 0 {
					ended = k.inTx(func(k *kit) error {
						if err := k.Commit(k.ctx, uia.Claim{Token: token, Session: session, Run: 1}, "@a", epoch); err != nil {
							return err
						}
						_, err := k.SaveSession(k.ctx, uia.Record{Key: session, Revision: 1, State: uia.Done, Expires: at(hour)}, epoch)
						return err
					}).err
					return
				}
				claim := uia.Claim{Token: token, Session: session, Run: 2}
				if taken = k.Pin(k.ctx, claim, epoch); taken == nil {
					gosched()
					taken = k.Release(k.ctx, claim)
				}
			})
			done := k.load(session, 0).State == uia.Done
			switch {
			case ended == nil && errors.Is(taken, uia.ErrSpent) && done:
				k.rows(token, session+" spent #1 @a")
			case errors.Is(ended, uia.ErrNotHeld) && taken == nil && !done:
				k.rows(token)
			default:
				k.Fatalf("the transaction returned %v, the run that overtakes it %v, and the record is done: %v", ended, taken, done)
			}
		}
	},
}}

// inTx runs fn in a transaction, with a kit that is in it.
func (k *kit) inTx(fn func(k *kit) error) outcome {
	err := k.Store.(uia.TxStore).InTx(k.ctx, func(ctx context.Context) error {
		return fn(&kit{TB: k.TB, Store: k.Store, ctx: ctx})
	})
	return k.outcome(err, "InTx")
}

// seesPairs looks while transactions hold two uses each and then save the record.
// The record is read first: the uses are those of its revision, or of a later one.
func (k *kit) seesPairs(token, record string) {
	r, err := k.LoadSession(k.ctx, record, epoch)
	if err != nil {
		k.Fatalf("LoadSession: %v", err)
	}
	t, err := k.Token(k.ctx, token, epoch)
	if err != nil || t.Pending%2 != 0 || t.Pending < 2*(r.Revision-1) {
		k.Fatalf("after %d transactions that held two uses each, %d are held (error %v)", r.Revision-1, t.Pending, err)
	}
}

// cross has transactions that hold a use of two tokens each, in different orders,
// for the session that is made of the transaction's name and the run's number.
func (k *kit) cross(session func(name string, run int) string) {
	k.Helper()
	k.limited("a", 99)
	k.limited("b", 99)
	const callers, rounds = 4, 5
	k.race(callers, func(i int) {
		for n := range rounds {
			runs := 0
			o := k.inTx(func(k *kit) error {
				runs++
				for j := range 2 {
					h := uia.Hold{Token: []string{"a", "b"}[(i+j)%2], Session: session(fmt.Sprint(i, "-", n), runs), Until: at(hour)}
					if err := k.Reserve(k.ctx, h, epoch); err != nil {
						return err
					}
					gosched()
				}
				return nil
			})
			if o.err != nil {
				k.Errorf("InTx, which ran its function %d times: %v", runs, o.err)
			}
		}
	})
	k.counts("a", 0, callers*rounds, 0)
	k.counts("b", 0, callers*rounds, 0)
}

// absent asserts that there is no such record.
func (k *kit) absent(key string) {
	k.Helper()
	_, err := k.LoadSession(k.ctx, key, epoch)
	k.outcome(err, "LoadSession(%s)", key).is(uia.ErrNotFound)
}

// everything calls every method once, on a token "t" of two uses of which the
// session "h" holds one, and a token "deleted".
func (k *kit) everything() {
	k.Helper()
	k.create(uia.Token{Value: "u", UsesAllowed: new(int64(5))}).ok()
	k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"deleted", "t", "u"})
	k.held("t", "a")
	k.reserve("t", "b", hour, 0).is(uia.ErrExhausted)
	k.pin("t", "a", 1, 0).ok()
	k.unpin("t", "a", 1, hour, 0).ok()
	k.pin("t", "a", 2, 0).ok()
	k.commit("t", "a", 2, "@a", 0).ok()
	k.counts("t", 0, 1, 1)
	k.release("t", "h", 0).ok()
	k.held("t", "late")
	k.pinned("u", "p")
	k.held("u", "swept")
	n, err := k.SweepHolds(k.ctx, at(10*minute+milli), 9)
	k.outcome(err, "SweepHolds").ok()
	k.same("holds swept", n, 2)
	k.update("u", uia.TokenPatch{Label: new("label")}).ok()
	k.delete("deleted").ok()
	r := k.save(uia.Record{Key: "r", State: uia.Running, Run: 2, Expires: at(hour)}, 0)
	r.State = uia.Done
	k.save(r, 0)
	k.save(uia.Record{Key: "gone", State: uia.Open, Expires: at(0)}, 0)
	k.sweep(0, 9, 1)
	uses, err := k.PinnedUses(k.ctx, at(hour), 9)
	k.outcome(err, "PinnedUses").ok()
	k.same("pinned uses", len(uses), 1)
}

// checkEverything asserts what everything has done.
func (k *kit) checkEverything() {
	k.Helper()
	k.rows("t", "a spent #2 @a")
	k.rows("u", "p pinned #1")
	k.same("label", k.token("u", 0).Label, "label")
	k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"t", "u"})
	k.same("revision", k.load("r", 0).Revision, 2)
	k.conflict(uia.Record{Key: "gone", Revision: 1, State: uia.Open, Expires: at(hour)}, 0)
}
