package uia_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// counting counts the calls of a store.
type counting struct{ reads, writes, reserves, loads atomic.Int64 }

func (n *counting) store() uia.Store {
	return &tap{memstore.New(nil), func(_ context.Context, c call, do func() error) error {
		switch {
		case c.name == "Reserve":
			n.reserves.Add(1)
		case c.name == "LoadSession":
			n.loads.Add(1)
		}
		if c.write {
			n.writes.Add(1)
		} else {
			n.reads.Add(1)
		}
		return do()
	}}
}

func TestAbandonedSessionGivesItsUseBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		h.token("def", 1)
		session, final := h.ready(flowTD, "alice", "abc")
		wait(t, 10*time.Minute-time.Millisecond)
		a := h.register("bob", "abc")
		assert.Equal(t, "M_UNAUTHORIZED", a.errcode(), a.Body)
		wait(t, time.Millisecond)
		assert.Equal(t, 200, h.register("bob", "abc").Status)
		h.oneAccount("abc")

		// Its owner comes back too late, and is told to repeat the stage.
		a = h.post(final)
		assert.Equal(t, 401, a.Status)
		assert.Equal(t, "M_UNAUTHORIZED", a.errcode())
		assert.Empty(t, a.completed())
		assert.Equal(t, session, a.session())
		a = h.post(with(nil, dict{"type": uia.TokenType, "session": session, "token": "def"}))
		require.Equal(t, []string{uia.TokenType}, a.completed(), a.Body)
		a = h.post(final)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.Equal(t, uia.Spent, h.state("def"))
	})
}

// The same when the operation was refused, and the session left for good.
func TestAbandonedRefusalGivesItsUseBack(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			_, final := h.ready(flow, "alice", "abc")
			h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
				return uia.Effect{}, &uia.Error{Status: 400}
			}
			wait(t, 9*time.Minute)
			require.Equal(t, 400, h.post(final).Status)
			h.operate = h.accounts.create
			wait(t, 10*time.Minute-time.Millisecond)
			require.Equal(t, 401, h.register("bob", "abc").Status)
			wait(t, time.Millisecond)
			require.Equal(t, 200, h.register("bob", "abc").Status)
			h.oneAccount("abc")
		})
	})
}

func TestLapsedHoldThatNobodyTookStillFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		expires := time.Now().Add(5 * time.Minute)
		_, err := h.store.UpdateToken(t.Context(), "abc", uia.TokenPatch{Expires: &expires}, time.Now())
		require.NoError(t, err)
		_, final := h.ready(flowTD, "alice", "abc")
		wait(t, 45*time.Minute) // the token has expired too: the hold was made in time
		a := h.post(final)
		assert.Equal(t, 200, a.Status, a.Body)
		h.oneAccount("abc")
	})
}

func TestRevokedTokenEndsItsHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		session, final := h.ready(flowTD, "alice", "abc")
		_, err := h.store.UpdateToken(t.Context(), "abc", uia.TokenPatch{Revoked: new(true)}, time.Now())
		require.NoError(t, err)
		a := h.post(final)
		assert.Equal(t, "M_UNAUTHORIZED", a.errcode())
		assert.Empty(t, a.completed())
		a = h.post(with(nil, dict{"type": uia.TokenType, "session": session, "token": "abc"}))
		assert.Equal(t, "M_UNAUTHORIZED", a.errcode())
		_, err = h.store.UpdateToken(t.Context(), "abc", uia.TokenPatch{Revoked: new(false)}, time.Now())
		require.NoError(t, err)
		a = h.post(with(nil, dict{"type": uia.TokenType, "session": session, "token": "abc"}))
		assert.Equal(t, []string{uia.TokenType}, a.completed(), a.Body)
		assert.Equal(t, 200, h.post(final).Status)
		h.oneAccount("abc")
	})
}

// Polls keep the hold, and cost a write only when half of it is over.
func TestHoldIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n counting
		h := newHomeserver(t, setup{store: n.store()})
		h.token("abc", 1)
		session, final := h.ready(flowTD, "alice", "abc")
		poll := dict{"auth": dict{"session": session}}
		before := n.writes.Load()
		wait(t, 5*time.Minute-time.Millisecond)
		require.Equal(t, []string{uia.TokenType}, h.post(poll).completed())
		assert.Equal(t, before, n.writes.Load(), "more than half is left")
		wait(t, 2*time.Millisecond)
		require.Equal(t, []string{uia.TokenType}, h.post(poll).completed())
		assert.Equal(t, before+2, n.writes.Load(), "the hold, and the record that says until when")
		for range 25 { // every two minutes
			wait(t, 2*time.Minute)
			require.Equal(t, []string{uia.TokenType}, h.post(poll).completed())
		}
		assert.LessOrEqual(t, n.writes.Load(), before+2+2*25/3)
		bob := h.register("bob", "abc")
		assert.Equal(t, "M_UNAUTHORIZED", bob.errcode(), bob.Body)
		assert.Equal(t, 200, h.post(final).Status)
		h.oneAccount("abc")
	})
}

func TestSessionTTL(t *testing.T) {
	for _, ttl := range []time.Duration{0, 7 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{change: func(c *uia.Config) { c.SessionTTL = ttl }})
			h.token("abc", 2)
			lives := ttl
			if ttl == 0 {
				lives = time.Hour
			}
			opened := time.Now()
			_, late := h.ready(flowTD, "alice", "abc")
			wait(t, time.Minute)
			_, inTime := h.ready(flowTD, "bob", "abc")
			wait(t, time.Until(opened.Add(lives-time.Millisecond)))
			a := h.post(late)
			assert.Equal(t, 200, a.Status, a.Body)
			wait(t, time.Millisecond)
			a = h.post(late)
			assert.Equal(t, 400, a.Status, "not even to tell the response again: %s", a.Body)
			wait(t, time.Minute)
			a = h.post(inTime)
			assert.Equal(t, 400, a.Status)
			assert.Equal(t, "M_UNKNOWN", a.errcode())
			assert.Equal(t, 1, h.accounts.count())
		})
	}
}
