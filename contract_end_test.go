package uia_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// counted makes h count the runs of its operation.
func (h *homeserver) counted() *atomic.Int64 {
	runs, operate := new(atomic.Int64), h.operate
	h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		runs.Add(1)
		return operate(ctx, s)
	}
	return runs
}

func TestTableEnd(t *testing.T) {
	alice := dict{"username": "alice", "password": "pw"}

	t.Run("last stage passed", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 2)
		s := h.open(alice)
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "")
		pending, completed := h.left("abc")
		assert.Equal(t, []int64{1, 0}, []int64{pending, completed})
		a := h.post(dict{"auth": submitDummy(s)})
		a.is(t, 200, "")
		assert.Equal(t, "@alice:test", a.JSON["user_id"])
		assert.NotEmpty(t, a.JSON["access_token"])
		pending, completed = h.left("abc")
		assert.Equal(t, []int64{0, 1}, []int64{pending, completed})
		page, err := h.store.ListUses(t.Context(), uia.UseQuery{Token: "abc"})
		require.NoError(t, err)
		assert.Equal(t, "@alice:test", page.Uses[0].UserID)
	})

	t.Run("no body is an empty object", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		a := h.send("DELETE", "/devices/A", "@a:test", dict{"auth": dict{"type": "m.login.password", "password": "right"}})
		a.is(t, 200, "")
		assert.Equal(t, "{}", a.Body)
	})

	t.Run("operation refused", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		runs := h.counted()
		s := h.open(alice)
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "")
		operate := h.operate
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, uia.NewError(400, spec.UserInUse("taken meanwhile"))
		}
		a := h.post(dict{"auth": submitDummy(s)})
		a.is(t, 400, "M_USER_IN_USE")
		assert.Equal(t, dict{"errcode": "M_USER_IN_USE", "error": "taken meanwhile", "flows": []any{}}, a.JSON)
		pending, completed := h.left("abc")
		assert.Equal(t, []int64{0, 0}, []int64{pending, completed}, "somebody else can have the use")

		h.operate = operate
		h.post(dict{"auth": dict{"session": s}}).challenges(t, "flows", "params", "session", "completed")
		a = h.post(dict{"auth": submitDummy(s)}) // still complete: the same request runs it
		a.is(t, 200, "")
		assert.Equal(t, "@alice:test", a.JSON["user_id"])
		assert.EqualValues(t, 1, runs.Load())
	})

	t.Run("operation refused, other parameters", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		h.token("abc", 1)
		operate := h.operate
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, uia.NewError(400, spec.UserInUse("taken meanwhile"))
		}
		s := h.open(alice)
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "")
		h.post(dict{"auth": submitDummy(s)}).is(t, 400, "M_USER_IN_USE")
		h.operate = operate
		a := h.post(with(dict{"username": "alice2"}, submitDummy(s)))
		a.is(t, 200, "")
		assert.Equal(t, "@alice2:test", a.JSON["user_id"])
	})

	t.Run("operation broke", func(t *testing.T) {
		logger, out := logged()
		h := newHomeserver(t, setup{flows: []uia.Flow{flowT}, change: func(c *uia.Config) { c.Logger = logger }})
		h.token("abc", 1)
		operate := h.operate
		h.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, errors.New("disk full")
		}
		s := h.open(alice)
		a := h.post(dict{"auth": submitToken(s, "abc")})
		a.is(t, 500, "M_UNKNOWN")
		assert.NotContains(t, a.Body, "disk")
		assert.Contains(t, out.String(), "disk full")
		pending, _ := h.left("abc")
		assert.EqualValues(t, 1, pending, "the use is in doubt")
		h.operate = operate
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 200, "")
	})
}

