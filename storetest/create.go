package storetest

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/matrix-uia/uia"
)

// createCases are about CreateTokens, DeleteToken and the fields of a token.
var createCases = []promise{{
	name: "fields-are-kept",
	says: "Token returns the token of this value, whether or not it is usable.",
	test: func(k *kit) {
		for _, t := range []uia.Token{
			{Value: "a"},
			{Value: "b", UsesAllowed: new(int64(0)), Revoked: true},
			{
				Value: "c", UsesAllowed: new(int64(1) << 40), Expires: at(-day), Label: "für Bärbel; 'x' \"y\" \\ %_", CreatedBy: "@admin:example.org",
				Meta: json.RawMessage(`{"role":"member","rooms":["!a:b"],"nested":{"n":null,"t":true}}`), Created: at(-2 * day),
			},
			{Value: "d", Label: strings.Repeat("ä", 127) + "x", Meta: json.RawMessage(` {} `), Created: epoch},
		} {
			k.create(t).ok()
			k.same("token "+t.Value, k.token(t.Value, 0), t)
			page, err := k.ListTokens(k.ctx, uia.TokenQuery{LabelPrefix: t.Label, After: &uia.TokenCursor{Value: string(t.Value[0] - 1)}}, epoch)
			k.outcome(err, "ListTokens").ok()
			k.same("token "+t.Value+" in a list", page.Tokens[0], t)
		}
	},
}, {
	name: "counters-in-are-ignored",
	says: "The store derives them from the uses: they are ignored where a Token is an argument.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(1)), Pending: 3, LastUsed: at(minute)}).ok()
		k.counts("t", 0, 0, 0)
		k.same("last used", k.token("t", 0).LastUsed.IsZero(), true)
		k.held("t", "a")
	},
}, {
	name: "spent-elsewhere",
	says: "CreateTokens alone reads Completed: it is how many uses of the token, at most MaxUses, were spent in another system. They stay spent for ever, and no Use stands for them.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(5)), Completed: 3}, uia.Token{Value: "any", Completed: uia.MaxUses},
			uia.Token{Value: "over", UsesAllowed: new(int64(2)), Completed: 3}).ok()
		k.counts("t", 0, 0, 3)
		k.same("last used", k.token("t", 0).LastUsed.IsZero(), true)
		k.rows("t")
		k.reserve("over", "a", minute, 0).is(uia.ErrExhausted)
		k.reserve("any", "a", minute, 0).ok()
		k.reserve("t", "a", minute, 0).ok()
		k.spent("t", "s")
		k.counts("t", 0, 1, 4)
		k.reserve("t", "b", minute, 0).is(uia.ErrExhausted)
		k.reserve("t", "b", 2*minute, minute).ok() // in place of a, which has lapsed
		k.release("t", "b", 0).ok()
		k.update("t", uia.TokenPatch{UsesAllowed: new(new(int64(6))), Revoked: new(true)}).ok()
		k.counts("t", 0, 0, 4)
		k.update("t", uia.TokenPatch{UsesAllowed: new(new(int64(4))), Revoked: new(false)}).ok()
		k.reserve("t", "b", minute, 0).is(uia.ErrExhausted)
		k.same("tokens that are valid", k.list(uia.TokenQuery{Valid: new(true)}, 0), []string{"any"})
		k.same("tokens that are not", k.list(uia.TokenQuery{Valid: new(false)}, 0), []string{"over", "t"})
		page, err := k.ListTokens(k.ctx, uia.TokenQuery{}, epoch)
		k.outcome(err, "ListTokens").ok()
		k.same("completed in a list", page.Tokens[2].Completed, int64(4))
		k.delete("t").ok()
		k.limited("t", 9)
		k.counts("t", 0, 0, 0)
	},
}, {
	name: "the-whole-grammar",
	says: "Value is what a user types: 1 to 64 of the characters A-Z a-z 0-9 . _ ~ -",
	test: func(k *kit) {
		long := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789~-"
		for _, v := range []string{long, strings.Repeat("~", 64), "~", "-", ".", "..", "_", "0", "._~-"} {
			k.limited(v, 1)
			k.spent(v, "session-of-"+v)
			k.counts(v, 0, 0, 1)
			k.rows(v, "session-of-"+v+" spent #1 @session-of-"+v)
		}
	},
}, {
	name: "compared-byte-for-byte",
	says: "It is compared byte for byte.",
	test: func(k *kit) {
		values := []string{"abc", "ABC", "Abc", "abc.", "abc_", "abc-", "abc~"}
		for i, v := range values {
			k.limited(v, int64(i))
		}
		for i, v := range values {
			k.same(v, k.token(v, 0).UsesAllowed, new(int64(i)))
		}
		k.delete("ABC").ok()
		k.reserve("ABC", "a", minute, 0).is(uia.ErrNotFound)
		k.same("those that are left", k.list(uia.TokenQuery{}, 0), []string{"Abc", "abc", "abc-", "abc.", "abc_", "abc~"})
	},
}, {
	name: "created-all-or-none",
	says: "CreateTokens adds all of the tokens or, on any error, none.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "a"}, uia.Token{Value: "b"}, uia.Token{Value: "c"}).ok()
		k.create(uia.Token{Value: "d"}, uia.Token{Value: "b"}, uia.Token{Value: "e"}).is(uia.ErrExists)
		k.create(uia.Token{Value: "d"}, uia.Token{Value: "e", UsesAllowed: new(int64(-1))}).is(uia.ErrInvalid)
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"a", "b", "c"})
	},
}, {
	name: "created-once",
	says: "It returns ErrExists if one of the values exists or is given twice,",
	test: func(k *kit) {
		k.limited("t", 1)
		k.unchanged(func() {
			k.create(uia.Token{Value: "t", UsesAllowed: new(int64(9)), Label: "other"}).is(uia.ErrExists)
			k.create(uia.Token{Value: "a"}, uia.Token{Value: "a"}).is(uia.ErrExists)
		})
		k.spent("t", "a")
		k.create(uia.Token{Value: "t", UsesAllowed: new(int64(9))}).is(uia.ErrExists)
		k.counts("t", 0, 0, 1)
	},
}, {
	name: "created-invalid",
	says: "and ErrInvalid if a value breaks the grammar, UsesAllowed or Completed is negative or greater than MaxUses, or Meta is no JSON object.",
	test: func(k *kit) {
		k.limited("most", uia.MaxUses)
		k.same("the greatest limit", k.token("most", 0).UsesAllowed, new(int64(uia.MaxUses)))
		for _, n := range []int64{-1, math.MinInt64, uia.MaxUses + 1, math.MaxInt64 - 1, math.MaxInt64} {
			k.create(uia.Token{Value: "t", UsesAllowed: &n}).is(uia.ErrInvalid)
			k.create(uia.Token{Value: "t", Completed: n}).is(uia.ErrInvalid)
			k.update("most", uia.TokenPatch{UsesAllowed: new(&n)}).is(uia.ErrInvalid)
		}
		k.delete("most").ok()
		for _, meta := range []string{"", "null", "[]", `"x"`, "1", "{", `{"a":1}x`, "{}{}"} {
			k.create(uia.Token{Value: "t", Meta: json.RawMessage(meta)}).is(uia.ErrInvalid)
		}
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{})
	},
}, {
	name: "label-too-long",
	says: "Label is the operator's note, at most 255 bytes of UTF-8 without a NUL.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", Label: strings.Repeat("ä", 128)}).is(uia.ErrInvalid)
		for _, text := range []string{"\xff", "a\x00b", strings.Repeat("a", 256)} {
			k.create(uia.Token{Value: "t", Label: text}).is(uia.ErrInvalid)
			k.create(uia.Token{Value: "t", CreatedBy: text}).is(uia.ErrInvalid)
		}
		k.limited("t", 1)
		k.update("t", uia.TokenPatch{Label: new(strings.Repeat("a", 256))}).is(uia.ErrInvalid)
		k.update("t", uia.TokenPatch{Label: new("\xff")}).is(uia.ErrInvalid)
		k.same("label", k.token("t", 0).Label, "")
	},
}, {
	name: "created-again",
	says: "A value that is created again after its deletion starts without any uses.",
	test: func(k *kit) {
		k.limited("t", 3)
		k.held("t", "h")
		k.pinned("t", "p")
		k.spent("t", "s")
		k.delete("t").ok()
		k.limited("t", 1)
		k.counts("t", 0, 0, 0)
		k.same("last used", k.token("t", 0).LastUsed.IsZero(), true)
		k.held("t", "a")
		k.reserve("t", "b", minute, 0).is(uia.ErrExhausted)
		k.commit("t", "p", 1, "@p", 0).ok() // of the token that was deleted
		k.counts("t", 0, 1, 0)
		k.pin("t", "a", 1, 0).ok()
	},
}, {
	name: "created-none",
	says: "No tokens is nil.",
	test: func(k *kit) {
		k.create().ok()
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{})
	},
}, {
	name: "deleted",
	says: "DeleteToken deletes the token and its held uses.",
	test: func(k *kit) {
		k.limited("t", 9)
		k.limited("other", 9)
		k.held("t", "a", "b")
		k.held("other", "a")
		k.delete("t").ok()
		k.delete("t").is(uia.ErrNotFound)
		_, err := k.Token(k.ctx, "t", epoch)
		k.outcome(err, "Token").is(uia.ErrNotFound)
		k.same("tokens", k.list(uia.TokenQuery{}, 0), []string{"other"})
		k.reserve("t", "a", minute, 0).is(uia.ErrNotFound)
		k.pin("t", "a", 1, 0).is(uia.ErrNotHeld)
		k.release("t", "b", 0).is(uia.ErrNotHeld)
		k.rows("other", "a held #0 10m0s")
		k.limited("t", 9)
		k.pin("t", "a", 1, 0).is(uia.ErrNotHeld)
	},
}, {
	name: "deleted-while-in-use",
	says: "Pinned uses of it can still be committed and released, and spent ones stay spent.",
	test: func(k *kit) {
		for i, again := range []bool{false, true} { // the value is created again
			t := []string{"t", "u"}[i]
			k.limited(t, 9)
			k.pinned(t, "p", "q", "r")
			k.spent(t, "s")
			k.delete(t).ok()
			if again {
				k.limited(t, 9)
			}
			k.pin(t, "p", 2, 0).ok()
			k.commit(t, "p", 1, "@p", 0).is(uia.ErrNotHeld)
			k.commit(t, "p", 2, "@p", 0).ok()
			k.release(t, "q", 1).ok()
			k.release(t, "q", 1).is(uia.ErrNotHeld)
			k.unpin(t, "r", 1, minute, 0).ok()
			k.pin(t, "r", 2, 0).is(uia.ErrNotHeld) // unpinning deleted it
			for _, s := range []string{"p", "s"} {
				k.reserve(t, s, minute, 0).is(uia.ErrSpent)
				k.pin(t, s, 9, 0).is(uia.ErrSpent)
				k.release(t, s, 9).is(uia.ErrSpent)
			}
			k.commit(t, "s", 1, "@s", 0).ok()
			if again {
				k.counts(t, 0, 0, 0)
				k.rows(t)
			}
		}
	},
}}
