package uia_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// Somebody closes the tab between token and last leg, and begins again.
func TestSamePersonAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		old, left := h.ready(flowTD, "alice", "abc")
		h.post(with(dict{"username": "alice"}, submitToken(h.open(dict{}), "abc"))).is(t, 401, "M_UNAUTHORIZED")
		wait(t, 30*time.Second)
		again, final := h.ready(flowTD, "alice", "abc")
		// The old tab is told what it has lost, in its own session.
		a := h.post(left)
		a.is(t, 401, "M_UNAUTHORIZED")
		assert.Contains(t, a.JSON["error"], "Try again in a minute")
		assert.Empty(t, a.completed())
		assert.Equal(t, old, a.session())
		h.post(final).is(t, 200, "")
		assert.NotEqual(t, old, again)
		h.oneAccount("abc")
	})
}

// A displaced session takes the use back as soon as it can be had, at its last leg
// and without repeating the token's.
func TestDisplacedTakesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		_, final := h.ready(flowTD, "alice", "abc")
		wait(t, uia.DefaultHoldTTL)
		h.ready(flowTD, "bob", "abc") // takes it, and leaves
		wait(t, uia.DefaultHoldTTL)
		h.post(final).is(t, 200, "")
		h.oneAccount("abc")
	})
}

// A session whose operation was refused has no stage left to repeat: its last leg alone
// takes the use back.
func TestDisplacedAfterARefusalTakesItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		_, final := h.ready(flowTD, "alice", "abc")
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, uia.NewError(400, spec.UserInUse("taken"))
		}
		h.post(final).is(t, 400, "M_USER_IN_USE")
		h.operate = h.accounts.create
		h.ready(flowTD, "bob", "abc") // takes it, and leaves
		wait(t, uia.DefaultHoldTTL)
		h.post(final).is(t, 200, "")
		h.oneAccount("abc")
	})
}

// Three hundred people come for ten uses, a tenth of a second apart, and need a third
// of one to finish: no livelock, and never more accounts than uses.
func TestStormOfNewcomers(t *testing.T) {
	for _, ttl := range []time.Duration{time.Millisecond, time.Second, 0, 10 * time.Minute} {
		t.Run(fmt.Sprint(ttl), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHomeserver(t, setup{change: func(c *uia.Config) {
					c.Stages[0].(*uia.TokenStage).HoldTTL = ttl
				}})
				h.token("abc", 10)
				start := time.Now()
				var done atomic.Int32
				var last atomic.Int64
				together(300, func(i int) answer {
					wait(t, time.Duration(i)*100*time.Millisecond)
					user := dict{"username": fmt.Sprint("u", i)}
					s := h.open(user)
					a := h.post(with(user, submitToken(s, "abc")))
					if a.errcode() == "" {
						wait(t, 300*time.Millisecond)
						a = h.post(with(user, submitDummy(s)))
					}
					if a.Status == 200 {
						done.Add(1)
						last.Store(max(last.Load(), time.Since(start).Milliseconds()))
					} else {
						assert.Equal(t, 401, a.Status, a.Body)
					}
					return a
				})
				assert.EqualValues(t, 10, done.Load())
				assert.Less(t, last.Load(), int64(3000), "the first ones to finish finish")
				assert.Equal(t, 10, h.accounts.count())
			})
		})
	}
}

// Who holds all uses and does not finish keeps others out for no longer than a hold.
func TestHoarder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 30)
		for range 30 {
			h.post(dict{"auth": submitToken(h.open(dict{}), "abc")}).is(t, 401, "")
		}
		assert.Equal(t, 401, h.register("bob", "abc").Status)
		wait(t, uia.DefaultHoldTTL)
		assert.Equal(t, 200, h.register("bob", "abc").Status)
	})
}

