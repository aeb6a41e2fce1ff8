package storetest

import (
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// reserveCases are about Reserve, but for what it displaces.
var reserveCases = []promise{{
	name: "reserved",
	says: "Reserve sets one use of h.Token aside for h.Session until h.Until.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(2)), Label: "x"}).ok()
		k.reserve("t", "a", minute, milli).ok()
		k.counts("t", milli, 1, 0)
		k.same("the use", k.uses("t")[0], uia.Use{
			Token: "t", Session: "a", State: uia.Held, Until: at(minute), Made: at(milli), Changed: at(milli),
		})
		k.held("t", "b")
		k.rows("t", "a held #0 1m0s", "b held #0 10m0s")
		k.reserve("t", "c", minute, 0).is(uia.ErrExhausted)
		k.counts("t", 0, 2, 0)
	},
}, {
	name: "pending-until-it-lapses",
	says: "Pending counts the uses that are pinned, or held and not lapsed; Completed those that are spent; LastUsed is when the latest was spent, zero if none was.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.reserve("t", "a", minute, 0).ok()
		k.reserve("t", "b", 2*minute, 0).ok()
		k.pinned("t", "p")
		k.counts("t", minute-milli, 3, 0)
		k.counts("t", minute, 2, 0)
		k.counts("t", 2*minute-milli, 2, 0)
		k.counts("t", 2*minute, 1, 0)
		k.counts("t", 100*day, 1, 0)
		k.same("last used", k.token("t", 0).LastUsed.IsZero(), true)
		k.spent("t", "s")
		k.commit("t", "p", 1, "@p", hour).ok()
		k.counts("t", 0, 2, 2)
		k.same("last used", k.token("t", 0).LastUsed, at(hour))
	},
}, {
	name: "reserved-again",
	says: "For a session that has a held use of the token, lapsed or not, it moves Until and takes no second use:",
	test: func(k *kit) {
		k.limited("t", 1)
		for _, s := range []struct{ until, now time.Duration }{
			{10 * minute, 0}, {20 * minute, minute}, {2 * minute, minute}, {hour, 30 * minute}, {hour + milli, hour},
		} {
			k.reserve("t", "a", s.until, s.now).ok()
			k.counts("t", s.now, 1, 0)
			k.rows("t", "a held #0 "+s.until.String())
			k.same("when it was made", k.uses("t")[0].Made, at(0))
			k.reserve("t", "b", day, s.now).is(uia.ErrExhausted)
		}
	},
}, {
	name: "a-hold-outlives-expiry-and-limit",
	says: "a hold that was made in time outlives the token's expiry and a lowered limit, but not its revocation.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(3)), Expires: at(minute)}).ok()
		k.held("t", "a")
		k.reserve("t", "lapsed", 2*milli, 0).ok()
		k.reserve("t", "b", minute, minute).is(uia.ErrExpired)
		k.reserve("t", "a", hour, minute).ok()
		k.reserve("t", "lapsed", hour, 20*minute).ok()
		k.limit("t", 0)
		k.reserve("t", "a", 2*hour, minute).ok()
		k.reserve("t", "b", minute, 0).is(uia.ErrExhausted)
		k.rows("t", "a held #0 2h0m0s", "lapsed held #0 1h0m0s")
		k.pin("t", "a", 1, 3*hour).ok()
		k.commit("t", "a", 1, "@a", 3*hour).ok()
		k.revoke("t", true)
		k.reserve("t", "lapsed", hour, 0).is(uia.ErrRevoked)
	},
}, {
	name: "reserved-while-pinned",
	says: "For one whose use is pinned it changes nothing and returns nil.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(1)), Expires: at(minute)}).ok()
		k.pinned("t", "a")
		before := show(k.uses("t")[0])
		for _, revoked := range []bool{false, true} {
			for _, now := range []time.Duration{0, hour} {
				k.reserve("t", "a", 2*hour, now).ok()
				k.same("the use", show(k.uses("t")[0]), before)
			}
			k.revoke("t", !revoked)
		}
	},
}, {
	name: "expiry-to-the-millisecond",
	says: "Expires is the first instant at which the token is no longer valid. Zero means never.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", Expires: at(minute)}, uia.Token{Value: "never"}).ok()
		k.reserve("t", "a", hour, minute-milli).ok()
		k.reserve("t", "b", hour, minute).is(uia.ErrExpired)
		k.reserve("t", "b", hour, minute+milli).is(uia.ErrExpired)
		k.reserve("never", "b", hour, 100*365*day).ok()
		k.update("t", uia.TokenPatch{Expires: new(at(hour))}).ok()
		k.reserve("t", "b", hour, minute).ok()
	},
}, {
	name: "any-number-or-none",
	says: "Nil means any number, zero disables the token.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "any"}, uia.Token{Value: "none", UsesAllowed: new(int64(0))}).ok()
		for i := range 20 {
			k.spent("any", fmt.Sprint("s", i))
			k.held("any", fmt.Sprint("h", i))
		}
		k.counts("any", 0, 20, 20)
		k.reserve("none", "a", hour, 0).is(uia.ErrExhausted)
		k.rows("none")
		k.limit("none", 1)
		k.held("none", "a")
	},
}, {
	name: "order-of-refusals",
	says: "It returns ErrNotFound, ErrRevoked, ErrExpired or ErrExhausted, in this order of precedence, and ErrSpent before all of them if the session's use of this token is spent.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(1)), Expires: at(minute)}).ok()
		k.spent("t", "a")
		k.reserve("t", "b", hour, 0).is(uia.ErrExhausted)
		k.reserve("t", "b", hour, minute).is(uia.ErrExpired)
		k.reserve("t", "a", hour, minute).is(uia.ErrSpent)
		k.revoke("t", true)
		k.reserve("t", "b", hour, minute).is(uia.ErrRevoked)
		k.reserve("t", "a", hour, 0).is(uia.ErrSpent)
		k.delete("t").ok()
		k.reserve("t", "b", hour, minute).is(uia.ErrNotFound)
		k.reserve("t", "a", hour, minute).is(uia.ErrSpent)
	},
}, {
	name: "refusals-change-nothing",
	says: "A failure changes nothing.",
	test: func(k *kit) {
		k.limited("t", 3)
		k.reserve("t", "lapsed", -minute, -hour).ok()
		k.pinned("t", "p")
		k.spent("t", "s")
		k.limit("t", 2) // the lapsed hold alone is not enough
		k.create(uia.Token{Value: "expired", Expires: at(0)}, uia.Token{Value: "revoked", Revoked: true}).ok()
		k.reserve("expired", "lapsed", -minute, -hour).ok()
		k.unchanged(func() {
			k.reserve("t", "new", hour, 0).is(uia.ErrExhausted)
			k.reserve("t", "s", hour, 0).is(uia.ErrSpent)
			k.reserve("expired", "new", hour, 0).is(uia.ErrExpired)
			k.reserve("revoked", "new", hour, 0).is(uia.ErrRevoked)
			k.reserve("absent", "new", hour, 0).is(uia.ErrNotFound)
		})
	},
}, {
	name: "two-tokens-in-one-session",
	says: "Claim names the use that a session has of a token, and the run in whose name it is asked for.",
	test: func(k *kit) {
		k.limited("t", 1)
		k.limited("u", 1)
		k.held("t", "a")
		k.held("u", "a")
		k.counts("t", 0, 1, 0)
		k.counts("u", 0, 1, 0)
		k.pin("t", "a", 1, 0).ok()
		k.rows("u", "a held #0 10m0s")
		k.commit("u", "a", 1, "@a", 0).is(uia.ErrNotHeld)
		k.release("u", "a", 0).ok()
		k.commit("t", "a", 1, "@a", 0).ok()
		k.reserve("t", "a", hour, 0).is(uia.ErrSpent)
		k.held("u", "a")
		k.rows("t", "a spent #1 @a")
		k.rows("u", "a held #0 10m0s")
	},
}}

