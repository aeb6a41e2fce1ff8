package storetest

import (
	"fmt"
	"math"
	"time"

	"github.com/matrix-uia/uia"
)

// useCases are about ListUses, PinnedUses and SweepHolds.
var useCases = []promise{{
	name: "uses-newest-first",
	says: "ListUses returns a page of the uses of a token, newest first.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t"}, uia.Token{Value: "other"}).ok()
		k.held("other", "a", "z")
		for _, u := range []struct {
			session string
			made    time.Duration
		}{{"b", 0}, {"A", milli}, {"z", -day}, {"a", 0}, {"_", 0}, {"B", 0}, {"c", 2 * milli}} {
			k.reserve("t", u.session, hour, u.made).ok()
		}
		k.reserve("t", "z", 2*hour, minute).ok() // neither renewing nor pinning makes it new
		k.pin("t", "a", 1, minute).ok()
		k.commit("t", "a", 1, "@a", hour).ok()
		want := []string{"c", "A", "b", "a", "_", "B", "z"}
		for _, limit := range []int{1, 2, 3, 6, 7, 8, 0} {
			q := uia.UseQuery{Token: "t", Limit: limit}
			var got []string
			for {
				page, err := k.ListUses(k.ctx, q)
				k.outcome(err, "ListUses").ok()
				if n := min(len(want)-len(got), limit); limit > 0 && len(page.Uses) != n {
					k.Fatalf("a page of uses with limit %d: got %d, want %d", limit, len(page.Uses), n)
				}
				for _, u := range page.Uses {
					got = append(got, u.Session)
				}
				if page.Next == nil {
					break
				}
				q.After = page.Next
			}
			k.same("sessions", got, want)
		}
		page, err := k.ListUses(k.ctx, uia.UseQuery{Token: "t", After: &uia.UseCursor{Made: at(0), Session: "aa"}, Limit: 2})
		k.outcome(err, "ListUses").ok()
		k.same("sessions", []string{page.Uses[0].Session, page.Uses[1].Session}, []string{"a", "_"})
	},
}, {
	name: "uses-limits",
	says: "as in TokenQuery",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t"}).ok()
		for i := range 101 {
			k.held("t", fmt.Sprint("s", i))
		}
		for limit, want := range map[int]int{0: 100, 100: 100, 101: 101, math.MaxInt: 101} {
			page, err := k.ListUses(k.ctx, uia.UseQuery{Token: "t", Limit: limit})
			k.outcome(err, "ListUses").ok()
			k.same("length of the page", len(page.Uses), want)
		}
		_, err := k.ListUses(k.ctx, uia.UseQuery{Token: "t", Limit: -1})
		k.outcome(err, "ListUses with limit -1").is(uia.ErrInvalid)
	},
}, {
	name: "uses-of-a-deleted-token",
	says: "Uses of a deleted token are not listed, also when its value has been created again, unless q.Deleted asks for them",
	test: func(k *kit) {
		k.limited("t", 9)
		k.pinned("t", "p")
		k.spent("t", "s")
		k.delete("t").ok()
		if page, err := k.ListUses(k.ctx, uia.UseQuery{Token: "t"}); len(page.Uses) > 0 {
			k.Fatalf("ListUses of a deleted token: %d uses, error %v", len(page.Uses), err)
		}
		k.limited("t", 9)
		k.rows("t")
		k.held("t", "a")
		k.rows("t", "a held #0 10m0s")
	},
}, {
	name: "uses-of-deleted-tokens",
	says: "then they are those of every deleted token of this value, of which there may be none.",
	test: func(k *kit) {
		deleted := func(token string, limit int) (sessions []string) {
			q := uia.UseQuery{Token: token, Deleted: true, Limit: limit}
			for range 100 {
				page, err := k.ListUses(k.ctx, q)
				k.outcome(err, "ListUses of deleted tokens").ok()
				for _, u := range page.Uses {
					k.same("the token of a use", u.Token, token)
					sessions = append(sessions, fmt.Sprint(u.Session, u.State))
				}
				if page.Next == nil {
					return sessions
				}
				q.After = page.Next
			}
			k.Fatalf("ListUses of deleted tokens: there is no end of pages")
			return nil
		}
		for i := range 3 {
			k.limited("t", 9)
			k.same("uses of deleted tokens", len(deleted("t", 0)), 2*i)
			for _, session := range []string{"h", "p", "s"} {
				k.reserve("t", fmt.Sprint(session, i), hour, time.Duration(i)*minute).ok()
			}
			k.pin("t", fmt.Sprint("p", i), 1, 0).ok()
			k.pin("t", fmt.Sprint("s", i), 1, 0).ok()
			k.commit("t", fmt.Sprint("s", i), 1, "@a", 0).ok()
			k.same("uses of the token that there is", len(k.uses("t")), 3)
			k.delete("t").ok()
		}
		k.limited("other", 1)
		k.spent("other", "a")
		for _, limit := range []int{1, 4, 0} {
			k.same("uses of deleted tokens", deleted("t", limit), []string{"s23", "p22", "s13", "p12", "s03", "p02"})
		}
		k.commit("t", "p1", 1, "@b", 0).ok()
		k.release("t", "p2", 1).ok()
		k.same("uses of deleted tokens", deleted("t", 0), []string{"s23", "s13", "p13", "s03", "p02"})
		k.same("uses of a token that is there", deleted("other", 0), []string(nil))
		k.same("uses of a value that never was", deleted("never", 0), []string(nil))
		k.limited("unused", 1)
		k.held("unused", "a")
		k.delete("unused").ok()
		k.same("uses of a deleted token that had only holds", deleted("unused", 0), []string(nil))
		_, err := k.ListUses(k.ctx, uia.UseQuery{Token: "not a token", Deleted: true})
		k.outcome(err, "ListUses of what is no token").is(uia.ErrNotFound)
	},
}, {
	name: "pinned-uses",
	says: "PinnedUses returns at most limit pinned uses, of deleted tokens too, whose Changed lies before the given time, oldest first.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t"}, uia.Token{Value: "u"}).ok()
		k.held("t", "a", "b", "c", "h")
		k.held("u", "a")
		k.spent("t", "s")
		k.pin("t", "a", 1, 3*minute).ok()
		k.pin("t", "b", 1, 1*minute).ok()
		k.pin("t", "c", 1, 4*minute).ok()
		k.pin("u", "a", 7, 2*minute).ok()
		k.delete("u").ok()
		for _, c := range []struct {
			before time.Duration
			limit  int
			want   []string
		}{
			{hour, 9, []string{"t/b", "u/a", "t/a", "t/c"}},
			{hour, 3, []string{"t/b", "u/a", "t/a"}},
			{hour, 1, []string{"t/b"}},
			{3*minute + milli, 9, []string{"t/b", "u/a", "t/a"}},
			{3 * minute, 9, []string{"t/b", "u/a"}},
			{minute, 9, nil},
		} {
			k.same(fmt.Sprintf("the %d uses pinned first before %v", c.limit, c.before), k.pinnedUses(c.before, c.limit), c.want)
		}
		uses, err := k.PinnedUses(k.ctx, at(hour), 2)
		k.outcome(err, "PinnedUses").ok()
		k.same("the use", uses[1], uia.Use{Token: "u", Session: "a", State: uia.Pinned, Run: 7, Made: at(0), Changed: at(2 * minute)})
	},
}, {
	name: "pin-moves-changed",
	says: "A Pin moves Changed, also when it repeats a run.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t"}).ok()
		k.pinned("t", "a", "b")
		k.pin("t", "a", 1, minute).ok()
		k.same("uses pinned before 1m", k.pinnedUses(minute, 9), []string{"t/b"})
		k.pin("t", "b", 2, 2*minute).ok()
		k.same("uses pinned before 2m", k.pinnedUses(2*minute, 9), []string{"t/a"})
		k.commit("t", "a", 1, "@a", 0).ok()
		k.unpin("t", "b", 2, hour, 0).ok()
		k.same("uses that are still pinned", k.pinnedUses(hour, 9), []string(nil))
	},
}, {
	name: "pinned-uses-limit",
	says: "A limit below 1 is ErrInvalid.",
	test: func(k *kit) {
		for _, limit := range []int{0, -1} {
			_, err := k.PinnedUses(k.ctx, epoch, limit)
			k.outcome(err, "PinnedUses with limit %d", limit).is(uia.ErrInvalid)
		}
	},
}, {
	name: "swept-holds",
	says: "SweepHolds deletes at most limit held uses whose Until lies before the given time and returns how many.",
	test: func(k *kit) {
		k.create(uia.Token{Value: "t"}, uia.Token{Value: "u"}).ok()
		for i, session := range []string{"a", "b", "c", "d"} {
			k.reserve("t", session, time.Duration(i+1)*minute, 0).ok()
		}
		k.reserve("u", "a", minute, 0).ok()
		k.pinned("t", "p")
		k.spent("t", "s")
		sweep := func(before time.Duration, limit, want int) {
			n, err := k.SweepHolds(k.ctx, at(before), limit)
			k.outcome(err, "SweepHolds").ok()
			k.same(fmt.Sprintf("holds swept before %v, %d at most", before, limit), n, want)
		}
		sweep(minute, 9, 0)
		sweep(4*minute, 2, 2)
		sweep(4*minute, 2, 2)
		sweep(4*minute, 2, 0)
		k.rows("t", "d held #0 4m0s", "p pinned #1", "s spent #1 @s")
		k.rows("u")
		k.pin("u", "a", 1, 0).is(uia.ErrNotHeld)
		sweep(1000*day, 9, 1)
		k.rows("t", "p pinned #1", "s spent #1 @s")
		k.counts("t", 0, 1, 1)
	},
}, {
	name: "right-without-a-sweeper",
	says: "Calling it is never needed for a token to be right; it gives back space.",
	test: func(k *kit) {
		k.limited("t", 3)
		now := time.Duration(0)
		for i := range 200 { // each abandons its registration
			k.reserve("t", fmt.Sprint("s", i), now+minute, now).ok()
			if now += 30 * time.Second; len(k.uses("t")) > 3 {
				k.Fatalf("the token has %d uses of 3", len(k.uses("t")))
			}
		}
		k.counts("t", now+hour, 0, 0)
		now += hour
		for _, s := range []string{"a", "b", "c"} {
			k.reserve("t", s, now+hour, now).ok()
		}
		k.reserve("t", "d", now+hour, now).is(uia.ErrExhausted)
		k.counts("t", now, 3, 0)
	},
}}

func (k *kit) pinnedUses(before time.Duration, limit int) (names []string) {
	k.Helper()
	uses, err := k.PinnedUses(k.ctx, at(before), limit)
	k.outcome(err, "PinnedUses").ok()
	for _, u := range uses {
		names = append(names, u.Token+"/"+u.Session)
	}
	return names
}
