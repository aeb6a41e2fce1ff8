package storetest

import "github.com/matrix-uia/uia"

// claimCases are about Pin, Unpin, Commit and Release.
var claimCases = []promise{{
	name: "pinned-never-lapses",
	says: "Pin keeps the use from lapsing until it is decided, in the name of c.Run, which must be greater than zero.",
	test: func(k *kit) {
		k.limited("t", 1)
		k.held("t", "a")
		for _, run := range []int64{0, -1} {
			k.pin("t", "a", run, 0).isOneOf(uia.ErrInvalid, uia.ErrNotHeld)
		}
		k.rows("t", "a held #0 10m0s")
		k.pin("t", "a", 1, minute).ok()
		u := k.uses("t")[0]
		k.same("the use", u, uia.Use{Token: "t", Session: "a", State: uia.Pinned, Run: 1, Made: at(0), Changed: at(minute)})
		k.counts("t", 1000*day, 1, 0)
		k.reserve("t", "b", day, 1000*day).is(uia.ErrExhausted)
		k.commit("t", "a", 1, "@a", 1000*day).ok()
	},
}, {
	name: "pinned-by-a-later-run",
	says: "A held use, lapsed or not, can be pinned by a run greater than the one it bears; a pinned one by a run that is greater or the same, so that a call whose answer was lost can be repeated.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "a")
		k.pin("t", "a", 3, hour).ok() // lapsed
		k.pin("t", "a", 3, hour).ok() // repeated
		k.pin("t", "a", 2, hour).is(uia.ErrNotHeld)
		k.rows("t", "a pinned #3")
		k.pin("t", "a", 5, hour).ok()
		k.unpin("t", "a", 5, 2*hour, hour).ok()
		for _, stale := range []int64{1, 3, 5} {
			k.pin("t", "a", stale, hour).is(uia.ErrNotHeld)
		}
		k.rows("t", "a held #5 2h0m0s")
		k.reserve("t", "a", 3*hour, hour).ok()
		k.pin("t", "a", 5, hour).is(uia.ErrNotHeld) // renewing forgets no run
		k.pin("t", "a", 6, 4*hour).ok()
		k.rows("t", "a pinned #6")
	},
}, {
	name: "pin-of-what-is-spent",
	says: "Otherwise, or if the token has been revoked or deleted while the use was only held, it returns ErrNotHeld; ErrSpent if it is spent.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.spent("t", "s")
		k.held("t", "a")
		k.unchanged(func() {
			for _, run := range []int64{1, 2} {
				k.pin("t", "s", run, 0).is(uia.ErrSpent)
				k.unpin("t", "s", run, hour, 0).is(uia.ErrSpent)
				k.release("t", "s", run).is(uia.ErrSpent)
			}
			k.release("t", "s", 0).is(uia.ErrSpent)
		})
		k.revoke("t", true)
		k.pin("t", "a", 1, 0).is(uia.ErrNotHeld)
	},
}, {
	name: "stale-runs",
	says: "A use bears the run that pinned it last, and refuses every claim with a lower one.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.pinned("t", "a", "b")
		k.pin("t", "a", 3, 0).ok()
		k.pin("t", "b", 3, 0).ok()
		k.unpin("t", "b", 3, hour, 0).ok()
		k.unchanged(func() {
			for _, session := range []string{"a", "b"} {
				for _, stale := range []int64{1, 2} {
					k.pin("t", session, stale, 0).is(uia.ErrNotHeld)
					k.unpin("t", session, stale, hour, 0).is(uia.ErrNotHeld)
					k.commit("t", session, stale, "@x", 0).is(uia.ErrNotHeld)
					k.release("t", session, stale).is(uia.ErrNotHeld)
				}
				k.release("t", session, 0).is(uia.ErrNotHeld)
			}
			// Nor is one from the future let in, but to pin.
			k.unpin("t", "a", 4, hour, 0).is(uia.ErrNotHeld)
			k.commit("t", "a", 4, "@a", 0).is(uia.ErrNotHeld)
			k.release("t", "a", 4).is(uia.ErrNotHeld)
		})
		k.commit("t", "a", 3, "@a", 0).ok()
	},
}, {
	name: "overtaken",
	says: "the caller has been overtaken and must change nothing.",
	test: func(k *kit) {
		// Three owners of one session: the first two stall while their operation runs.
		k.limited("t", 1)
		k.pinned("t", "a")
		k.pin("t", "a", 2, minute).ok()
		k.pin("t", "a", 3, 2*minute).ok()
		k.unpin("t", "a", 3, 3*minute, 2*minute).ok() // the third one's operation was refused
		k.reserve("t", "b", hour, 3*minute).ok()      // and another session took the use
		k.pin("t", "b", 1, 3*minute).ok()
		for _, run := range []int64{1, 2, 3} {
			k.commit("t", "a", run, "@a", 4*minute).is(uia.ErrNotHeld)
			k.release("t", "a", run).is(uia.ErrNotHeld)
		}
		k.commit("t", "b", 1, "@b", 4*minute).ok()
		k.rows("t", "b spent #1 @b")
	},
}, {
	name: "unpinned",
	says: "Unpin makes a use that is pinned by exactly c.Run held again, until the given time.",
	test: func(k *kit) {
		k.limited("t", 1)
		k.pinned("t", "a")
		k.unpin("t", "a", 1, hour, minute).ok()
		k.same("the use", k.uses("t")[0], uia.Use{
			Token: "t", Session: "a", State: uia.Held, Until: at(hour), Run: 1, Made: at(0), Changed: at(minute),
		})
		k.counts("t", hour-milli, 1, 0)
		k.counts("t", hour, 0, 0)
		k.reserve("t", "b", 2*hour, hour-milli).is(uia.ErrExhausted)
		k.commit("t", "a", 1, "@a", 0).is(uia.ErrNotHeld)
		k.reserve("t", "b", 2*hour, hour).ok()
		k.rows("t", "b held #0 2h0m0s")
	},
}, {
	name: "unpinned-again",
	says: "Repeating it is nil.",
	test: func(k *kit) {
		k.limited("t", 1)
		k.pinned("t", "a")
		k.unpin("t", "a", 1, hour, 0).ok()
		k.unpin("t", "a", 1, hour, 0).ok()
		k.rows("t", "a held #1 1h0m0s")
	},
}, {
	name: "unpin-of-what-is-not-pinned",
	says: "Otherwise ErrNotHeld, or ErrSpent.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "h")
		k.pinned("t", "p")
		k.spent("t", "s")
		k.unchanged(func() {
			k.unpin("t", "h", 1, hour, 0).is(uia.ErrNotHeld)
			k.unpin("t", "p", 2, hour, 0).is(uia.ErrNotHeld)
			k.unpin("t", "s", 1, hour, 0).is(uia.ErrSpent)
		})
	},
}, {
	name: "unpinned-of-a-revoked-token",
	says: "The use of a token that has been revoked or deleted is deleted instead.",
	test: func(k *kit) {
		for _, token := range []string{"revoked", "deleted", "created-again"} {
			k.limited(token, 9)
			k.pinned(token, "a")
			if token == "revoked" {
				k.revoke(token, true)
			} else {
				k.delete(token).ok()
			}
			if token == "created-again" {
				k.limited(token, 9)
			}
			k.unpin(token, "a", 1, hour, 0).ok()
			if token == "revoked" {
				k.revoke(token, false)
			}
			k.pin(token, "a", 2, 0).is(uia.ErrNotHeld)
			if token != "deleted" {
				k.rows(token)
			}
		}
		k.limited("for-a-while", 1)
		k.pinned("for-a-while", "a")
		k.revoke("for-a-while", true)
		k.revoke("for-a-while", false)
		k.unpin("for-a-while", "a", 1, hour, 0).ok()
		k.rows("for-a-while", "a held #1 1h0m0s")
	},
}, {
	name: "commit-is-final",
	says: "Commit spends a use that is pinned by exactly c.Run: it is never given back.",
	test: func(k *kit) {
		k.limited("t", 1)
		k.pinned("t", "a")
		k.commit("t", "a", 1, "@a:example.org", minute).ok()
		want := uia.Use{
			Token: "t", Session: "a", State: uia.Spent, Run: 1, UserID: "@a:example.org", Made: at(0), Changed: at(minute),
		}
		k.same("the use", k.uses("t")[0], want)
		k.same("last used", k.token("t", 0).LastUsed, at(minute))
		k.release("t", "a", 1).is(uia.ErrSpent)
		k.unpin("t", "a", 1, hour, 0).is(uia.ErrSpent)
		k.reserve("t", "a", hour, 0).is(uia.ErrSpent)
		k.reserve("t", "b", hour, 1000*day).is(uia.ErrExhausted)
		k.revoke("t", true)
		k.revoke("t", false)
		if _, err := k.SweepHolds(k.ctx, at(1000*day), 100); err != nil {
			k.Fatalf("SweepHolds: %v", err)
		}
		k.same("the use", k.uses("t")[0], want)
		k.counts("t", 1000*day, 0, 1)
	},
}, {
	name: "commit-repeated",
	says: "Repeating it with the same run and user is nil.",
	test: func(k *kit) {
		k.limited("t", 2)
		k.spent("t", "a")
		before := show(k.uses("t")[0])
		k.commit("t", "a", 1, "@a", hour).ok()
		k.commit("t", "a", 1, "@b", 0).is(uia.ErrSpent)
		k.commit("t", "a", 2, "@a", 0).is(uia.ErrSpent)
		k.commit("t", "a", 0, "@a", 0).is(uia.ErrSpent)
		k.same("the use", show(k.uses("t")[0]), before)
		k.counts("t", 0, 0, 1)
	},
}, {
	name: "commit-of-what-is-not-pinned",
	says: "An empty user is ErrInvalid, a spent use ErrSpent, any other ErrNotHeld.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "h", "u")
		k.pinned("t", "p")
		k.pin("t", "u", 1, 0).ok()
		k.unpin("t", "u", 1, hour, 0).ok()
		k.unchanged(func() {
			k.commit("t", "p", 1, "", 0).is(uia.ErrInvalid)
			k.commit("t", "p", 2, "@p", 0).is(uia.ErrNotHeld)
			k.commit("t", "h", 1, "@h", 0).is(uia.ErrNotHeld)
			k.commit("t", "h", 0, "@h", 0).is(uia.ErrNotHeld)
			k.commit("t", "u", 1, "@u", 0).is(uia.ErrNotHeld)
		})
	},
}, {
	name: "released",
	says: "Release deletes a use that is pinned by exactly c.Run, or held and bearing no higher run.",
	test: func(k *kit) {
		k.limited("t", 4)
		k.held("t", "a", "b")
		k.pinned("t", "c", "d")
		k.unpin("t", "d", 1, hour, 0).ok()
		for i, release := range []struct {
			session string
			run     int64
		}{{"a", 0}, {"b", 7}, {"c", 1}, {"d", 1}} {
			k.release("t", release.session, release.run).ok()
			k.release("t", release.session, release.run).is(uia.ErrNotHeld)
			k.counts("t", 0, int64(3-i), 0)
			k.pin("t", release.session, 9, 0).is(uia.ErrNotHeld)
		}
		k.rows("t")
		k.held("t", "a", "b", "c", "d")
		k.pin("t", "c", 1, 0).ok() // a use that was reserved anew bears no run
	},
}}
