package storetest

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// Cases count time from the epoch of the kit. It lies in the past, so that a
// store which reads a clock stands out.
var epoch = time.UnixMilli(1_700_000_000_000).UTC()

const (
	milli  = time.Millisecond
	minute = time.Minute
	hour   = time.Hour
	day    = 24 * time.Hour
)

func at(d time.Duration) time.Time { return epoch.Add(d) }

// outcome is the result of a call of which only the error matters.
type outcome struct {
	k    *kit
	call string
	err  error
}

func (k *kit) outcome(err error, call string, args ...any) outcome {
	return outcome{k, fmt.Sprintf(call, args...), err}
}

// ok ends the test unless the call succeeded.
func (o outcome) ok() {
	o.k.Helper()
	o.is(nil)
}

// is ends the test unless the call returned this error.
func (o outcome) is(want error) {
	o.k.Helper()
	if !errors.Is(o.err, want) {
		o.k.Fatalf("%s: got error %v, want %v", o.call, o.err, want)
	}
}

// isOneOf is for what the contract leaves open.
func (o outcome) isOneOf(want ...error) {
	o.k.Helper()
	if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(o.err, w) }) {
		o.k.Fatalf("%s: got error %v, want one of %v", o.call, o.err, want)
	}
}

func (k *kit) create(tokens ...uia.Token) outcome {
	return k.outcome(k.CreateTokens(k.ctx, tokens...), "CreateTokens(%d tokens)", len(tokens))
}

// limited creates a token with this many uses.
func (k *kit) limited(value string, uses int64) {
	k.Helper()
	k.create(uia.Token{Value: value, UsesAllowed: &uses, Created: epoch}).ok()
}

func (k *kit) reserve(token, session string, until, now time.Duration) outcome {
	err := k.Reserve(k.ctx, uia.Hold{Token: token, Session: session, Until: at(until)}, at(now))
	return k.outcome(err, "Reserve(%s for %s until %v) at %v", token, session, until, now)
}

func (k *kit) pin(token, session string, run int64, now time.Duration) outcome {
	err := k.Pin(k.ctx, uia.Claim{Token: token, Session: session, Run: run}, at(now))
	return k.outcome(err, "Pin(%s/%s #%d) at %v", token, session, run, now)
}

func (k *kit) unpin(token, session string, run int64, until, now time.Duration) outcome {
	err := k.Unpin(k.ctx, uia.Claim{Token: token, Session: session, Run: run}, at(until), at(now))
	return k.outcome(err, "Unpin(%s/%s #%d until %v) at %v", token, session, run, until, now)
}

func (k *kit) commit(token, session string, run int64, user string, now time.Duration) outcome {
	err := k.Commit(k.ctx, uia.Claim{Token: token, Session: session, Run: run}, user, at(now))
	return k.outcome(err, "Commit(%s/%s #%d to %q) at %v", token, session, run, user, now)
}

func (k *kit) release(token, session string, run int64) outcome {
	err := k.Release(k.ctx, uia.Claim{Token: token, Session: session, Run: run})
	return k.outcome(err, "Release(%s/%s #%d)", token, session, run)
}

func (k *kit) delete(token string) outcome {
	return k.outcome(k.DeleteToken(k.ctx, token), "DeleteToken(%s)", token)
}

func (k *kit) update(token string, p uia.TokenPatch) outcome {
	_, err := k.UpdateToken(k.ctx, token, p, epoch)
	return k.outcome(err, "UpdateToken(%s, %+v)", token, p)
}

func (k *kit) revoke(token string, revoked bool) {
	k.Helper()
	k.update(token, uia.TokenPatch{Revoked: &revoked}).ok()
}

func (k *kit) limit(token string, uses int64) {
	k.Helper()
	k.update(token, uia.TokenPatch{UsesAllowed: new(&uses)}).ok()
}

// held, pinned and spent bring a session's use of a token into this state: held
// until ten minutes, the others by run 1.
func (k *kit) held(token string, sessions ...string) {
	k.Helper()
	for _, s := range sessions {
		k.reserve(token, s, 10*minute, 0).ok()
	}
}

func (k *kit) pinned(token string, sessions ...string) {
	k.Helper()
	k.held(token, sessions...)
	for _, s := range sessions {
		k.pin(token, s, 1, 0).ok()
	}
}

func (k *kit) spent(token string, sessions ...string) {
	k.Helper()
	k.pinned(token, sessions...)
	for _, s := range sessions {
		k.commit(token, s, 1, "@"+s, 0).ok()
	}
}

func (k *kit) token(value string, now time.Duration) uia.Token {
	k.Helper()
	t, err := k.Token(k.ctx, value, at(now))
	k.outcome(err, "Token(%s) at %v", value, now).ok()
	return t
}

// counts asserts a token's counters.
func (k *kit) counts(value string, now time.Duration, pending, completed int64) {
	k.Helper()
	if t := k.token(value, now); t.Pending != pending || t.Completed != completed {
		k.Fatalf("Token(%s) at %v: got %d pending and %d completed, want %d and %d",
			value, now, t.Pending, t.Completed, pending, completed)
	}
}

