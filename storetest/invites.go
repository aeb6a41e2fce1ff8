package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// inviteCases are about stores that implement uia.InviteStore.
var inviteCases = []promise{{
	name:  "invites-are-limited",
	says:  "CreateInvite adds the token if its creator stays within the limit, and otherwise returns ErrQuota.",
	needs: anInviteStore,
	test: func(k *kit) {
		two := uia.InviteLimit{Live: 2, Recent: 9}
		full := uia.Token{
			Value: "a", UsesAllowed: new(int64(2)), Expires: at(day), Label: "für Bärbel", Created: at(minute), CreatedBy: "@a:x",
			Meta: []byte(`{"username":"b"}`),
		}
		k.invite(full, two, 0).ok()
		k.same("the token", k.token("a", 0), full)
		k.invite(uia.Token{Value: "b", CreatedBy: "@a:x", Created: at(minute)}, two, 0).ok()
		k.unchanged(func() {
			k.invite(uia.Token{Value: "c", CreatedBy: "@a:x", Created: at(minute)}, two, 0).is(uia.ErrQuota)
			for _, none := range []uia.InviteLimit{{}, {Live: 1}, {Recent: 1}, {Live: -1, Recent: 1}, {Live: 1, Recent: -1}} {
				k.invite(uia.Token{Value: "c", CreatedBy: "@none", Created: at(minute)}, none, 0).is(uia.ErrQuota)
			}
		})
		for i, by := range []string{"@A:x", "@a:xx", "@a", "@a:x ", "%", "@a:_"} { // other creators
			k.invite(uia.Token{Value: fmt.Sprint("o", i), CreatedBy: by, Created: at(minute)}, uia.InviteLimit{Live: 1, Recent: 1}, 0).ok()
		}
		k.create(uia.Token{Value: "d", CreatedBy: "@a:x"}).ok() // has no limit
	},
}, {
	name:  "invites-that-are-live",
	says:  "Live is how many tokens of the creator may be live at once ([Token.Live]), the new one included.",
	needs: anInviteStore,
	test: func(k *kit) {
		n := 0
		more := func(live int, now time.Duration) outcome {
			n++
			return k.invite(uia.Token{Value: fmt.Sprint("x", n), CreatedBy: "@a", Revoked: true}, uia.InviteLimit{Live: live, Recent: 99}, now)
		}
		k.create(
			uia.Token{Value: "revoked", CreatedBy: "@a", Revoked: true}, uia.Token{Value: "off", CreatedBy: "@a", UsesAllowed: new(int64(0))},
			uia.Token{Value: "elsewhere", CreatedBy: "@a", UsesAllowed: new(int64(2)), Completed: 2}, uia.Token{Value: "old", CreatedBy: "@a", Expires: at(0)},
			uia.Token{Value: "spent", CreatedBy: "@a", UsesAllowed: new(int64(1))}, uia.Token{Value: "other", CreatedBy: "@b"},
		).ok()
		k.spent("spent", "s")
		more(1, 0).ok() // none is live
		k.create(uia.Token{Value: "soon", CreatedBy: "@a", Expires: at(minute)}).ok()
		more(1, minute-milli).is(uia.ErrQuota)
		more(1, minute).ok()
		k.create(uia.Token{Value: "held", CreatedBy: "@a", UsesAllowed: new(int64(1))}, uia.Token{Value: "pinned", CreatedBy: "@a", UsesAllowed: new(int64(2))}).ok()
		k.held("held", "h")
		k.pinned("pinned", "p")
		k.spent("pinned", "q")
		more(2, minute).is(uia.ErrQuota)
		k.commit("pinned", "p", 1, "@p", minute).ok()
		more(2, minute).ok()
		more(1, minute).is(uia.ErrQuota)
		k.delete("held").ok()
		more(1, minute).ok()
	},
}, {
	name:  "invites-that-are-recent",
	says:  "Recent is how many the creator may have created at Since or later, the new one included, whatever became of them.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(
			uia.Token{Value: "before", CreatedBy: "@a", Created: at(minute - milli)}, uia.Token{Value: "other", CreatedBy: "@b", Created: at(hour)},
			uia.Token{Value: "revoked", CreatedBy: "@a", Created: at(minute), Revoked: true}, uia.Token{Value: "old", CreatedBy: "@a", Created: at(hour), Expires: at(0)},
		).ok()
		limit := uia.InviteLimit{Live: 9, Recent: 2, Since: at(minute)}
		k.invite(uia.Token{Value: "a", CreatedBy: "@a", Created: at(hour)}, limit, hour).is(uia.ErrQuota)
		limit.Recent = 3
		k.invite(uia.Token{Value: "a", CreatedBy: "@a", Created: at(hour)}, limit, hour).ok()
		limit.Since = at(minute + milli)
		k.invite(uia.Token{Value: "b", CreatedBy: "@a", Created: at(hour)}, limit, hour).ok()
	},
}, {
	name:  "invites-that-are-refused",
	says:  "An empty CreatedBy is ErrInvalid. Other errors are those of CreateTokens.",
	needs: anInviteStore,
	test: func(k *kit) {
		limit := uia.InviteLimit{Live: 9, Recent: 9}
		k.create(uia.Token{Value: "there", CreatedBy: "@b"}).ok()
		k.unchanged(func() {
			for _, t := range []uia.Token{
				{Value: "a"}, {Value: "a b", CreatedBy: "@a"}, {CreatedBy: "@a"}, {Value: "a", CreatedBy: "@a", UsesAllowed: new(int64(-1))},
				{Value: "a", CreatedBy: "@a", Meta: []byte("[]")}, {Value: "a", CreatedBy: "@a", Label: "\xff"}, {Value: "a", CreatedBy: "@\x00"},
				{Value: "a", CreatedBy: strings.Repeat("x", 256)},
			} {
				k.invite(t, limit, 0).is(uia.ErrInvalid)
			}
			k.invite(uia.Token{Value: "there", CreatedBy: "@a"}, limit, 0).is(uia.ErrExists)
		})
	},
}, {
	name:  "race-to-invite",
	says:  "Of any number of concurrent calls for one creator no more succeed than the limit allows.",
	needs: anInviteStore,
	test: func(k *kit) {
		invites := k.Store.(uia.InviteStore)
		for round, limit := range []uia.InviteLimit{{Live: 4, Recent: 99}, {Live: 99, Recent: 4}} {
			by := fmt.Sprint("@a", round)
			k.create(uia.Token{Value: fmt.Sprint("first", round), CreatedBy: by}, uia.Token{Value: fmt.Sprint("second", round), CreatedBy: by}, uia.Token{Value: fmt.Sprint("third", round), CreatedBy: by}).ok()
			k.once(32, uia.ErrQuota, func(i int) error {
				return invites.CreateInvite(k.ctx, uia.Token{Value: fmt.Sprintf("t%d-%d", round, i), CreatedBy: by}, limit, at(0))
			})
			k.same("tokens of "+by, len(k.createdBy(by, 0)), 4)
		}
		// Nobody else is in the way.
		k.race(8, func(i int) {
			err := invites.CreateInvite(k.ctx, uia.Token{Value: fmt.Sprint("u", i), CreatedBy: fmt.Sprint("@u", i)}, uia.InviteLimit{Live: 1, Recent: 1}, at(0))
			if err != nil {
				k.Errorf("CreateInvite: %v", err)
			}
		})
	},
}, {
	name:  "created-are-listed",
	says:  "ListCreated returns a page of the tokens of one creator, the newest first: by Created, then by value, both descending. There may be none.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.same("tokens of nobody", k.createdBy("@a", 0), []string(nil))
		k.create(
			uia.Token{Value: "b", CreatedBy: "@a", Created: epoch}, uia.Token{Value: "a", CreatedBy: "@a", Created: epoch}, uia.Token{Value: "B", CreatedBy: "@a", Created: epoch},
			uia.Token{Value: "new", CreatedBy: "@a", Created: at(milli), Revoked: true}, uia.Token{Value: "old", CreatedBy: "@a", Expires: epoch},
			uia.Token{Value: "other", CreatedBy: "@A", Created: at(milli)}, uia.Token{Value: "gone", CreatedBy: "@a"}, uia.Token{Value: "none", Created: at(hour)},
		).ok()
		k.delete("gone").ok()
		k.spent("b", "s", "t")
		k.held("b", "h")
		want := []string{"new", "b", "a", "B", "old"}
		for _, limit := range []int{0, 1, 2, 3, 5} {
			k.same(fmt.Sprintf("tokens of @a in pages of %d", limit), k.createdBy("@a", limit), want)
		}
		k.same("tokens of @A", k.createdBy("@A", 0), []string{"other"})
		invites := k.Store.(uia.InviteStore)
		for _, now := range []time.Duration{0, hour} {
			page, err := invites.ListCreated(k.ctx, uia.CreatedQuery{CreatedBy: "@a", Limit: 2}, at(now))
			k.outcome(err, "ListCreated").ok()
			for _, t := range page.Tokens {
				k.same("token "+t.Value, t, k.token(t.Value, now))
			}
		}
		_, err := invites.ListCreated(k.ctx, uia.CreatedQuery{CreatedBy: "@a", Limit: -1}, epoch)
		k.outcome(err, "ListCreated with limit -1").is(uia.ErrInvalid)
	},
}, {
	name:  "created-are-revoked",
	says:  "RevokeCreated revokes those tokens of one creator that are live at now, at most limit of them, and returns their values.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(
			uia.Token{Value: "a", CreatedBy: "@a"}, uia.Token{Value: "b", CreatedBy: "@a", Expires: at(minute), UsesAllowed: new(int64(2))}, uia.Token{Value: "c", CreatedBy: "@a"},
			uia.Token{Value: "revoked", CreatedBy: "@a", Revoked: true}, uia.Token{Value: "old", CreatedBy: "@a", Expires: at(0)},
			uia.Token{Value: "off", CreatedBy: "@a", UsesAllowed: new(int64(0))}, uia.Token{Value: "other", CreatedBy: "@b"},
		).ok()
		k.pinned("b", "p", "q")
		k.unchanged(func() { k.revokeAll("@nobody", 9, 0) })
		some := k.revokeAll("@a", 2, 0)
		k.same("how many were revoked", len(some), 2)
		all := append(some, k.revokeAll("@a", 9, 0)...)
		slices.Sort(all)
		k.same("revoked", all, []string{"a", "b", "c"})
		k.unchanged(func() { k.same("revoked again", len(k.revokeAll("@a", 9, 0)), 0) })
		for value, want := range map[string]bool{"a": true, "b": true, "c": true, "revoked": true, "old": false, "off": false, "other": false} {
			k.same(value+" is revoked", k.token(value, 0).Revoked, want)
		}
		for _, limit := range []int{0, -1} {
			_, err := k.Store.(uia.InviteStore).RevokeCreated(k.ctx, "@b", limit, epoch)
			k.outcome(err, "RevokeCreated with limit %d", limit).is(uia.ErrInvalid)
		}
	},
}, {
	name:  "created-lose-their-holds",
	says:  "Their holds are deleted as by UpdateToken.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "a", CreatedBy: "@a"}, uia.Token{Value: "b", CreatedBy: "@b"}).ok()
		k.held("a", "h")
		k.pinned("a", "p")
		k.spent("a", "s")
		k.held("b", "h")
		k.revokeAll("@a", 9, 0)
		k.rows("a", "p pinned #1", "s spent #1 @s")
		k.rows("b", "h held #0 10m0s")
		k.counts("a", 0, 1, 1)
		k.reserve("a", "h", minute, 0).is(uia.ErrRevoked)
		k.commit("a", "p", 1, "@p", 0).ok()
		k.same("who has invited @p", k.inviteOf("@p").InvitedBy, "@a")
	},
}, {
	name:  "race-to-revoke-all",
	says:  "Others see all of them revoked or none.",
	needs: anInviteStore,
	test: func(k *kit) {
		invites := k.Store.(uia.InviteStore)
		var tokens []uia.Token
		for i := range 20 {
			tokens = append(tokens, uia.Token{Value: fmt.Sprintf("t%02d", i), CreatedBy: "@a"})
		}
		k.create(tokens...).ok()
		for range 5 {
			k.race(4, func(i int) {
				if i == 0 {
					if _, err := invites.RevokeCreated(k.ctx, "@a", 99, at(0)); err != nil {
						k.Errorf("RevokeCreated: %v", err)
					}
					return
				}
				for range 10 {
					page, err := invites.ListCreated(k.ctx, uia.CreatedQuery{CreatedBy: "@a"}, at(0))
					revoked := 0
					for _, t := range page.Tokens {
						if t.Revoked {
							revoked++
						}
					}
					if err != nil || revoked != 0 && revoked != len(tokens) {
						k.Errorf("ListCreated: %d of %d tokens are revoked, error %v", revoked, len(tokens), err)
					}
				}
			})
			for _, t := range tokens {
				k.revoke(t.Value, false)
			}
		}
	},
}, {
	name:  "invited-are-listed",
	says:  "ListInvited returns a page of the accounts whose inviter is the one in q, newest first (by Made, then by session in descending order).",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}, uia.Token{Value: "u", CreatedBy: "@a"}, uia.Token{Value: "v", CreatedBy: "@b"}, uia.Token{Value: "w"}).ok()
		k.account("t", "b", "@b", 0)
		k.account("u", "a", "@x", 0)
		k.account("u", "c", "@y", minute)
		k.account("t", "d", "@z", minute)
		k.account("v", "e", "@c", minute)
		k.account("w", "f", "@nobody's", 0)
		k.held("t", "h")
		k.pinned("t", "p")
		want := []string{"@z by @a", "@y by @a", "@b by @a, who invites", "@x by @a"}
		for _, limit := range []int{0, 1, 2, 3, 4} {
			k.same(fmt.Sprintf("invited by @a, in pages of %d", limit), k.invitedBy("@a", limit), want)
		}
		k.same("invited by @b", k.invitedBy("@b", 0), []string{"@c by @b"})
		k.same("invited by @A", k.invitedBy("@A", 0), []string(nil))
		_, err := k.Store.(uia.InviteStore).ListInvited(k.ctx, uia.InvitedQuery{InvitedBy: "@a", Limit: -1})
		k.outcome(err, "ListInvited with limit -1").is(uia.ErrInvalid)
		page, err := k.Store.(uia.InviteStore).ListInvited(k.ctx, uia.InvitedQuery{InvitedBy: "@b"})
		k.outcome(err, "ListInvited").ok()
		k.same("the use", page.Invited[0].Use, k.uses("v")[0])
	},
}, {
	name:  "invited-with-deleted-tokens",
	says:  "Uses of deleted tokens are listed too. An empty InvitedBy lists nothing.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}).ok()
		k.account("t", "a", "@x", 0)
		k.pinned("t", "p")
		k.delete("t").ok()
		k.create(uia.Token{Value: "t", CreatedBy: "@b"}).ok()
		k.account("t", "b", "@y", 0)
		k.commit("t", "p", 1, "@z", 0).ok()
		k.same("invited by @a", k.invitedBy("@a", 0), []string{"@z by @a", "@x by @a"})
		k.same("invited by @b", k.invitedBy("@b", 0), []string{"@y by @b"})
		k.create(uia.Token{Value: "nobodys"}).ok()
		k.account("nobodys", "n", "@n", 0)
		k.same("invited by nobody", k.invitedBy("", 0), []string(nil))
	},
}, {
	name:  "nobody-invites",
	says:  "A token without a creator invites nobody: its uses count for none of these methods, so that a store can leave them out of its indexes.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}, uia.Token{Value: "nobodys"}).ok()
		k.account("nobodys", "s", "@n", 0)
		_, err := k.Store.(uia.InviteStore).InviteOf(k.ctx, "@n")
		k.outcome(err, "InviteOf(@n)").is(uia.ErrNotFound)
		k.account("t", "s", "@x", 0)
		k.account("nobodys", "z", "@x", hour) // spent later
		k.same("who has invited @x", k.inviteOf("@x").InvitedBy, "@a")
		k.same("invited by @a", k.invitedBy("@a", 0), []string{"@x by @a"})
	},
}, {
	name:  "invited-belong-to-the-last",
	says:  "An account from which there are several spent uses belongs to the one that was spent last: by Changed, then by session, then by token.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}, uia.Token{Value: "u", CreatedBy: "@b"}, uia.Token{Value: "v", CreatedBy: "@c"}).ok()
		k.account("t", "z", "@x", 0)
		k.account("u", "a", "@x", minute) // spent later
		k.account("v", "s", "@x", 0)
		k.account("t", "y", "@y", 0)
		k.account("u", "z", "@y", 0) // of a later session
		k.account("u", "same", "@w", 0)
		k.account("v", "same", "@w", 0) // of a later token
		k.same("invited by @a", k.invitedBy("@a", 0), []string(nil))
		k.same("invited by @b", k.invitedBy("@b", 0), []string{"@x by @b", "@y by @b"})
		k.same("invited by @c", k.invitedBy("@c", 0), []string{"@w by @c"})
		for user, want := range map[string]string{"@x": "@b", "@y": "@b", "@w": "@c"} {
			k.same("who has invited "+user, k.inviteOf(user).InvitedBy, want)
		}
	},
}, {
	name:  "invite-of-an-account",
	says:  "InviteOf returns the use to which the account of this user belongs, and ErrNotFound if there is none.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}).ok()
		k.held("t", "h")
		k.pinned("t", "p")
		for _, user := range []string{"@x", "", "@a", "h"} {
			_, err := k.Store.(uia.InviteStore).InviteOf(k.ctx, user)
			k.outcome(err, "InviteOf(%q)", user).is(uia.ErrNotFound)
		}
		k.account("t", "s", "@x", minute)
		k.same("the use", k.inviteOf("@x"), k.uses("t")[0])
		_, err := k.Store.(uia.InviteStore).InviteOf(k.ctx, "@X")
		k.outcome(err, "InviteOf(@X)").is(uia.ErrNotFound)
	},
}, {
	name:  "uses-bear-the-creator",
	says:  "Every use bears the creator of its token in InvitedBy, from the moment at which it is reserved.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a:x"}, uia.Token{Value: "none"}, uia.Token{Value: "one", CreatedBy: "@b:x", UsesAllowed: new(int64(1))}).ok()
		k.held("t", "h")
		k.pinned("t", "p")
		k.spent("t", "s")
		k.held("none", "h")
		k.reserve("one", "lapsed", 0, 0).ok()
		k.reserve("one", "displaces", hour, minute).ok()
		for token, want := range map[string]string{"t": "@a:x", "none": "", "one": "@b:x"} {
			for _, u := range k.uses(token) {
				k.same("who has created the token of "+row(u), u.InvitedBy, want)
			}
		}
		pinned, err := k.PinnedUses(k.ctx, at(hour), 9)
		k.outcome(err, "PinnedUses").ok()
		k.same("who has created the token of the pinned use", pinned[0].InvitedBy, "@a:x")
	},
}, {
	name:  "uses-keep-the-creator",
	says:  "It does not get lost when the token is deleted.",
	needs: anInviteStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}).ok()
		k.spent("t", "s")
		k.pinned("t", "p")
		k.delete("t").ok()
		k.commit("t", "p", 1, "@p", 0).ok()
		page, err := k.ListUses(k.ctx, uia.UseQuery{Token: "t", Deleted: true})
		k.outcome(err, "ListUses of deleted tokens").ok()
		k.same("how many uses there are", len(page.Uses), 2)
		for _, u := range page.Uses {
			k.same("who had created the token of "+row(u), u.InvitedBy, "@a")
		}
		k.same("who has invited @s", k.inviteOf("@s").InvitedBy, "@a")
	},
}, {
	name:  "grouped-invites",
	says:  "So nothing needs to be written besides the use, and what spends the use records the inviter.",
	needs: anInviteStore | aGrouper,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}).ok()
		for i, state := range []uia.RecordState{uia.Open, uia.Running} {
			for j, pins := range []bool{false, true} {
				for revision := range int64(2) { // the record is created, or saved
					name := fmt.Sprintf("s%d%d%d", i, j, revision)
					r := uia.Record{Key: name, State: state, Run: 2, Expires: at(hour)}
					if revision > 0 {
						r = k.save(r, 0)
					}
					err := k.Store.(uia.Grouper).Group(k.ctx, func(ctx context.Context) error {
						err := k.Reserve(ctx, uia.Hold{Token: "t", Session: name, Until: at(hour)}, epoch)
						if err == nil {
							_, err = k.SaveSession(ctx, r, epoch)
						}
						if err == nil && pins {
							err = k.Pin(ctx, uia.Claim{Token: "t", Session: name, Run: 2}, epoch)
						}
						return err
					})
					k.outcome(err, "Group").ok()
				}
			}
		}
		uses := k.uses("t")
		k.same("how many uses there are", len(uses), 8)
		for _, u := range uses {
			k.same("who has created the token of "+row(u), u.InvitedBy, "@a")
		}
	},
}, {
	name:  "invites-in-a-transaction",
	says:  "either way nothing has been written.",
	needs: anInviteStore | aTxStore,
	test: func(k *kit) {
		k.create(uia.Token{Value: "t", CreatedBy: "@a"}, uia.Token{Value: "u", CreatedBy: "@a"}).ok()
		k.pinned("t", "p")
		one := uia.InviteLimit{Live: 3, Recent: 9}
		work := func(k *kit) {
			k.invite(uia.Token{Value: "new", CreatedBy: "@a", Created: epoch}, one, 0).ok()
			k.invite(uia.Token{Value: "other", CreatedBy: "@a"}, one, 0).is(uia.ErrQuota) // and the transaction goes on
			k.commit("t", "p", 1, "@p", 0).ok()
			k.same("who has invited @p", k.inviteOf("@p").InvitedBy, "@a")
			k.same("invited", k.invitedBy("@a", 0), []string{"@p by @a"})
			k.same("created", k.createdBy("@a", 0), []string{"new", "u", "t"})
			k.same("revoked", len(k.revokeAll("@a", 9, 0)), 3)
		}
		failure := errors.New("the failure of the transaction")
		k.unchanged(func() {
			k.inTx(func(k *kit) error { work(k); return failure }).is(failure)
		})
		k.same("created", k.createdBy("@a", 0), []string{"u", "t"})
		k.same("invited", k.invitedBy("@a", 0), []string(nil))
		k.inTx(func(k *kit) error { work(k); return nil }).ok()
		k.same("created", k.createdBy("@a", 0), []string{"new", "u", "t"})
		k.same("invited", k.invitedBy("@a", 0), []string{"@p by @a"})
		k.same("new is revoked", k.token("new", 0).Revoked, true)
	},
}}

