package storetest

import (
	"context"
	"errors"

	"github.com/matrix-uia/uia"
)

// groupCases are about stores that implement uia.Grouper.
var groupCases = []promise{{
	name:  "grouped",
	says:  "Group runs fn, perhaps more than once, with a context that carries the group to the store's own methods;",
	needs: aGrouper,
	test: func(k *kit) {
		k.limited("t", 1)
		k.limited("u", 1)
		err := k.Store.(uia.Grouper).Group(k.ctx, func(ctx context.Context) error {
			in := &kit{TB: k.TB, Store: k.Store, ctx: ctx}
			in.held("t", "a")
			in.counts("t", 0, 1, 0) // it reads its own writes
			in.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
			in.load("k", 0)
			in.pinned("u", "a")
			in.commit("u", "a", 1, "@a", 0).ok()
			in.reserve("u", "b", hour, 0).is(uia.ErrExhausted) // a refusal does not spoil the group
			in.rows("u", "a spent #1 @a")
			in.pin("t", "x", 1, 0).is(uia.ErrNotHeld)
			in.conflict(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
			return nil
		})
		k.outcome(err, "Group").ok()
		k.rows("t", "a held #0 10m0s")
		k.rows("u", "a spent #1 @a")
		k.same("revision", k.load("k", 0).Revision, 1)
		k.pin("t", "a", 1, 0).ok()
	},
}, {
	name:  "grouped-all-or-none",
	says:  "if fn fails, or Group does, nothing has been written.",
	needs: aGrouper,
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "a", "h")
		k.save(uia.Record{Key: "old", State: uia.Open, Expires: at(hour)}, 0)
		failure := errors.New("the failure of the group")
		k.limited("probe", 9)
		err := k.Store.(uia.Grouper).Group(k.ctx, func(ctx context.Context) error {
			in := &kit{TB: k.TB, Store: k.Store, ctx: ctx}
			in.held("probe", "a", "b") // one may wait for what comes next
			return failure
		})
		k.outcome(err, "Group").is(failure)
		if page, err := k.ListUses(k.ctx, uia.UseQuery{Token: "probe"}); err == nil && len(page.Uses) > 0 {
			return // its groups are no transactions
		}
		before := k.snapshot()
		err = k.Store.(uia.Grouper).Group(k.ctx, func(ctx context.Context) error {
			in := &kit{TB: k.TB, Store: k.Store, ctx: ctx}
			in.held("t", "b")
			in.pin("t", "a", 1, 0).ok()
			in.release("t", "h", 0).ok()
			in.save(uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, 0)
			in.save(uia.Record{Key: "old", Revision: 1, State: uia.Done, Expires: at(hour)}, 0)
			return failure
		})
		k.outcome(err, "Group").is(failure)
		k.same("the store after a group that failed", k.snapshot(), before)
		k.same("revision", k.load("old", 0).Revision, 1)
		_, err = k.LoadSession(k.ctx, "k", epoch)
		k.outcome(err, "LoadSession").is(uia.ErrNotFound)
		k.held("t", "b") // nothing is locked any more
	},
}, {
	name:  "grouped-refusals",
	says:  "what they write, and its errors, may come as late as Group's return.",
	needs: aGrouper,
	test: func(k *kit) {
		k.limited("t", 1)
		k.held("t", "h")
		k.create(uia.Token{Value: "expired", Expires: at(0)}, uia.Token{Value: "revoked", Revoked: true}).ok()
		for token, want := range map[string]error{
			"t": uia.ErrExhausted, "expired": uia.ErrExpired, "revoked": uia.ErrRevoked, "absent": uia.ErrNotFound,
		} {
			k.unchanged(func() {
				err := k.Store.(uia.Grouper).Group(k.ctx, func(ctx context.Context) error {
					if err := k.Reserve(ctx, uia.Hold{Token: token, Session: "a", Until: at(hour)}, epoch); err != nil {
						return err
					}
					r := uia.Record{Key: "k", State: uia.Running, Run: 2, Expires: at(hour)}
					if _, err := k.SaveSession(ctx, r, epoch); err != nil {
						return err
					}
					return k.Pin(ctx, uia.Claim{Token: token, Session: "a", Run: 2}, epoch)
				})
				k.outcome(err, "Group that reserves %s", token).is(want)
			})
			_, err := k.LoadSession(k.ctx, "k", epoch)
			k.outcome(err, "LoadSession after a refusal").is(uia.ErrNotFound)
		}
	},
}, {
	name:  "grouped-late-refusal",
	says:  "then none of the writes that were put off has happened.",
	needs: aGrouper,
	test: func(k *kit) {
		k.limited("t", 1)
		k.pinned("t", "a")
		k.save(uia.Record{Key: "k", State: uia.Running, Run: 2, Expires: at(hour)}, 0)
		k.unchanged(func() {
			err := k.Store.(uia.Grouper).Group(k.ctx, func(ctx context.Context) error {
				if err := k.Commit(ctx, uia.Claim{Token: "t", Session: "a", Run: 7}, "@a", epoch); err != nil {
					return err
				}
				r := uia.Record{Key: "k", Revision: 1, State: uia.Done, Run: 2, Owner: "late", Expires: at(hour)}
				_, err := k.SaveSession(ctx, r, epoch)
				return err
			})
			k.outcome(err, "Group whose Commit is refused").is(uia.ErrNotHeld)
		})
		k.same("revision of a record whose save came after the refusal", k.load("k", 0).Revision, 1)
	},
}, {
	name:  "grouped-with-a-cancelled-context",
	says:  "if fn fails, or Group does, nothing has been written.",
	needs: aGrouper,
	test: func(k *kit) {
		k.limited("t", 9)
		ctx, cancel := context.WithCancel(k.ctx)
		cancel()
		err := k.Store.(uia.Grouper).Group(ctx, func(ctx context.Context) error {
			err := k.Reserve(ctx, uia.Hold{Token: "t", Session: "a", Until: at(hour)}, epoch)
			return err
		})
		k.outcome(err, "Group with a cancelled context").is(context.Canceled)
		k.rows("t")
	},
}}