// same asserts that two things are shown alike.
func (k *kit) same(what string, got, want any) {
	k.Helper()
	if g, w := show(got), show(want); g != w {
		k.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// uses returns all uses of a token, newest first.
func (k *kit) uses(token string) []uia.Use {
	k.Helper()
	q := uia.UseQuery{Token: token}
	var all []uia.Use
	for range 1000 {
		p, err := k.ListUses(k.ctx, q)
		k.outcome(err, "ListUses(%s)", token).ok()
		all = append(all, p.Uses...)
		if p.Next == nil {
			return all
		}
		q.After = p.Next
	}
	k.Fatalf("ListUses(%s): there is no end of pages", token)
	return nil
}

// rows asserts which uses a token has, in the order of their sessions, in the
// form "a held #0 10m0s", "b pinned #1", "c spent #1 @c".
func (k *kit) rows(token string, want ...string) {
	k.Helper()
	uses := k.uses(token)
	slices.SortFunc(uses, func(a, b uia.Use) int { return cmp.Compare(a.Session, b.Session) })
	var got []string
	for _, u := range uses {
		got = append(got, row(u))
	}
	k.same("uses of "+token, strings.Join(got, ", "), strings.Join(want, ", "))
}

func row(u uia.Use) string {
	switch u.State {
	case uia.Held:
		return fmt.Sprintf("%s held #%d %s", u.Session, u.Run, show(u.Until))
	case uia.Pinned:
		return fmt.Sprintf("%s pinned #%d", u.Session, u.Run)
	case uia.Spent:
		return fmt.Sprintf("%s spent #%d %s", u.Session, u.Run, u.UserID)
	}
	return fmt.Sprintf("%s in state %d", u.Session, u.State)
}

// list returns the values of all tokens that q asks for, page by page.
func (k *kit) list(q uia.TokenQuery, now time.Duration) []string {
	k.Helper()
	var values []string
	for range 1000 {
		p, err := k.ListTokens(k.ctx, q, at(now))
		k.outcome(err, "ListTokens(%+v) at %v", q, now).ok()
		for _, t := range p.Tokens {
			values = append(values, t.Value)
		}
		if p.Next == nil {
			return values
		}
		q.After = p.Next
	}
	k.Fatalf("ListTokens(%+v): there is no end of pages", q)
	return nil
}

// unchanged asserts that f changes nothing that can be seen of tokens and uses.
func (k *kit) unchanged(f func()) {
	k.Helper()
	before := k.snapshot()
	f()
	k.same("the store after a call that must not change it", k.snapshot(), before)
}

func (k *kit) snapshot() string {
	k.Helper()
	var b strings.Builder
	for _, v := range k.list(uia.TokenQuery{}, 0) {
		fmt.Fprintln(&b, show(k.token(v, 0)))
		for _, u := range k.uses(v) {
			fmt.Fprintln(&b, " ", show(u))
		}
	}
	uses, err := k.PinnedUses(k.ctx, at(100*365*day), 1000)
	k.outcome(err, "PinnedUses").ok()
	// Which of two that were pinned at once comes first is left open.
	slices.SortFunc(uses, func(a, b uia.Use) int {
		return cmp.Or(cmp.Compare(a.Token, b.Token), cmp.Compare(a.Session, b.Session))
	})
	for _, u := range uses {
		fmt.Fprintln(&b, "pinned", show(u))
	}
	return b.String()
}

// show returns v in a form that is the same for all that the contract deems equal.
func show(v any) string {
	switch v := v.(type) {
	case time.Time:
		return showTime(v)
	case *int64:
		if v == nil {
			return "any"
		}
		return fmt.Sprint(*v)
	case json.RawMessage:
		var object any
		if v == nil || json.Unmarshal(v, &object) != nil {
			return fmt.Sprintf("%q", []byte(v))
		}
		b, _ := json.Marshal(object) // in one spelling
		return string(b)
	case uia.Token:
		return fmt.Sprintf("%q allows %s expires %s revoked %v label %q meta %s created %s by %q pending %d completed %d last used %s",
			v.Value, show(v.UsesAllowed), show(v.Expires), v.Revoked, v.Label, show(v.Meta), show(v.Created), v.CreatedBy,
			v.Pending, v.Completed, show(v.LastUsed))
	case uia.Use:
		return fmt.Sprintf("%s/%s until %s user %q made %s changed %s invited by %q", v.Token, row(v), show(v.Until), v.UserID, show(v.Made), show(v.Changed), v.InvitedBy)
	case uia.Record:
		return fmt.Sprintf("%q revision %d state %d run %d owner %q lease ends %s expires %s data %s",
			v.Key, v.Revision, v.State, v.Run, v.Owner, show(v.LeaseEnd), show(v.Expires), showData(v.Data))
	}
	return fmt.Sprint(v)
}

func showTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if _, offset := t.Zone(); offset != 0 || t.Location() != time.UTC {
		return t.Format(time.RFC3339Nano) + " (not in UTC)"
	}
	if d := t.Sub(epoch); d > math.MinInt64 && d < math.MaxInt64 {
		return d.String()
	}
	return t.Format(time.RFC3339Nano)
}

func showData(data []byte) string {
	if len(data) <= 300 {
		return fmt.Sprintf("%q", data)
	}
	return fmt.Sprintf("%q and more, %d bytes of SHA-256 %x", data[:300], len(data), sha256.Sum256(data))
}