// inviteCalls returns a call of every method of uia.InviteStore by its name.
func inviteCalls(s uia.InviteStore) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"CreateInvite": func(ctx context.Context) error {
			return s.CreateInvite(ctx, uia.Token{Value: "invite", CreatedBy: "@x"}, uia.InviteLimit{Live: 9, Recent: 9}, epoch)
		},
		"ListCreated": func(ctx context.Context) error {
			_, err := s.ListCreated(ctx, uia.CreatedQuery{CreatedBy: "@x"}, epoch)
			return err
		},
		"RevokeCreated": func(ctx context.Context) error {
			_, err := s.RevokeCreated(ctx, "@x", 9, epoch)
			return err
		},
		"ListInvited": func(ctx context.Context) error {
			_, err := s.ListInvited(ctx, uia.InvitedQuery{InvitedBy: "@x"})
			return err
		},
		"InviteOf": func(ctx context.Context) error { _, err := s.InviteOf(ctx, "@x"); return err },
	}
}

func (k *kit) invite(t uia.Token, limit uia.InviteLimit, now time.Duration) outcome {
	err := k.Store.(uia.InviteStore).CreateInvite(k.ctx, t, limit, at(now))
	return k.outcome(err, "CreateInvite(%s of %s, %+v) at %v", t.Value, t.CreatedBy, limit, now)
}

