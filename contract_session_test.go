package uia_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
)

func TestTableSession(t *testing.T) {
	t.Run("unknown or forged session", func(t *testing.T) {
		store := newMeter()
		h := newHomeserver(t, setup{store: store})
		other := newHomeserver(t, setup{change: func(c *uia.Config) { c.Secrets = uia.FixedSecrets([]byte("the secret of quite another homeserver")) }})
		forged := other.open(dict{})
		for _, s := range []string{"x", "xxxxxxxx", forged, "null", "../../etc/passwd", "\x00", "é"} {
			for _, auth := range []dict{{"session": s}, submitToken(s, "abc"), submitDummy(s)} {
				h.post(dict{"auth": auth}).is(t, 400, "M_UNKNOWN")
			}
		}
		store.untouched(t)
		// It is never adopted: not even once the server has refused it.
		h.post(dict{"auth": dict{"session": forged}}).is(t, 400, "M_UNKNOWN")
	})

	t.Run("expired session", func(t *testing.T) {
		clock := newClock()
		h := newHomeserver(t, setup{flows: []uia.Flow{{"m.login.dummy"}}, change: func(c *uia.Config) { c.Now = clock.Now }})
		s := h.open(dict{})
		clock.advance(time.Hour - time.Millisecond)
		h.post(dict{"auth": dict{"session": s}}).is(t, 401, "")
		clock.advance(time.Millisecond)
		fresh := h.post(dict{"auth": dict{"session": s}})
		fresh.challenges(t, "flows", "params", "session")
		assert.NotEqual(t, s, fresh.session())
		assert.Zero(t, h.accounts.count())
		h.post(with(dict{"username": "late"}, submitDummy(s))).is(t, 200, "") // what can be attempted is attempted

		brief := newHomeserver(t, setup{change: func(c *uia.Config) { c.Now, c.SessionTTL = clock.Now, time.Second }})
		brief.token("abc", 1)
		s = brief.open(dict{})
		assert.Equal(t, []string{uia.TokenType}, brief.post(dict{"auth": submitToken(s, "abc")}).completed())
		clock.advance(time.Second)
		// A completed stage makes it no longer. What comes later says where to start again.
		brief.post(dict{"auth": submitDummy(s)}).challenges(t, "flows", "params", "session")
		again := brief.post(dict{"auth": submitToken(s, "abc")})
		again.is(t, 401, "M_UNAUTHORIZED") // for half a minute the use is the old session's
		clock.advance(uia.DefaultHoldTTL)
		again = brief.post(dict{"auth": submitToken(s, "abc")})
		again.challenges(t, "flows", "params", "session", "completed")
		brief.post(dict{"auth": submitDummy(again.session())}).is(t, 200, "")
	})

	t.Run("session of another operation", func(t *testing.T) {
		store := newMeter()
		h := newHomeserver(t, setup{store: store})
		s := h.open(dict{})
		for _, auth := range []dict{{"session": s}, submitPassword(s, "right")} {
			h.send("DELETE", "/devices/A", "@a:test", dict{"auth": auth}).is(t, 403, "M_FORBIDDEN")
			h.send("DELETE", "/devices/A", "", dict{"auth": auth}).is(t, 403, "M_FORBIDDEN")
		}
		s = h.send("DELETE", "/devices/A", "", dict{}).session()
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 403, "M_FORBIDDEN")
		assert.Empty(t, h.deletes)
		store.untouched(t)

		// Also where everything else is the same.
		twins := newHomeserver(t, setup{change: func(c *uia.Config) {
			twin := c.Operations[1]
			twin.Name = "deactivate"
			c.Operations = append(c.Operations, twin)
		}})
		s = twins.send("DELETE", "/devices/A", "@a:test", dict{}).session()
		_, err := twins.engine.Authenticate(t.Context(), uia.Request{
			Operation: "deactivate", Subject: "@a:test", Target: "A", Body: []byte(`{"auth":{"session":"` + s + `"}}`),
		})
		status, _, _ := uia.Answer(t.Context(), nil, err)
		assert.Equal(t, 403, status)
	})

	t.Run("session of another target or user", func(t *testing.T) {
		store := newMeter()
		h := newHomeserver(t, setup{store: store})
		s := h.send("DELETE", "/devices/A", "@a:test", dict{}).session()
		for _, at := range []struct{ path, user string }{
			{"/devices/B", "@a:test"}, {"/devices/a", "@a:test"}, {"/devices/A", "@b:test"}, {"/devices/A", ""},
		} {
			h.send("DELETE", at.path, at.user, dict{"auth": submitPassword(s, "right")}).is(t, 403, "M_FORBIDDEN")
			h.send("DELETE", at.path, at.user, dict{"auth": dict{"session": s}}).is(t, 403, "M_FORBIDDEN")
		}
		assert.Empty(t, h.deletes)
		store.untouched(t)
		h.send("DELETE", "/devices/A", "@a:test", dict{"auth": submitPassword(s, "right")}).is(t, 200, "")
		assert.Equal(t, []string{"@a:test/A"}, h.deletes)
	})

	t.Run("session sealed under flows that the configuration no longer has", func(t *testing.T) {
		store := newMeter()
		before := newHomeserver(t, setup{store: store, flows: []uia.Flow{flowTD, {"m.login.dummy"}}})
		before.token("abc", 2)
		fresh, begun := before.open(dict{}), before.open(dict{})
		assert.Len(t, before.post(dict{"auth": submitToken(begun, "abc")}).completed(), 1)
		for name, flows := range map[string][]uia.Flow{
			"one less": {flowTD}, "other order": {{"m.login.dummy"}, flowTD}, "another": {flowT},
		} {
			t.Run(name, func(t *testing.T) {
				after := newHomeserver(t, setup{store: store, flows: flows})
				for _, s := range []string{fresh, begun} {
					after.post(dict{"auth": dict{"session": s}}).is(t, 400, "M_UNKNOWN")
					after.post(dict{"auth": submitDummy(s)}).is(t, 400, "M_UNKNOWN")
				}
				assert.Zero(t, after.accounts.count())
			})
		}
		any := newHomeserver(t, setup{store: store, flows: []uia.Flow{{uia.TokenType, "m.login.password"}, {"m.login.dummy"}}})
		anySession := any.open(dict{})
		any = newHomeserver(t, setup{
			store: store, flows: []uia.Flow{{uia.TokenType, "m.login.password"}, {"m.login.dummy"}},
			change: func(c *uia.Config) { c.Operations[0].AnyOrder = true },
		})
		any.post(dict{"auth": dict{"session": anySession}}).is(t, 400, "M_UNKNOWN")
		before.post(dict{"auth": submitDummy(begun)}).is(t, 200, "")
	})

	t.Run("an operation that the configuration no longer has", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		s := h.send("DELETE", "/devices/A", "@a:test", dict{}).session()
		after := newHomeserver(t, setup{change: func(c *uia.Config) { c.Operations = c.Operations[:1] }})
		_, err := after.engine.Session(context.Background(), s)
		status, _, _ := uia.Answer(t.Context(), nil, err)
		assert.Equal(t, 400, status)
		after.send("DELETE", "/devices/A", "@a:test", dict{"auth": dict{"session": s}}).is(t, 500, "M_UNKNOWN") // the host's mistake
	})
}