// displaceCases are about lapsed holds and who takes their place.
var displaceCases = []promise{{
	name: "displaced-when-lapsed",
	says: "If every use is taken but enough of them are held and have lapsed (Until <= now), it deletes those that lapsed first, no more than it needs, and takes their place.",
	test: func(k *kit) {
		k.limited("t", 1)
		k.reserve("t", "a", minute, 0).ok()
		k.reserve("t", "b", hour, minute-milli).is(uia.ErrExhausted)
		k.rows("t", "a held #0 1m0s")
		k.reserve("t", "b", hour, minute).ok()
		k.counts("t", minute, 1, 0)
		k.rows("t", "b held #0 1h0m0s")
		k.pin("t", "a", 1, minute).is(uia.ErrNotHeld)
		k.release("t", "a", 0).is(uia.ErrNotHeld)
		k.reserve("t", "a", hour, minute).is(uia.ErrExhausted)
	},
}, {
	name: "displaces-the-oldest",
	says: "it deletes those that lapsed first, no more than it needs, and takes their place.",
	test: func(k *kit) {
		k.limited("t", 4)
		k.limited("other", 1)
		k.reserve("other", "o", 0, -hour).ok()
		k.reserve("t", "a", 3*minute, 0).ok()
		k.reserve("t", "b", 1*minute, 0).ok()
		k.reserve("t", "c", 2*minute, 0).ok()
		k.reserve("t", "d", 4*minute, 0).ok()
		k.reserve("t", "x", hour, 10*minute).ok()
		k.rows("t", "a held #0 3m0s", "c held #0 2m0s", "d held #0 4m0s", "x held #0 1h0m0s")
		k.reserve("t", "y", hour, 2*minute).ok()
		k.rows("t", "a held #0 3m0s", "d held #0 4m0s", "x held #0 1h0m0s", "y held #0 1h0m0s")
		k.reserve("t", "z", hour, 2*minute).is(uia.ErrExhausted)
		k.rows("other", "o held #0 0s")
	},
}, {
	name: "displaces-only-what-is-needed",
	says: "If every use is taken but enough of them are held and have lapsed (Until <= now), it deletes those that lapsed first, no more than it needs, and takes their place.",
	test: func(k *kit) {
		k.limited("t", 6)
		k.reserve("t", "a", 1*minute, 0).ok()
		k.reserve("t", "b", 2*minute, 0).ok()
		k.reserve("t", "c", 3*minute, 0).ok()
		k.reserve("t", "x", hour, 10*minute).ok() // there is room: it displaces nobody
		k.rows("t", "a held #0 1m0s", "b held #0 2m0s", "c held #0 3m0s", "x held #0 1h0m0s")
		k.limit("t", 3)
		k.reserve("t", "y", hour, 10*minute).ok() // two have to go
		k.rows("t", "c held #0 3m0s", "x held #0 1h0m0s", "y held #0 1h0m0s")
		k.limit("t", 1)
		k.reserve("t", "z", hour, 10*minute).is(uia.ErrExhausted)
		k.rows("t", "c held #0 3m0s", "x held #0 1h0m0s", "y held #0 1h0m0s")
	},
}, {
	name: "never-more-rows-than-uses",
	says: "no Reserve adds a use unless the token's rows (held, lapsed, pinned and spent together) are fewer than UsesAllowed at that moment, and a lapsed hold is disregarded only by deleting it in the same transaction.",
	test: func(k *kit) {
		k.limited("t", 3)
		k.pinned("t", "p")
		k.spent("t", "s")
		k.reserve("t", "a", minute, 0).ok()
		k.reserve("t", "b", hour, 2*minute).ok() // displaces a
		k.pin("t", "b", 1, 0).ok()
		k.reserve("t", "c", day, 1000*day).is(uia.ErrExhausted) // nothing pinned or spent ever lapses
		k.unpin("t", "b", 1, minute, 0).ok()
		k.reserve("t", "c", hour, minute).ok() // displaces b
		k.pin("t", "b", 2, 0).is(uia.ErrNotHeld)
		k.commit("t", "b", 1, "@b", 0).is(uia.ErrNotHeld)
		k.rows("t", "c held #0 1h0m0s", "p pinned #1", "s spent #1 @s")
	},
}, {
	name: "lapsed-but-not-displaced",
	says: "A held use lapses by itself when its Until passes; it stays held, but from then on the Reserve of another session may displace it.",
	test: func(k *kit) {
		k.limited("t", 2)
		k.reserve("t", "a", minute, 0).ok()
		k.reserve("t", "b", minute, 0).ok()
		k.counts("t", hour, 0, 0)
		k.rows("t", "a held #0 1m0s", "b held #0 1m0s")
		k.pin("t", "a", 1, hour).ok()
		k.commit("t", "a", 1, "@a", hour).ok()
		k.counts("t", hour, 0, 1)
		k.release("t", "b", 0).ok()
		k.rows("t", "a spent #1 @a")
	},
}}
