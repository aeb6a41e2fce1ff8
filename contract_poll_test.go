package uia_test

import (
	"context"
	"testing"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

func TestTablePoll(t *testing.T) {
	t.Run("a poll gets the challenge with completed", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{})
		for range 3 {
			h.post(dict{"auth": dict{"session": s}}).challenges(t, "flows", "params", "session")
		}
		h.post(dict{"auth": submit(s, "first")})
		h.meter.reset()
		for range 3 {
			a := h.post(dict{"auth": dict{"session": s, "type": nil}})
			a.challenges(t, "flows", "params", "session", "completed")
			assert.Equal(t, []string{"first"}, a.completed())
			assert.Equal(t, s, a.session())
		}
		assert.Equal(t, []int{1, 0}, []int{h.first.count(), h.second.count()})
		h.meter.unwritten(t)
	})

	t.Run("a poll never counts as an attempt", func(t *testing.T) {
		h := newProbed(t, limited(1))
		s := h.open(dict{})
		for range 50 {
			h.post(dict{"auth": dict{"session": s}}).is(t, 401, "")
		}
		h.post(dict{"auth": submit(s, "first")}).is(t, 401, "")
	})

	t.Run("a poll skips Check if its parameters are the remembered ones", func(t *testing.T) {
		checks := 0
		h := newProbed(t, func(c *uia.Config) {
			c.Operations[0].Check = func(context.Context, *uia.Session) error { checks++; return nil }
		})
		s := h.open(dict{"username": "alice"})
		checks = 0
		h.post(with(dict{"username": "alice"}, dict{"session": s})).is(t, 401, "")
		h.post(dict{"auth": dict{"session": s}}).is(t, 401, "")
		assert.Zero(t, checks)
		h.post(with(dict{"username": "bob"}, dict{"session": s})).is(t, 401, "")
		assert.Equal(t, 1, checks)
	})

	t.Run("a poll gets the result once the stages have been completed out of band", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{"username": "alice"})
		for _, typ := range []string{"first", "second"} {
			h.post(dict{"auth": dict{"session": s}}).is(t, 401, "")
			require.NoError(t, h.engine.Complete(t.Context(), uia.Completion{Session: s, Type: typ}))
		}
		assert.Zero(t, h.accounts.count())
		// The session's ID alone does not say who asks.
		h.post(dict{"auth": dict{"session": s}}).challenges(t, "flows", "params", "session", "completed")
		assert.Zero(t, h.accounts.runs)
		a := h.post(with(dict{"username": "alice"}, dict{"session": s}))
		a.is(t, 200, "")
		assert.Equal(t, "@alice:test", a.JSON["user_id"])
		assert.Equal(t, []int{0, 0}, []int{h.first.count(), h.second.count()})
	})

	t.Run("a poll of a session whose parameters are not remembered", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{"x": 1})
		h.post(dict{"auth": dict{"session": s}}).challenges(t, "flows", "params", "session")
		for _, typ := range []string{"first", "second"} {
			require.NoError(t, h.engine.Complete(t.Context(), uia.Completion{Session: s, Type: typ}))
		}
		h.post(dict{"auth": dict{"session": s}}).is(t, 400, "M_MISSING_PARAM") // it would run without them
		assert.Zero(t, h.accounts.runs)
		h.post(with(dict{"x": 1}, dict{"session": s})).is(t, 200, "")
	})
}

func TestTableOrder(t *testing.T) {
	t.Run("a stage of no flow, or out of order", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{})
		for _, typ := range []string{"second", "m.login.password", "m.login.dummy", "m.unheard.of", "First"} {
			a := h.post(dict{"auth": submit(s, typ)})
			a.is(t, 401, "M_FORBIDDEN")
			a.challenges(t, "flows", "params", "session", "completed", "errcode", "error")
			assert.Equal(t, "This stage cannot be completed now: first has to be completed first.", a.JSON["error"])
		}
		h.post(dict{"auth": submit(s, "first")})
		a := h.post(dict{"auth": submit(s, "m.login.dummy")})
		a.is(t, 401, "M_FORBIDDEN")
		assert.Equal(t, []string{"first"}, a.completed())
		assert.Equal(t, []int{1, 0}, []int{h.first.count(), h.second.count()})
		fresh := h.post(dict{"auth": dict{"type": "second"}})
		fresh.is(t, 401, "M_FORBIDDEN")
		h.post(dict{"auth": submit(fresh.session(), "first")}).is(t, 401, "")
	})

	t.Run("a completed stage again", func(t *testing.T) {
		h := newProbed(t, limited(1))
		s := h.open(dict{})
		h.post(dict{"auth": submit(s, "first")})
		h.first.attempt = refusing(uia.NewError(401, spec.Forbidden("no more")))
		for range 3 {
			a := h.post(dict{"auth": submit(s, "first")})
			a.challenges(t, "flows", "params", "session", "completed")
		}
		assert.Equal(t, 1, h.first.count())
		final := h.post(dict{"auth": submit(s, "second")})
		final.is(t, 200, "")
	})

	t.Run("a completed stage again gets the result", func(t *testing.T) {
		h := newProbed(t, nil)
		s := h.open(dict{"username": "alice"})
		for _, typ := range []string{"first", "second"} {
			require.NoError(t, h.engine.Complete(t.Context(), uia.Completion{Session: s, Type: typ}))
		}
		h.post(dict{"auth": submit(s, "first")}).challenges(t, "flows", "params", "session", "completed")
		h.post(with(dict{"username": "alice"}, submit(s, "first"))).is(t, 200, "")
		assert.Equal(t, 0, h.first.count())
	})
}