func TestTargetIsBounded(t *testing.T) {
	h := newHomeserver(t, setup{})
	long := make([]byte, 1025)
	for i := range long {
		long[i] = 'a'
	}
	s := h.send("DELETE", "/devices/"+string(long[1:]), "@a:test", dict{}).session()
	h.send("DELETE", "/devices/"+string(long[1:]), "@a:test", dict{"auth": submitPassword(s, "right")}).is(t, 200, "")
	h.send("DELETE", "/devices/"+string(long), "@a:test", dict{}).is(t, 400, "M_INVALID_PARAM")
}

func TestOldSecretsStillOpenSessions(t *testing.T) {
	old, current := secret, []byte("the secret of today, which is 32 bytes or more")
	store := newMeter()
	rotate := func(s []byte, olds ...[]byte) *homeserver {
		return newHomeserver(t, setup{store: store, change: func(c *uia.Config) { c.Secrets = uia.FixedSecrets(s, olds...) }})
	}
	before := rotate(old)
	before.token("abc", 3)
	fresh, begun, finished := before.open(dict{"username": "fresh"}), before.open(dict{"username": "begun"}), before.open(dict{"username": "done"})
	assert.Len(t, before.post(dict{"auth": submitToken(begun, "abc")}).completed(), 1)
	assert.Len(t, before.post(dict{"auth": submitToken(finished, "abc")}).completed(), 1)
	result := before.post(dict{"auth": submitDummy(finished)})
	result.is(t, 200, "")

	after := rotate(current, []byte("the secret of the day before yesterday, unrelated"), old)
	assert.Equal(t, result.Body, after.post(dict{"auth": submitDummy(finished)}).Body)
	after.post(dict{"auth": submitDummy(begun)}).is(t, 200, "")
	assert.Len(t, after.post(dict{"auth": submitToken(fresh, "abc")}).completed(), 1)
	after.post(dict{"auth": submitDummy(fresh)}).is(t, 200, "")
	assert.Equal(t, 2, after.accounts.count())

	sealed := after.open(dict{}) // under the current secret: the old one is of no use to it
	before.post(dict{"auth": dict{"session": sealed}}).is(t, 400, "M_UNKNOWN")
	gone := rotate(current)
	for _, s := range []string{fresh, begun, finished} {
		gone.post(dict{"auth": dict{"session": s}}).is(t, 400, "M_UNKNOWN")
	}
	gone.post(dict{"auth": dict{"session": sealed}}).is(t, 401, "")
}
