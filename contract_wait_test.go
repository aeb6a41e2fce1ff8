package uia_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// slow starts a homeserver whose operation takes this long and then ends as end
// says, and sends it a final request.
func slow(t *testing.T, store uia.Store, takes time.Duration, end uia.Operate) (h *homeserver, final dict, first <-chan answer) {
	h = newHomeserver(t, setup{store: store})
	h.token("abc", 1)
	_, final = h.ready(flowTD, "alice", "abc")
	operate := h.operate
	h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		wait(t, takes)
		if end == nil {
			end = operate
		}
		return end(ctx, s)
	}
	answers := make(chan answer, 1)
	go func() { answers <- h.post(final) }()
	synctest.Wait()
	h.operate = operate
	return h, final, answers
}

// beside starts another process of the homeserver.
func beside(h *homeserver, store uia.Store) *homeserver {
	other := newHomeserver(h.t, setup{store: store, change: func(c *uia.Config) {
		c.Operations[0].Check, c.Operations[0].Resolve = h.accounts.check, h.accounts.resolve
	}})
	other.accounts, other.operate = h.accounts, h.accounts.create
	return other
}

func TestWaitEndsAfterHalfAMinute(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, final, first := slow(t, nil, 40*time.Second, nil)
			waiter := h
			if elsewhere {
				waiter = beside(h, h.store)
			}
			asked := time.Now()
			a := waiter.post(final)
			assert.Equal(t, 30*time.Second, time.Since(asked))
			assert.Equal(t, 503, a.Status)
			assert.Equal(t, "5", a.Header.Get("Retry-After"))
			assert.EqualValues(t, 5000, a.JSON["retry_after_ms"])
			assert.NotEmpty(t, a.errcode())
			again := waiter.post(final)
			assert.Equal(t, 200, again.Status, again.Body)
			assert.Equal(t, (<-first).Body, again.Body)
			assert.Equal(t, 1, h.accounts.runs)
			h.oneAccount("abc")
		})
	}
}

// Only who proves to be the client for which the operation runs waits for its response.
// Others get the completed stages, as they do before the run and after it, and at once.
func TestOthersDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, final, first := slow(t, nil, 20*time.Second, nil)
		s := final["auth"].(dict)["session"].(string)
		asked := time.Now()
		for _, body := range []dict{
			{"auth": dict{"session": s}},
			{"auth": submitToken(s, "abc")},
			with(dict{"username": "mallory"}, submitDummy(s)),
		} {
			a := h.post(body)
			assert.Equal(t, 401, a.Status, a.Body)
			assert.Equal(t, flowTD, uia.Flow(a.completed()))
		}
		assert.Zero(t, time.Since(asked))
		assert.Equal(t, 200, (<-first).Status)
		h.oneAccount("abc")
	})
}

func TestWaitInProcessAsksTheStoreOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n counting
		h, final, first := slow(t, n.store(), 29*time.Second, nil)
		before := n.loads.Load()
		asked := time.Now()
		a := h.post(final)
		assert.Equal(t, 29*time.Second, time.Since(asked), "it is woken at once")
		assert.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, (<-first).Body, a.Body)
		assert.EqualValues(t, 2, n.loads.Load()-before)
	})
}

func TestWaitForAnotherProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, final, first := slow(t, nil, 20*time.Second, nil)
		var n counting
		watched, _ := n.store().(*tap)
		watched.Store = h.store
		other := beside(h, watched)
		asked := time.Now()
		a := other.post(final)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, (<-first).Body, a.Body)
		assert.InDelta(t, 20, time.Since(asked).Seconds(), 0.5)
		assert.InDelta(t, 43, n.loads.Load(), 5, "the intervals grow to half a second")
		assert.Zero(t, n.writes.Load())
		assert.Equal(t, 1, h.accounts.runs)
		h.oneAccount("abc")
	})
}

// When the run has failed, a request that waited for it runs the operation with the
// parameters that it has brought itself: the same ones, or it would not have waited.
func TestWaiterRunsAfterAFailure(t *testing.T) {
	for name, failure := range map[string]struct {
		operate uia.Operate
		status  int
	}{
		"refused": {func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, uia.NewError(400, spec.InvalidUsername("no"))
		}, 400},
		"failed": {func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, errBroken }, 500},
		"panics": {func(context.Context, *uia.Session) (uia.Effect, error) { panic("no") }, 500},
	} {
		for _, elsewhere := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h, final, first := slow(t, nil, 20*time.Second, failure.operate)
					waiter := h
					if elsewhere {
						waiter = beside(h, h.store)
					}
					a := waiter.post(final)
					assert.Equal(t, 200, a.Status, a.Body)
					assert.Equal(t, failure.status, (<-first).Status)
					assert.Equal(t, a.Body, waiter.post(final).Body)
					h.oneAccount("abc")
				})
			})
		}
	}
}

// Of many waiters one runs after a failure, and the others get its response.
func TestManyWaitersAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, final, first := slow(t, nil, 10*time.Second, func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, errBroken
		})
		other := beside(h, h.store)
		answers := together(32, func(i int) answer { return []*homeserver{h, other}[i%2].post(final) })
		assert.Equal(t, 500, (<-first).Status)
		for _, a := range answers {
			assert.Equal(t, 200, a.Status, a.Body)
			assert.Equal(t, answers[0].Body, a.Body)
		}
		assert.Equal(t, 1, h.accounts.runs)
		h.oneAccount("abc")
	})
}

// A process that has died is waited for until its lease ends, and then replaced.
func TestWaiterReplacesADeadProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dead := make(chan struct{})
		h, final, first := slow(t, nil, 0, func(context.Context, *uia.Session) (uia.Effect, error) {
			<-dead
			return uia.Effect{}, errBroken
		})
		other := beside(h, h.store)
		wait(t, 45*time.Second)
		asked := time.Now()
		a := other.post(final)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.InDelta(t, 15, time.Since(asked).Seconds(), 0.5)
		close(dead)
		<-first
		assert.Equal(t, a.Body, other.post(final).Body, "what the dead one says counts for nothing")
		h.oneAccount("abc")
	})
}

func TestWaiterHangsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, final, first := slow(t, nil, 20*time.Second, nil)
		ctx, hangUp := context.WithTimeout(t.Context(), time.Second)
		defer hangUp()
		asked := time.Now()
		assert.Equal(t, 503, h.postCtx(ctx, final).Status)
		assert.Equal(t, time.Second, time.Since(asked))
		require.Equal(t, 200, (<-first).Status)
		h.oneAccount("abc")
	})
}