func TestTableTokenLost(t *testing.T) {
	lose := map[string]func(h *homeserver){
		"revoked": func(h *homeserver) {
			_, err := h.store.UpdateToken(context.Background(), "abc", uia.TokenPatch{Revoked: new(true)}, time.Now())
			require.NoError(h.t, err)
		},
		"deleted": func(h *homeserver) { require.NoError(h.t, h.store.DeleteToken(context.Background(), "abc")) },
	}
	for name, lose := range lose {
		t.Run("the token was "+name, func(t *testing.T) {
			h := newHomeserver(t, setup{})
			h.token("abc", 1)
			h.token("other", 1)
			runs := h.counted()
			s := h.open(dict{"username": "alice"})
			h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "")
			lose(h)
			a := h.post(dict{"auth": submitDummy(s)})
			a.is(t, 401, "M_UNAUTHORIZED")
			a.challenges(t, "flows", "params", "session", "completed", "errcode", "error") // nothing is completed any more
			assert.Zero(t, runs.Load())
			h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "M_UNAUTHORIZED")
			a = h.post(dict{"auth": submitToken(s, "other")})
			a.challenges(t, "flows", "params", "session", "completed")
			a = h.post(dict{"auth": submitDummy(s)})
			a.is(t, 200, "")
			assert.Equal(t, "@alice:test", a.JSON["user_id"])
			_, completed := h.left("other")
			assert.EqualValues(t, 1, completed)
		})
	}

	t.Run("the hold lapsed and was taken by another", func(t *testing.T) {
		clock := newClock()
		h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Now = clock.Now }})
		h.token("abc", 1)
		alice, bob := h.open(dict{"username": "alice"}), h.open(dict{"username": "bob"})
		h.post(dict{"auth": submitToken(alice, "abc")}).is(t, 401, "")
		h.post(dict{"auth": submitToken(bob, "abc")}).is(t, 401, "M_UNAUTHORIZED")
		clock.advance(uia.DefaultHoldTTL)
		assert.Len(t, h.post(dict{"auth": submitToken(bob, "abc")}).completed(), 1)
		// Alice's next request, a poll even, finds out.
		a := h.post(dict{"auth": dict{"session": alice}})
		a.is(t, 401, "M_UNAUTHORIZED")
		a.challenges(t, "flows", "params", "session", "completed", "errcode", "error")
		h.post(dict{"auth": submitDummy(alice)}).is(t, 401, "M_FORBIDDEN")
		h.post(dict{"auth": submitDummy(bob)}).is(t, 200, "")
	})

	t.Run("the stages behind it are lost with it", func(t *testing.T) {
		h := newHomeserver(t, setup{flows: []uia.Flow{{"m.login.password", uia.TokenType, "m.login.dummy"}}})
		h.token("abc", 1)
		s := h.open(dict{})
		h.post(dict{"auth": submitPassword(s, "right")}).is(t, 401, "")
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "")
		lose["deleted"](h)
		a := h.post(dict{"auth": submitDummy(s)})
		a.is(t, 401, "M_UNAUTHORIZED")
		assert.Equal(t, []string{"m.login.password"}, a.completed())
	})
}

func TestTableFinished(t *testing.T) {
	finish := func(t *testing.T) (*homeserver, *handClock, *atomic.Int64, dict, answer) {
		clock := newClock()
		h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Now = clock.Now }})
		h.token("abc", 1)
		runs := h.counted()
		s := h.open(dict{})
		last := with(dict{"username": "alice", "password": "pw"}, submitDummy(s))
		h.post(with(dict{"username": "alice"}, submitToken(s, "abc"))).is(t, 401, "")
		a := h.post(last)
		a.is(t, 200, "")
		return h, clock, runs, last, a
	}

	t.Run("a finished session, same body, within the replay window", func(t *testing.T) {
		h, clock, runs, last, a := finish(t)
		s := last["auth"].(dict)["session"].(string)
		for range 3 {
			assert.Equal(t, a.Body, h.post(last).Body)
		}
		rewritten := `{"password":"pw","auth":{"type":"m.login.dummy", "session":"` + s + `"},"username":"\u0061lice"}`
		assert.Equal(t, a.Body, h.post(rewritten).Body)
		clock.advance(5*time.Minute - time.Millisecond)
		again := h.post(last)
		again.is(t, 200, "")
		assert.Equal(t, a.Body, again.Body)
		poll := h.post(with(dict{"username": "alice", "password": "pw"}, dict{"session": s}))
		assert.Equal(t, a.Body, poll.Body)
		assert.EqualValues(t, 1, runs.Load())
	})

	t.Run("a finished session otherwise", func(t *testing.T) {
		h, _, runs, last, done := finish(t)
		s := last["auth"].(dict)["session"].(string)
		for _, body := range []dict{
			{"auth": dict{"session": s}}, // a session ID alone, which may stand in a proxy's log, gets no access token
			{"auth": submitDummy(s)},
			with(dict{"username": "alice"}, submitDummy(s)),
			with(dict{"username": "alice", "password": "guess"}, submitDummy(s)),
			with(dict{"username": "alice", "password": "guess"}, dict{"session": s}),
		} {
			a := h.post(body)
			assert.Equal(t, 401, a.Status, a.Body)
			assert.Equal(t, flowTD, uia.Flow(a.completed()))
		}
		// Who repeats the parameters is the same client, at whichever stage it is.
		for _, auth := range []dict{
			submitToken(s, "abc"), submitPassword(s, "right"), {"type": "m.login.dummy", "session": s, "more": 1}, {"session": s},
		} {
			assert.Equal(t, done.Body, h.post(with(dict{"username": "alice", "password": "pw"}, auth)).Body)
		}
		assert.EqualValues(t, 1, runs.Load())
	})

	t.Run("a finished session after the replay window", func(t *testing.T) {
		h, clock, runs, last, _ := finish(t)
		clock.advance(5 * time.Minute)
		a := h.post(last)
		a.is(t, 401, "M_FORBIDDEN")
		assert.Len(t, a.completed(), 2)
		assert.EqualValues(t, 1, runs.Load())
	})

	t.Run("one request that did all, sent again", func(t *testing.T) {
		h := newHomeserver(t, setup{flows: []uia.Flow{flowT}})
		h.token("abc", 2)
		body := with(dict{"username": "alice"}, dict{"type": uia.TokenType, "token": "abc"})
		h.post(body).is(t, 200, "")
		h.post(body).is(t, 400, "M_USER_IN_USE") // it names no session, so it is another one
	})
}
