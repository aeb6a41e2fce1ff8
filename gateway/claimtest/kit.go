package claimtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia/gateway"
)

// epoch is from where cases count time. It lies in the past, so that a store which
// reads a clock stands out.
var epoch = time.UnixMilli(1_700_000_000_000).UTC()

func at(d time.Duration) time.Time { return epoch.Add(d) }

const second = time.Second

// outcome is the result of a call.
type outcome struct {
	k     *kit
	call  string
	claim gateway.Claim
	err   error
}

func (k *kit) outcome(c gateway.Claim, err error, call string, args ...any) outcome {
	return outcome{k, fmt.Sprintf(call, args...), c, err}
}

// is ends the test unless the call returned this error.
func (o outcome) is(want error) {
	o.k.Helper()
	if !errors.Is(o.err, want) {
		o.k.Fatalf("%s: got error %v, want %v", o.call, o.err, want)
	}
}

// shows ends the test unless the call returned this claim; see show.
func (o outcome) shows(want string) gateway.Claim {
	o.k.Helper()
	o.is(nil)
	if got := show(o.claim); got != want {
		o.k.Fatalf("%s: got %s, want %s", o.call, got, want)
	}
	return o.claim
}

func (k *kit) reserve(key, name string, run int64, now time.Duration) outcome {
	c, err := k.Reserve(k.ctx, gateway.Claim{Key: key, Localpart: name, Run: run}, at(now))
	return k.outcome(c, err, "Reserve(%s, %s, run %d)", key, name, run)
}

func (k *kit) save(key string, run int64, s gateway.State, sealed string, now time.Duration) outcome {
	c, err := k.Save(k.ctx, gateway.Claim{Key: key, Run: run, State: s, Sealed: bytesOf(sealed)}, at(now))
	return k.outcome(c, err, "Save(%s, run %d, %s)", key, run, states[s])
}

func (k *kit) bury(key string, now time.Duration) outcome {
	c, err := k.Bury(k.ctx, key, at(now))
	return k.outcome(c, err, "Bury(%s)", key)
}

// brought brings a claim on a name into a state at the epoch, by run 4, with "x"
// sealed where there is something to seal.
func (k *kit) brought(key, name string, s gateway.State) {
	k.Helper()
	k.reserve(key, name, 4, 0).is(nil)
	switch s {
	case gateway.Reserved:
	case gateway.Sent:
		k.save(key, 4, s, "x", 0).is(nil)
	case gateway.Buried:
		k.save(key, 4, gateway.Sent, "x", 0).is(nil)
		k.save(key, 4, s, "x", 0).is(nil)
	default:
		k.save(key, 4, s, "", 0).is(nil)
	}
}

// all asserts which claims there are, in the order of their keys; see show.
func (k *kit) all(want ...string) {
	k.Helper()
	if got := k.dump(); !slices.Equal(got, want) {
		k.Fatalf("the claims are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// unchanged asserts that f changes nothing.
func (k *kit) unchanged(f func()) {
	k.Helper()
	before := k.dump()
	f()
	k.all(before...)
}

func (k *kit) dump() (out []string) {
	k.Helper()
	for s := gateway.Free; s <= gateway.Buried; s++ {
		list, err := k.List(k.ctx, gateway.ClaimQuery{State: s, Limit: 1000})
		if err != nil {
			k.Fatalf("List(%s): %v", states[s], err)
		}
		for _, c := range list {
			out = append(out, show(c))
		}
	}
	slices.Sort(out)
	return out
}

var states = []string{"none", "free", "reserved", "sent", "made", "buried"}

// show returns a claim in the form "a alice run 4 sent x 1s"; nothing sealed is "-".
func show(c gateway.Claim) string {
	name, state, sealed := c.Localpart, "a state that there is not", string(c.Sealed)
	if name == "" {
		name = "-"
	}
	if c.State > 0 && int(c.State) < len(states) {
		state = states[c.State]
	}
	if c.Sealed == nil {
		sealed = "-"
	}
	when := c.Changed.Sub(epoch).String()
	if c.Changed.Location() != time.UTC {
		when += " (not in UTC)"
	}
	return fmt.Sprintf("%s %s run %d %s %s %s", c.Key, name, c.Run, state, sealed, when)
}

func bytesOf(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
