package storetest

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
)

// listCases are about ListTokens.
var listCases = []promise{{
	name: "list-by-value",
	says: "Within equal keys tokens are ordered by value, byte for byte.",
	test: func(k *kit) {
		// No collation of a natural language sorts like this.
		want := []string{"-", ".", "0", "10", "9", "A", "B", "Z", "_", "a", "a-", "aB", "aa", "b", "z", "~"}
		for _, v := range []string{"b", "A", "~", "9", "aa", "_", "a", "-", "Z", "10", "B", "z", ".", "aB", "0", "a-"} {
			k.create(uia.Token{Value: v, Created: epoch}).ok()
		}
		for _, order := range []uia.TokenOrder{uia.ByValue, uia.ByCreated, uia.ByExpires, uia.ByUsesAllowed} {
			k.walk(uia.TokenQuery{Order: order}, want)
		}
	},
}, {
	name: "list-by-created",
	says: "by Token.Created",
	test: func(k *kit) {
		k.createListed()
		k.walk(uia.TokenQuery{Order: uia.ByCreated}, []string{"zero", "B", "b", "a", "c", "A"})
	},
}, {
	name: "list-by-expires",
	says: "A token that never expires, or that has any number of uses, comes after all others in ascending order.",
	test: func(k *kit) {
		k.createListed()
		k.walk(uia.TokenQuery{Order: uia.ByExpires}, []string{"a", "c", "A", "b", "B", "zero"})
	},
}, {
	name: "list-by-uses-allowed",
	says: "A token that never expires, or that has any number of uses, comes after all others in ascending order.",
	test: func(k *kit) {
		k.createListed()
		k.walk(uia.TokenQuery{Order: uia.ByUsesAllowed}, []string{"zero", "a", "A", "B", "b", "c"})
	},
}, {
	name: "list-from-a-cursor",
	says: "The key is the order's: milliseconds since 1970 for ByCreated and ByExpires, the number for ByUsesAllowed, math.MaxInt64 for \"never\" and \"any number\", and zero for ByValue. The token need not exist.",
	test: func(k *kit) {
		k.createListed()
		ms := epoch.UnixMilli()
		for _, c := range []struct {
			order    uia.TokenOrder
			after    uia.TokenCursor
			up, down string // the first value behind the cursor
		}{
			{order: uia.ByValue, after: uia.TokenCursor{Value: "Bx"}, up: "a", down: "B"},
			{order: uia.ByCreated, after: uia.TokenCursor{Key: ms, Value: "a"}, up: "b", down: "B"},
			{order: uia.ByCreated, after: uia.TokenCursor{Key: ms + 1, Value: "a"}, up: "c", down: "b"},
			{order: uia.ByCreated, after: uia.TokenCursor{Key: ms + 1, Value: "0"}, up: "a", down: "b"},
			{order: uia.ByExpires, after: uia.TokenCursor{Key: math.MaxInt64, Value: "C"}, up: "zero", down: "B"},
			{order: uia.ByExpires, after: uia.TokenCursor{Key: math.MaxInt64 - 1, Value: "C"}, up: "B", down: "b"},
			{order: uia.ByUsesAllowed, after: uia.TokenCursor{Key: 5, Value: "AA"}, up: "B", down: "A"},
			{order: uia.ByUsesAllowed, after: uia.TokenCursor{Key: 1, Value: "x"}, up: "A", down: "a"},
		} {
			for descending, want := range map[bool]string{false: c.up, true: c.down} {
				q := uia.TokenQuery{Order: c.order, After: &c.after, Limit: 1, Descending: descending}
				page, err := k.ListTokens(k.ctx, q, epoch)
				k.outcome(err, "ListTokens").ok()
				if len(page.Tokens) != 1 || page.Tokens[0].Value != want {
					k.Fatalf("order %d, descending %v, after %+v: got %v, want %s", c.order, descending, c.after, page.Tokens, want)
				}
				if page.Next != nil && page.Next.Value != want {
					k.Fatalf("order %d, descending %v, after %+v: got next %+v, want the place behind %s", c.order, descending, c.after, *page.Next, want)
				}
			}
		}
	},
}, {
	name: "list-while-others-change",
	says: "Tokens that are neither created nor deleted meanwhile, and whose key in the order does not change, appear exactly once over all pages.",
	test: func(k *kit) {
		for i := range 20 {
			k.create(uia.Token{Value: fmt.Sprintf("t%02d", i)}).ok()
		}
		var got []string
		q := uia.TokenQuery{Limit: 3}
		for i := range 20 {
			page, err := k.ListTokens(k.ctx, q, epoch)
			k.outcome(err, "ListTokens").ok()
			for _, t := range page.Tokens {
				got = append(got, t.Value)
			}
			if page.Next == nil {
				break
			}
			q.After = page.Next
			// What lies behind the cursor moves; the token at the cursor goes.
			k.delete(q.After.Value).ok()
			k.create(uia.Token{Value: fmt.Sprintf("a%02d", i)}).ok()
		}
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("t%02d", i))
		}
		k.same("tokens", got, want)
	},
}, {
	name: "list-limits",
	says: "Limit is how many tokens the page has at most: zero means 100, and more than 1000 means 1000. A negative one is ErrInvalid.",
	test: func(k *kit) {
		var tokens []uia.Token
		for i := range 1001 {
			tokens = append(tokens, uia.Token{Value: fmt.Sprintf("t%04d", i)})
		}
		k.create(tokens...).ok()
		for limit, want := range map[int]int{0: 100, 1: 1, 999: 999, 1000: 1000, 1001: 1000, math.MaxInt: 1000} {
			page, err := k.ListTokens(k.ctx, uia.TokenQuery{Limit: limit}, epoch)
			k.outcome(err, "ListTokens").ok()
			k.same(fmt.Sprintf("length of a page with limit %d", limit), len(page.Tokens), want)
			k.same("the first token", page.Tokens[0].Value, "t0000")
			k.same("there is a next page", page.Next != nil, true)
			k.same("the total that nobody asked for", page.Total, 0)
		}
		_, err := k.ListTokens(k.ctx, uia.TokenQuery{Limit: -1}, epoch)
		k.outcome(err, "ListTokens with limit -1").is(uia.ErrInvalid)
	},
}, {
	name: "list-by-label",
	says: "LabelPrefix keeps the tokens whose label begins with it, byte for byte.",
	test: func(k *kit) {
		labels := []string{"", "a", "ab", "aB", "AB", "a%b", "a_b", "axb", `a\b`, "ä", "äb", "ba"}
		for i, l := range labels {
			k.create(uia.Token{Value: fmt.Sprintf("t%02d", i), Label: l}).ok()
		}
		for prefix, want := range map[string][]int{
			"": {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, "a": {1, 2, 3, 5, 6, 7, 8}, "ab": {2}, "A": {4}, "a%": {5}, "a_": {6}, `a\`: {8},
			"ä": {9, 10}, "x": {}, "%": {}, "_": {}, "abc": {},
		} {
			var values []string
			for _, i := range want {
				values = append(values, fmt.Sprintf("t%02d", i))
			}
			for _, limit := range []int{0, 1, 3} {
				k.same("tokens labelled "+prefix, k.list(uia.TokenQuery{LabelPrefix: prefix, Limit: limit}, 0), values)
			}
		}
	},
}, {
	name: "list-total",
	says: "Total asks for the number of tokens that Valid and LabelPrefix keep, on all pages together.",
	test: func(k *kit) {
		for i := range 12 {
			k.create(uia.Token{Value: fmt.Sprintf("t%02d", i), Label: []string{"x", "y"}[i%2], Revoked: i%3 == 0}).ok()
		}
		k.reserve("t01", "s", hour, 0).ok()
		k.limit("t01", 1)
		for _, c := range []struct {
			q    uia.TokenQuery
			want int
		}{
			{uia.TokenQuery{}, 12},
			{uia.TokenQuery{LabelPrefix: "x"}, 6},
			{uia.TokenQuery{Valid: new(true)}, 7},
			{uia.TokenQuery{Valid: new(false)}, 5},
			{uia.TokenQuery{Valid: new(false), LabelPrefix: "y"}, 3},
			{uia.TokenQuery{LabelPrefix: "z"}, 0},
		} {
			c.q.Total, c.q.Limit = true, 1
			for range 3 { // on every page it is the same
				page, err := k.ListTokens(k.ctx, c.q, epoch)
				k.outcome(err, "ListTokens").ok()
				k.same(fmt.Sprintf("total of %+v", c.q), page.Total, c.want)
				if c.q.After = page.Next; page.Next == nil {
					break
				}
			}
		}
	},
}, {
	name: "list-filtered-pages",
	says: "A page that Valid or LabelPrefix filters may have fewer tokens than the limit, even none, and still have a Next,",
	test: func(k *kit) {
		var usable, all []string
		var tokens []uia.Token
		for i := range 60 {
			t := uia.Token{Value: fmt.Sprintf("t%02d", i), Created: at(time.Duration(i%7) * minute), Revoked: i < 25 || i%9 != 0}
			if all = append(all, t.Value); !t.Revoked {
				usable = append(usable, t.Value)
			}
			tokens = append(tokens, t)
		}
		k.create(tokens...).ok()
		for _, order := range []uia.TokenOrder{uia.ByValue, uia.ByCreated} {
			for _, limit := range []int{1, 2, 7} {
				got := k.list(uia.TokenQuery{Valid: new(true), Order: order, Limit: limit}, 0)
				slices.Sort(got)
				k.same("usable tokens", got, usable)
				got = k.list(uia.TokenQuery{Order: order, Limit: limit}, 0)
				slices.Sort(got)
				k.same("all tokens", got, all)
			}
		}
	},
}}

// createListed creates tokens that every order puts in another sequence.
func (k *kit) createListed() {
	k.Helper()
	k.create(
		uia.Token{Value: "a", Created: at(milli), Expires: at(-day), UsesAllowed: new(int64(1))},
		uia.Token{Value: "b", Created: epoch, Expires: at(hour)},
		uia.Token{Value: "c", Created: at(milli), Expires: at(0)},
		uia.Token{Value: "A", Created: at(minute), Expires: at(0).Add(milli), UsesAllowed: new(int64(5))},
		uia.Token{Value: "B", Created: epoch, UsesAllowed: new(int64(5))},
		uia.Token{Value: "zero", UsesAllowed: new(int64(0))},
	).ok()
}

// walk asserts that q yields want on pages of every size, and backwards if it is
// descending.
func (k *kit) walk(q uia.TokenQuery, want []string) {
	k.Helper()
	for _, descending := range []bool{false, true} {
		if q.Descending = descending; descending {
			want = slices.Clone(want)
			slices.Reverse(want)
		}
		for _, limit := range []int{1, 2, 3, 5, len(want), 0} {
			q.Limit, q.After = limit, nil
			k.same(fmt.Sprintf("order %d, descending %v, in pages of %d", q.Order, descending, limit), k.list(q, 0), want)
			page, err := k.ListTokens(k.ctx, q, epoch)
			k.outcome(err, "ListTokens").ok()
			if limit > 0 && len(page.Tokens) != limit {
				k.Fatalf("a page that is not filtered has %d tokens of %d, want %d", len(page.Tokens), len(want), limit)
			}
		}
	}
}