// What no process can decide keeps Recover from nothing else.
func TestRecoverGoesPastTheUndecidable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs strings.Builder
		h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) }})
		h.token("abc", 2000)
		now := time.Now()
		for i := range 1100 { // of an operation that is not configured any more
			key := fmt.Sprintf("removed.%04d", i)
			require.NoError(t, h.store.Reserve(t.Context(), uia.Hold{Token: "abc", Session: key, Until: now.Add(time.Hour)}, now))
			require.NoError(t, h.store.Pin(t.Context(), uia.Claim{Token: "abc", Session: key, Run: 2}, now))
		}
		wait(t, time.Second)
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, errors.New("crash") }
		h.post(with(dict{"username": "alice"}, submitToken(h.open(dict{}), "abc")))
		_, final := h.ready(flowTD, "alice", "abc")
		h.post(final).is(t, 500, "M_UNKNOWN")
		released := 0
		for range 3 {
			wait(t, 5*time.Minute)
			report, err := h.engine.Recover(t.Context())
			require.ErrorContains(t, err, `operation "removed" is not configured`)
			released += report.Released
		}
		assert.Equal(t, 1, released)
	})
}

// What a crash has left is decided by Maintain as soon as it can be, without anybody
// asking.
func TestMaintain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		_, final := h.ready(flowTD, "alice", "abc")
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, errors.New("crash") }
		h.post(final).is(t, 500, "M_UNKNOWN")
		require.Equal(t, uia.Pinned, h.state("abc"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { // the process that starts after the crash
			h.engine.Maintain(ctx)
			close(ended)
		}()
		wait(t, time.Minute)
		assert.Equal(t, uia.Pinned, h.state("abc"), "the run may be at work still")
		wait(t, 2*time.Second)
		assert.Zero(t, h.state("abc"), "given back")
		cancel()
		<-ended
	})
}

// A homeserver that forgets to call Recover is told so, once an hour.
func TestRecoverIsMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs strings.Builder
		h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Logger = slog.New(slog.NewTextHandler(&logs, nil)) }})
		h.token("abc", 10)
		missed := func() int { return strings.Count(logs.String(), "Recover has not been called") }
		require.Equal(t, 200, h.register("a", "abc").Status)
		wait(t, time.Hour-time.Second)
		require.Equal(t, 200, h.register("b", "abc").Status)
		assert.Zero(t, missed())
		wait(t, time.Second)
		require.Equal(t, 200, h.register("c", "abc").Status)
		require.Equal(t, 200, h.register("d", "abc").Status)
		assert.Equal(t, 1, missed())
		_, err := h.engine.Recover(t.Context())
		require.NoError(t, err)
		wait(t, time.Hour-time.Second)
		require.Equal(t, 200, h.register("e", "abc").Status)
		assert.Equal(t, 1, missed())
	})
}

// Of the requests that wait for a run of another process, one asks for all.
func TestWaitersAskTheStoreTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, final, first := slow(t, nil, 10*time.Second, nil)
		var n counting
		watched, _ := n.store().(*tap)
		watched.Store = h.store
		other := beside(h, watched)
		for _, a := range together(200, func(int) answer { return other.post(final) }) {
			assert.Equal(t, 200, a.Status, a.Body)
		}
		assert.Equal(t, 200, (<-first).Status)
		// Each reads the record when it comes and when it is woken.
		assert.Less(t, n.loads.Load(), int64(2*200+40))
	})
}

// After a crash in a transaction nothing is in doubt: the next request takes over as
// soon as the lease has ended.
func TestCrashInTransactionWaitsForTheLeaseAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, flowT, true)
		w.token("a-secret-token", 1)
		crashed := make(chan struct{})
		dead := w.process(func(c call, do func() error) error {
			if c.name == "COMMIT" {
				close(crashed)
				<-t.Context().Done() // the process is gone
				return t.Context().Err()
			}
			return do()
		})
		alice := dict{"username": "alice"}
		final := with(alice, submitToken(dead.open(alice), "a-secret-token"))
		go dead.post(final)
		<-crashed
		next := w.process(func(_ call, do func() error) error { return do() })
		begun := time.Now()
		next.post(final).is(t, 503, "M_UNKNOWN")
		wait(t, time.Second) // else the second request would give up at the moment at which the lease ends
		a := next.post(final)
		require.Equal(t, 200, a.Status, a.Body)
		assert.InDelta(t, 60, time.Since(begun).Seconds(), 1, "LeaseTTL, and no more")
		w.checkAccounts()
	})
}
