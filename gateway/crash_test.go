package gateway_test

import (
	"fmt"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
)

// crash is one case of the matrix.
type crash struct {
	way
	fault
	at        int
	back      bool // the client comes back
	restarted bool // the upstream is restarted meanwhile
}

func (c crash) String() string {
	s := fmt.Sprintf("%v, %s at %d", c.way, faultNames[c.fault], c.at)
	if c.back {
		s += ", client back"
	}
	if c.restarted {
		s += ", upstream restarted"
	}
	return s
}

// run runs a case, and reports whether there was an operation for the fault.
func (c crash) run(t *testing.T) (hit bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c.way)
		w.token("once", 1)
		p := w.start(c.fault, c.at)
		last := p.upToTheLast(params("alice", "wonderland"), "once")
		p.line.start()
		got := p.post(last)
		if hit = p.hadFault() != ""; !hit {
			require.Equal(t, 200, got.Status, got.Body)
			return
		}
		if c.restarted {
			w.fake.restart()
		}
		next := w.start(noFault, 0)
		forward := !c.back && w.canRollForward()
		if c.back && got.Status != 200 {
			got = next.comeBack(last)
			assert.Equal(t, 200, got.Status, "the client comes back: %s", got.Body)
		}
		next.settle()
		w.check(t, got)
		if forward {
			assert.Equal(t, []string{"alice"}, w.fake.names(), "the upstream's session was not finished")
		}
		if t.Failed() {
			t.Logf("%v: the operation is %s; the client got %d %s; accounts %v; requests %q", c, p.hadFault(), got.Status, got.Body, w.fake.names(), w.fake.log())
		}
	})
	return hit
}

// canRollForward reports whether the upstream has a session that lacks its last
// request alone.
func (w *world) canRollForward() bool {
	sent, _ := w.claims.List(w.t.Context(), gateway.ClaimQuery{State: gateway.Sent, Limit: 1})
	w.fake.mu.Lock()
	defer w.fake.mu.Unlock()
	return len(sent) > 0 && w.way.private && len(w.fake.sessions) > 0
}

// check checks what is promised when all is quiet.
func (w *world) check(t *testing.T, got answer) {
	token, err := w.store.Token(t.Context(), "once", time.Now())
	require.NoError(t, err)
	names := w.fake.names()
	assert.EqualValues(t, len(names), token.Completed, "accounts are spent uses")
	assert.Zero(t, token.Pending, "nothing is in doubt")
	if got.Status == 200 {
		assert.Equal(t, []string{"alice"}, names)
		assert.Equal(t, "@alice:"+fakeServer, got.JSON["user_id"])
		assert.Equal(t, "PHONE", got.JSON["device_id"])
		assert.NotEmpty(t, got.JSON["access_token"])
	}
	if len(names) > 0 {
		assert.True(t, w.fake.canLogIn("alice", "wonderland"), "the user logs in with the password that was chosen")
	}
	// The name is somebody else's, or the account is there.
	w.token("other", 1)
	p := w.start(noFault, 0)
	first := p.post(params("alice", "looking glass"))
	if len(names) > 0 {
		assert.Equal(t, "M_USER_IN_USE", first.errcode(), first.Body)
		return
	}
	got = p.post(p.upToTheLast(params("alice", "looking glass"), "other"))
	assert.Equal(t, 200, got.Status, "the name stays blocked: %s", got.Body)
}

// TestCrashes has every fault at every operation of the request that makes an
// account.
func TestCrashes(t *testing.T) {
	for _, way := range ways() {
		for f := killBefore; f <= veryLate; f++ {
			t.Run(fmt.Sprint(way, " ", faultNames[f]), func(t *testing.T) {
				at := 1
				for crashesAt(t, way, f, at) {
					at++
				}
				t.Log(4*at, "cases")
			})
		}
	}
}

// crashesAt has the fault at one operation, with the client back and gone, and the
// upstream restarted and not. It reports whether there was such an operation.
func crashesAt(t *testing.T, w way, f fault, at int) (hit bool) {
	for _, c := range []crash{
		{w, f, at, true, false}, {w, f, at, false, false}, {w, f, at, true, true}, {w, f, at, false, true},
	} {
		hit = c.run(t)
		if t.Failed() {
			t.FailNow()
		}
	}
	return hit
}

// TestTwoCrashes has a second fault in the process to which the client comes back, or
// in which everything is settled.
func TestTwoCrashes(t *testing.T) {
	step := 7
	switch {
	case full:
		step = 1
	case raceDetector:
		step = 29
	}
	n := 0
	for _, way := range ways() {
		for first := range pairs() {
			for second := range pairs() {
				// In CI a part of them, another one for each way.
				if n++; n%step != 0 {
					continue
				}
				for _, back := range []bool{true, false} {
					c := crash{way: way, fault: first.fault, at: first.at, back: back}
					c.runTwo(t, second)
					if t.Failed() {
						t.Fatalf("%v, then %s at %d", c, faultNames[second.fault], second.at)
					}
				}
			}
		}
	}
	t.Log(2*n/step, "cases")
}

// moment is a fault at an operation.
type moment struct {
	fault
	at int
}

// pairs yields the faults that differ most, at each operation that there may be.
func pairs() iter.Seq[moment] {
	return func(yield func(moment) bool) {
		for _, f := range []fault{killAfter, failAfter, stallBefore, muchLater} {
			for at := 1; at <= 12; at++ {
				if !yield(moment{f, at}) {
					return
				}
			}
		}
	}
}

func (c crash) runTwo(t *testing.T, second moment) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c.way)
		w.token("once", 1)
		p := w.start(c.fault, c.at)
		last := p.upToTheLast(params("alice", "wonderland"), "once")
		p.line.start()
		got := p.post(last)
		next := w.start(second.fault, second.at)
		next.line.start()
		switch {
		case got.Status == 200:
		case c.back:
			got = next.comeBack(last)
		default:
			recovered := make(chan struct{})
			go func() {
				defer close(recovered)
				next.settle()
			}()
			select {
			case <-recovered:
			case <-time.After(time.Hour): // it is dead
			}
		}
		third := w.start(noFault, 0)
		if c.back && got.Status != 200 {
			got = third.comeBack(last)
			assert.Equal(t, 200, got.Status, "the client comes back twice: %s", got.Body)
		}
		third.settle()
		w.check(t, got)
		if t.Failed() {
			t.Logf("%v, then %s at %d: the operations are %s and %s; the client got %d %s; accounts %v; requests %q",
				c, faultNames[second.fault], second.at, p.hadFault(), next.hadFault(), got.Status, got.Body, w.fake.names(), w.fake.log())
		}
	})
}
