package storetest

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

// updateCases are about UpdateToken and about when a token is usable.
var updateCases = []promise{{
	name: "patched",
	says: "A nil field leaves the token's as it is; a pointer to the field's zero value clears it.",
	test: func(k *kit) {
		full := uia.Token{
			Value: "t", UsesAllowed: new(int64(3)), Expires: at(hour), Label: "label",
			Meta: json.RawMessage(`{"a":1}`), Created: epoch, CreatedBy: "@admin",
		}
		k.create(full, uia.Token{Value: "other"}).ok()
		want := full
		var never time.Time
		var none json.RawMessage
		var unlimited *int64
		for _, step := range []struct {
			patch uia.TokenPatch
			edit  func()
		}{
			{uia.TokenPatch{}, func() {}},
			{uia.TokenPatch{UsesAllowed: new(new(int64(5)))}, func() { want.UsesAllowed = new(int64(5)) }},
			{uia.TokenPatch{UsesAllowed: new(new(int64(0)))}, func() { want.UsesAllowed = new(int64(0)) }},
			{uia.TokenPatch{UsesAllowed: &unlimited}, func() { want.UsesAllowed = nil }},
			{uia.TokenPatch{Expires: new(at(day))}, func() { want.Expires = at(day) }},
			{uia.TokenPatch{Expires: &never}, func() { want.Expires = never }},
			{uia.TokenPatch{Revoked: new(true)}, func() { want.Revoked = true }},
			{uia.TokenPatch{Label: new("other")}, func() { want.Label = "other" }},
			{uia.TokenPatch{Label: new("")}, func() { want.Label = "" }},
			{uia.TokenPatch{Meta: &json.RawMessage{'{', '}'}}, func() { want.Meta = json.RawMessage("{}") }},
			{uia.TokenPatch{Meta: &none}, func() { want.Meta = nil }},
			{uia.TokenPatch{Revoked: new(false), Label: new("x"), Expires: new(at(hour))}, func() {
				want.Revoked, want.Label, want.Expires = false, "x", at(hour)
			}},
		} {
			step.edit()
			got, err := k.UpdateToken(k.ctx, "t", step.patch, epoch)
			k.outcome(err, "UpdateToken").ok()
			k.same("the token returned", got, want)
			k.same("the token kept", k.token("t", 0), want)
			k.same("another token", k.token("other", 0), uia.Token{Value: "other"})
		}
	},
}, {
	name: "updated-token-has-its-counters",
	says: "UpdateToken changes what p names and returns the token as it is then.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "h")
		k.spent("t", "s")
		for _, now := range []time.Duration{0, 10 * minute} {
			got, err := k.UpdateToken(k.ctx, "t", uia.TokenPatch{Label: new("x")}, at(now))
			k.outcome(err, "UpdateToken").ok()
			k.same("the token returned", got, k.token("t", now))
		}
		got, err := k.UpdateToken(k.ctx, "t", uia.TokenPatch{Revoked: new(true)}, epoch)
		k.outcome(err, "UpdateToken").ok()
		k.same("pending after revoking", got.Pending, 0)
	},
}, {
	name: "updated-invalid",
	says: "A value that CreateTokens would refuse is ErrInvalid.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "h")
		k.unchanged(func() {
			k.update("t", uia.TokenPatch{Label: new("x"), UsesAllowed: new(new(int64(-1)))}).is(uia.ErrInvalid)
			for _, meta := range []string{"", "null", "[]", "{"} {
				k.update("t", uia.TokenPatch{Revoked: new(true), Meta: new(json.RawMessage(meta))}).is(uia.ErrInvalid)
			}
		})
	},
}, {
	name: "revoked",
	says: "Revoking a token deletes its held uses; pinned ones go on.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.limited("other", 9)
		k.held("t", "a", "b")
		k.held("other", "a")
		k.pinned("t", "p", "q")
		k.spent("t", "s")
		k.revoke("t", true)
		k.rows("t", "p pinned #1", "q pinned #1", "s spent #1 @s")
		k.rows("other", "a held #0 10m0s")
		k.pin("t", "a", 1, 0).is(uia.ErrNotHeld)
		k.reserve("t", "p", minute, 0).ok()
		k.pin("t", "p", 2, 0).ok()
		k.commit("t", "p", 2, "@p", 0).ok()
		k.unpin("t", "q", 1, minute, 0).ok()
		k.rows("t", "p spent #2 @p", "s spent #1 @s")
		k.revoke("t", true) // again: nothing is left to delete
		k.counts("t", 0, 0, 2)
	},
}, {
	name: "revoked-for-a-while",
	says: "Revoked tokens are not valid until the flag is cleared again.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.held("t", "a")
		k.revoke("t", true)
		k.reserve("t", "a", minute, 0).is(uia.ErrRevoked)
		k.reserve("t", "b", minute, 0).is(uia.ErrRevoked)
		k.revoke("t", false)
		k.rows("t")
		k.pin("t", "a", 1, 0).is(uia.ErrNotHeld) // its hold is gone for good
		k.held("t", "a", "b")
		k.create(uia.Token{Value: "u", Revoked: true}).ok()
		k.reserve("u", "a", minute, 0).is(uia.ErrRevoked)
		k.revoke("u", false)
		k.held("u", "a")
	},
}, {
	name: "limit-lowered",
	says: "Lowering UsesAllowed, even below what is used, cancels nothing: it only keeps further uses from being added.",
	test: func(k *kit) {
		k.limited("t", 5)
		k.held("t", "a", "b")
		k.pinned("t", "p")
		k.spent("t", "s")
		k.limit("t", 1)
		k.rows("t", "a held #0 10m0s", "b held #0 10m0s", "p pinned #1", "s spent #1 @s")
		k.counts("t", 0, 3, 1)
		k.reserve("t", "c", minute, 0).is(uia.ErrExhausted)
		k.reserve("t", "a", hour, 0).ok()
		k.pin("t", "b", 1, 0).ok()
		k.commit("t", "b", 1, "@b", 0).ok()
		k.unpin("t", "p", 1, hour, 0).ok()
		k.pin("t", "p", 2, 0).ok()
		k.limit("t", 0)
		k.commit("t", "p", 2, "@p", 0).ok()
		k.counts("t", 0, 1, 3)
		k.limit("t", 5)
		k.held("t", "c")
		k.reserve("t", "d", minute, 0).is(uia.ErrExhausted)
	},
}, {
	name: "usable-or-not",
	says: "Valid, if not nil, keeps the tokens that are usable at the time of the call if it is true, and those that are not usable if it is false ([Token.Usable]).",
	test: func(k *kit) {
		k.create(
			uia.Token{Value: "any"},
			uia.Token{Value: "disabled", UsesAllowed: new(int64(0))},
			uia.Token{Value: "expired", Expires: at(0)},
			uia.Token{Value: "expiring", Expires: at(milli)},
			uia.Token{Value: "free", UsesAllowed: new(int64(3))},
			uia.Token{Value: "held", UsesAllowed: new(int64(1))},
			uia.Token{Value: "lapsed", UsesAllowed: new(int64(1))},
			uia.Token{Value: "lowered", UsesAllowed: new(int64(3))},
			uia.Token{Value: "pinned", UsesAllowed: new(int64(1))},
			uia.Token{Value: "revoked", Revoked: true},
			uia.Token{Value: "spent", UsesAllowed: new(int64(1))},
		).ok()
		k.held("held", "a")
		k.reserve("lapsed", "a", 0, -minute).ok()
		k.pinned("pinned", "a")
		k.spent("spent", "a")
		k.spent("free", "a")
		k.held("free", "b")
		k.held("any", "a", "b", "c")
		k.spent("lowered", "a", "b")
		k.limit("lowered", 1)
		for now, want := range map[time.Duration][]string{
			0:           {"any", "expiring", "free", "lapsed"},
			-milli:      {"any", "expired", "expiring", "free"},
			milli:       {"any", "free", "lapsed"},
			10 * minute: {"any", "free", "held", "lapsed"},
		} {
			var other []string
			for _, v := range k.list(uia.TokenQuery{}, now) {
				usable := k.token(v, now).Usable(at(now)) == nil
				if usable != slices.Contains(want, v) {
					k.Fatalf("%s at %v: got usable = %v", v, now, usable)
				}
				if !usable {
					other = append(other, v)
				}
			}
			k.same("usable tokens", k.list(uia.TokenQuery{Valid: new(true)}, now), want)
			k.same("other tokens", k.list(uia.TokenQuery{Valid: new(false)}, now), other)
		}
	},
}}