func (k *kit) revokeAll(by string, limit int, now time.Duration) []string {
	k.Helper()
	values, err := k.Store.(uia.InviteStore).RevokeCreated(k.ctx, by, limit, at(now))
	k.outcome(err, "RevokeCreated(%s, %d) at %v", by, limit, now).ok()
	return values
}

func (k *kit) inviteOf(user string) uia.Use {
	k.Helper()
	u, err := k.Store.(uia.InviteStore).InviteOf(k.ctx, user)
	k.outcome(err, "InviteOf(%s)", user).ok()
	return u
}

// account spends a use for the user: reserved and spent at the same time.
func (k *kit) account(token, session, user string, now time.Duration) {
	k.Helper()
	k.reserve(token, session, now+minute, now).ok()
	k.pin(token, session, 1, now).ok()
	k.commit(token, session, 1, user, now).ok()
}

// createdBy returns the values of all tokens of a creator, page by page.
func (k *kit) createdBy(by string, limit int) (values []string) {
	k.Helper()
	q := uia.CreatedQuery{CreatedBy: by, Limit: limit}
	for range 1000 {
		p, err := k.Store.(uia.InviteStore).ListCreated(k.ctx, q, epoch)
		k.outcome(err, "ListCreated(%+v)", q).ok()
		k.bounded(len(p.Tokens), limit)
		for _, t := range p.Tokens {
			values = append(values, t.Value)
		}
		if q.After = p.Next; p.Next == nil {
			return values
		}
	}
	k.Fatalf("ListCreated(%s): there is no end of pages", by)
	return nil
}

// invitedBy returns all accounts that somebody has invited, page by page.
func (k *kit) invitedBy(by string, limit int) (accounts []string) {
	k.Helper()
	q := uia.InvitedQuery{InvitedBy: by, Limit: limit}
	for range 1000 {
		p, err := k.Store.(uia.InviteStore).ListInvited(k.ctx, q)
		k.outcome(err, "ListInvited(%+v)", q).ok()
		k.bounded(len(p.Invited), limit)
		for _, a := range p.Invited {
			text := a.UserID + " by " + a.InvitedBy
			if a.Invites {
				text += ", who invites"
			}
			accounts = append(accounts, text)
		}
		if q.After = p.Next; p.Next == nil {
			return accounts
		}
	}
	k.Fatalf("ListInvited(%s): there is no end of pages", by)
	return nil
}

// bounded asserts that a page has no more entries than asked for.
func (k *kit) bounded(entries, limit int) {
	k.Helper()
	if limit == 0 {
		limit = math.MaxInt
	}
	if entries > limit {
		k.Fatalf("a page with limit %d has %d entries", limit, entries)
	}
}
