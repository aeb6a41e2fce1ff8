package uia_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
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
		wait(t, uia.DefaultHoldTTL-time.Millisecond)
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

// A refusal lets go of the use at once, for a session that may be left for good; and
// it stays the session's until somebody needs it.
func TestRefusalLetsGo(t *testing.T) {
	refusal := func() error { return uia.NewError(400, spec.UserInUse("taken")) }
	for _, by := range []string{"operation", "check"} {
		t.Run(by, func(t *testing.T) {
			bothFlows(t, func(t *testing.T, flow uia.Flow) {
				for _, again := range []string{"a new session", "the same session"} {
					t.Run(again, func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							checks := false
							h := newHomeserver(t, setup{flows: []uia.Flow{flow}, change: func(c *uia.Config) {
								c.Operations[0].Check = func(context.Context, *uia.Session) error {
									if checks {
										return refusal()
									}
									return nil
								}
							}})
							h.token("abc", 1)
							session, final := h.ready(flow, "alice", "abc")
							if by == "check" && len(flow) == 1 {
								return // it is refused before anything is held
							}
							checks = by == "check"
							h.operate = func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, refusal() }
							h.post(with(dict{"username": "alice2"}, final["auth"].(dict))).is(t, 400, "M_USER_IN_USE")
							checks, h.operate = false, h.accounts.create
							if again == "the same session" {
								h.post(with(dict{"username": "mended"}, final["auth"].(dict))).is(t, 200, "")
							} else {
								require.Equal(t, 200, h.register("bob", "abc").Status)
								a := h.post(final)
								assert.Equal(t, 401, a.Status, "the use is bob's: %s", a.Body)
								assert.Equal(t, session, a.session())
							}
							h.oneAccount("abc")
						})
					})
				}
			})
		})
	}
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
		wait(t, uia.DefaultHoldTTL/2-time.Millisecond)
		require.Equal(t, []string{uia.TokenType}, h.post(poll).completed())
		assert.Equal(t, before, n.writes.Load(), "more than half is left")
		wait(t, 2*time.Millisecond)
		require.Equal(t, []string{uia.TokenType}, h.post(poll).completed())
		assert.Equal(t, before+2, n.writes.Load(), "the hold, and the record that says until when")
		for range 25 { // every two seconds, as Element does
			wait(t, 2*time.Second)
			require.Equal(t, []string{uia.TokenType}, h.post(poll).completed())
		}
		assert.LessOrEqual(t, n.writes.Load(), before+2+2*4)
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
			assert.Equal(t, a.Body, h.post(late).Body, "the response is told again as long as it is kept")
			wait(t, time.Minute)
			// Whatever had been completed, the session is as if none had been sent.
			fresh := h.post(inTime)
			fresh.challenges(t, "flows", "params", "session")
			assert.NotEqual(t, inTime["auth"].(dict)["session"], fresh.session())
			wait(t, 5*time.Minute)
			h.post(late).is(t, 400, "M_USER_IN_USE") // as a first request with these parameters
			assert.Equal(t, 1, h.accounts.count())
		})
	}
}
