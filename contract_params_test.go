package uia_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
)

// erase is an operation with frozen parameters behind a password and a dummy
// stage, of which it remembers the reason. Its answer is what it was run with.
func erase(t testing.TB, change func(*uia.Operation)) *homeserver {
	h := newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Operations[0] = uia.Operation{
			Name: "register", Flows: []uia.Flow{{"m.login.password", "m.login.dummy"}}, Remember: []string{"reason"},
		}
		if change != nil {
			change(&c.Operations[0])
		}
	}})
	h.operate = func(_ context.Context, s *uia.Session) (uia.Effect, error) {
		return uia.Effect{Body: json.RawMessage(s.Params)}, nil
	}
	return h
}

func TestTableParameters(t *testing.T) {
	t.Run("parameters changed, frozen", func(t *testing.T) {
		h := erase(t, nil)
		s := h.open(dict{"reason": "x"})
		for _, params := range []dict{{"reason": "y"}, {"reason": "x", "more": 1}, {"more": 1}, {"reason": "X"}, {"reason": nil}} {
			h.post(with(params, submitPassword(s, "right"))).is(t, 403, "M_FORBIDDEN")
			h.post(with(params, dict{"session": s})).is(t, 403, "M_FORBIDDEN")
		}
		assert.Len(t, h.post(with(dict{"reason": "x"}, submitPassword(s, "right"))).completed(), 1)
		h.post(with(dict{"reason": "y"}, submitDummy(s))).is(t, 403, "M_FORBIDDEN")
		a := h.post(` { "auth" : {"session":"` + s + `","type":"m.login.dummy"}, "re\u0061son" : "\u0078" } `) // the same, written differently
		a.is(t, 200, "")
		assert.Equal(t, dict{"reason": "x"}, a.JSON)
	})

	t.Run("a session opened without parameters has frozen nothing", func(t *testing.T) {
		h := erase(t, nil)
		s := h.open(dict{})
		h.post(with(dict{"reason": "first"}, submitPassword(s, "wrong"))).is(t, 401, "M_FORBIDDEN")
		assert.Len(t, h.post(with(dict{"reason": "second"}, submitPassword(s, "right"))).completed(), 1)
		h.post(with(dict{"reason": "third"}, submitDummy(s))).is(t, 403, "M_FORBIDDEN") // the first completed stage has frozen them
		a := h.post(dict{"auth": submitDummy(s)})
		assert.Equal(t, dict{"reason": "second"}, a.JSON)
	})

	t.Run("parameters frozen by the first stage", func(t *testing.T) {
		h := erase(t, nil)
		s := h.open(dict{})
		assert.Len(t, h.post(with(dict{"reason": "x"}, submitPassword(s, "right"))).completed(), 1)
		h.post(with(dict{"reason": "late"}, submitDummy(s))).is(t, 403, "M_FORBIDDEN")
		assert.Equal(t, dict{"reason": "x"}, h.post(dict{"auth": submitDummy(s)}).JSON)
	})

	t.Run("parameters of a stage that fails before anything is proved", func(t *testing.T) {
		clock, store := newClock(), newMeter()
		h := newHomeserver(t, setup{store: store, change: func(c *uia.Config) { c.Now = clock.Now }})
		h.token("abc", 2)
		s := h.open(dict{})
		store.reset()
		h.post(with(dict{"username": "alice", "password": "pw"}, submitToken(s, "wrong"))).is(t, 401, "M_UNAUTHORIZED")
		store.unwritten(t)
		assert.Len(t, h.post(dict{"auth": submitToken(s, "abc")}).completed(), 1)
		a := h.post(dict{"auth": submitDummy(s)})
		a.is(t, 200, "")
		assert.Equal(t, "@alice:test", a.JSON["user_id"])

		// What is remembered is bounded, and what is latest counts.
		s = h.open(dict{"username": "bob"})
		h.post(with(dict{"username": "carol"}, submitToken(s, "wrong")))
		for range 1024 {
			h.post(with(dict{"username": "flood"}, submitToken(h.open(dict{}), "wrong")))
		}
		assert.Len(t, h.post(dict{"auth": submitToken(s, "abc")}).completed(), 1)
		assert.Equal(t, "@bob:test", h.post(dict{"auth": submitDummy(s)}).JSON["user_id"], "the parameters of the session's own ID")
	})

	t.Run("parameters that JSON encoders escape", func(t *testing.T) {
		h := erase(t, nil)
		s := h.open(dict{})
		odd := dict{"reason": "<a href='x'>&\u2028"}
		assert.Len(t, h.post(with(odd, submitPassword(s, "right"))).completed(), 1)
		assert.Equal(t, odd, h.post(with(odd, submitDummy(s))).JSON)
	})

	t.Run("parameters frozen by the first stage, which had none", func(t *testing.T) {
		h := erase(t, nil)
		s := h.open(dict{})
		assert.Len(t, h.post(dict{"auth": submitPassword(s, "right")}).completed(), 1)
		h.post(with(dict{"reason": "late"}, submitDummy(s))).is(t, 403, "M_FORBIDDEN")
		h.post(dict{"auth": submitDummy(s)}).is(t, 200, "")
	})

	t.Run("parameters of a stage that fails", func(t *testing.T) {
		h := erase(t, func(o *uia.Operation) {
			o.Mutable, o.Resolve = true, uia.NotDone
			o.Flows = []uia.Flow{{"m.login.password", uia.TokenType, "m.login.dummy"}}
		})
		h.token("abc", 1)
		operate := h.operate
		h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			effect, err := operate(ctx, s)
			effect.UserID = "@alice:test"
			return effect, err
		}
		s := h.open(dict{})
		assert.Len(t, h.post(dict{"auth": submitPassword(s, "right")}).completed(), 1)
		h.post(with(dict{"reason": "x"}, submitToken(s, "wrong"))).is(t, 401, "M_UNAUTHORIZED")
		assert.Len(t, h.post(dict{"auth": submitToken(s, "abc")}).completed(), 2)
		assert.Equal(t, dict{"reason": "x"}, h.post(dict{"auth": submitDummy(s)}).JSON)
	})

	t.Run("parameters changed, Mutable", func(t *testing.T) {
		h := erase(t, func(o *uia.Operation) { o.Mutable = true })
		s := h.open(dict{"reason": "x"})
		h.post(with(dict{"reason": "y"}, dict{"session": s})).is(t, 401, "")
		assert.Len(t, h.post(with(dict{"reason": "z", "more": 1}, submitPassword(s, "right"))).completed(), 1)
		a := h.post(with(dict{"other": 2}, submitDummy(s)))
		a.is(t, 200, "")
		assert.Equal(t, dict{"other": 2.0}, a.JSON)
	})

	t.Run("the latest ones win also when the last leg has none", func(t *testing.T) {
		h := erase(t, func(o *uia.Operation) { o.Mutable = true })
		s := h.open(dict{"reason": "x"})
		assert.Len(t, h.post(with(dict{"reason": "z", "more": 1}, submitPassword(s, "right"))).completed(), 1)
		a := h.post(dict{"auth": submitDummy(s)})
		assert.Equal(t, dict{"reason": "z", "more": 1.0}, a.JSON)
	})

	t.Run("no member but auth: remembered", func(t *testing.T) {
		for _, mutable := range []bool{false, true} {
			h := erase(t, func(o *uia.Operation) { o.Mutable = mutable })
			s := h.open(dict{"reason": "because"})
			assert.Len(t, h.post(dict{"auth": submitPassword(s, "right")}).completed(), 1)
			a := h.post(dict{"auth": submitDummy(s)})
			assert.Equal(t, dict{"reason": "because"}, a.JSON)
		}
	})

	t.Run("no member but auth: none left", func(t *testing.T) {
		for name, params := range map[string]dict{
			"not to be remembered": {"more": 1},
			"too large":            {"reason": strings.Repeat("x", 1024)},
		} {
			t.Run(name, func(t *testing.T) {
				for _, mutable := range []bool{false, true} {
					h := erase(t, func(o *uia.Operation) { o.Mutable = mutable })
					s := h.open(params)
					h.post(dict{"auth": submitPassword(s, "right")}).is(t, 400, "M_MISSING_PARAM")
					assert.Len(t, h.post(with(params, submitPassword(s, "right"))).completed(), 1)
					h.post(dict{"auth": submitDummy(s)}).is(t, 200, "") // the record has them now
				}
			})
		}
	})

	t.Run("no member but auth: frozen and remembered in part", func(t *testing.T) {
		// The operation would run with other parameters than the session was opened
		// with.
		h := erase(t, nil)
		s := h.open(dict{"reason": "because", "erase": true})
		h.post(dict{"auth": submitPassword(s, "right")}).is(t, 400, "M_MISSING_PARAM")
		full := dict{"reason": "because", "erase": true}
		assert.Len(t, h.post(with(full, submitPassword(s, "right"))).completed(), 1)
		a := h.post(dict{"auth": submitDummy(s)})
		assert.Equal(t, full, a.JSON)
	})

	t.Run("what is remembered fits 1 KiB", func(t *testing.T) {
		h := erase(t, nil)
		reason := strings.Repeat("x", 1024-len(`{"reason":""}`))
		s := h.open(dict{"reason": reason})
		assert.Len(t, h.post(dict{"auth": submitPassword(s, "right")}).completed(), 1)
		s = h.open(dict{"reason": reason + "x"})
		h.post(dict{"auth": submitPassword(s, "right")}).is(t, 400, "M_MISSING_PARAM")
	})

	t.Run("parameters of a failed attempt count", func(t *testing.T) {
		h := erase(t, func(o *uia.Operation) { o.Mutable = true })
		s := h.open(dict{"reason": "x"})
		h.post(with(dict{"reason": "y"}, submitPassword(s, "wrong"))).is(t, 401, "M_FORBIDDEN")
		assert.Len(t, h.post(dict{"auth": submitPassword(s, "right")}).completed(), 1)
		assert.Equal(t, dict{"reason": "y"}, h.post(dict{"auth": submitDummy(s)}).JSON)
	})
}
