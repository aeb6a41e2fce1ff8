package uia_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/seal"
)

func TestOperationsAreIndependent(t *testing.T) {
	h := newHomeserver(t, setup{})
	h.token("abc", 1)
	registration := h.open(dict{"username": "alice"})
	deletion := h.send("DELETE", "/devices/A", "@a:test", dict{"reason": "lost"})
	assert.Equal(t, []any{dict{"stages": []any{"m.login.password"}}}, deletion.JSON["flows"])
	h.post(dict{"auth": submitToken(registration, "abc")}).is(t, 401, "")
	h.send("DELETE", "/devices/A", "@a:test", dict{"auth": submitPassword(deletion.session(), "wrong")}).is(t, 401, "M_FORBIDDEN")
	h.send("DELETE", "/devices/A", "@a:test", dict{"auth": submitPassword(deletion.session(), "right")}).is(t, 200, "")
	h.post(dict{"auth": submitDummy(registration)}).is(t, 200, "")
	assert.Equal(t, []string{"@a:test/A"}, h.deletes)
	assert.Equal(t, 1, h.accounts.count())
}

func TestOperationSeesItsSession(t *testing.T) {
	h := newHomeserver(t, setup{flows: []uia.Flow{flowT}})
	meta := json.RawMessage(`{"role":"friend"}`)
	require.NoError(t, h.store.CreateTokens(t.Context(), uia.Token{Value: "abc", Meta: meta}))
	var got uia.Session
	h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		got = *s
		return h.accounts.create(ctx, s)
	}
	s := h.open(dict{"username": "alice", "n": 1})
	h.post(with(dict{"username": "alice", "n": 1}, submitToken(s, "abc"))).is(t, 200, "")
	assert.Equal(t, s, got.ID)
	assert.True(t, strings.HasPrefix(got.Key, "register."))
	assert.NotContains(t, got.Key, s)
	assert.Equal(t, "register", got.Operation)
	assert.Equal(t, []string{uia.TokenType}, got.Completed)
	assert.True(t, got.Has(uia.TokenType))
	assert.False(t, got.Has("m.login.dummy"))
	assert.Equal(t, "192.0.2.1", got.Client.String())
	assert.JSONEq(t, `{"username":"alice","n":1}`, string(got.Params))
	token, ok := got.Token()
	assert.True(t, ok)
	assert.Equal(t, "abc", token.Token)
	assert.JSONEq(t, string(meta), string(token.Meta))
	assert.Nil(t, got.Result("m.login.dummy"))
	assert.Empty(t, got.Opening("m.login.dummy"))
}

func TestAnyOrder(t *testing.T) {
	anyOrder := func(c *uia.Config) { c.Operations[0].AnyOrder = true }
	flows := []uia.Flow{{"first", "second", "m.login.dummy"}, {"second", "m.login.password"}}
	for _, order := range [][]string{
		{"first", "second", "m.login.dummy"}, {"m.login.dummy", "second", "first"}, {"second", "m.login.dummy", "first"},
	} {
		h := newProbed(t, func(c *uia.Config) { anyOrder(c); c.Operations[0].Flows = flows })
		s := h.open(dict{"username": "alice"})
		for i, typ := range order[:2] {
			a := h.post(dict{"auth": submit(s, typ)})
			a.is(t, 401, "")
			assert.Equal(t, order[:i+1], a.completed())
		}
		h.post(dict{"auth": submitPassword(s, "right")}).is(t, 401, "M_FORBIDDEN") // of the other flow
		h.post(dict{"auth": submit(s, order[2])}).is(t, 200, "")
	}
}

func TestFlowsFor(t *testing.T) {
	var flows []uia.Flow
	var problem error
	h := newProbed(t, func(c *uia.Config) {
		c.Operations[1].Flows = nil
		c.Operations[1].Resolve = uia.NotDone
		c.Operations[1].FlowsFor = func(_ context.Context, r uia.Request) ([]uia.Flow, error) {
			if r.Subject == "@passkey:test" {
				return []uia.Flow{{"first"}}, nil
			}
			return flows, problem
		}
	})
	del := func(user string, body dict) answer { return h.send("DELETE", "/devices/A", user, body) }
	flows = []uia.Flow{{"m.login.password"}}

	a := del("@passkey:test", dict{})
	assert.Equal(t, []any{dict{"stages": []any{"first"}}}, a.JSON["flows"])
	del("@passkey:test", dict{"auth": submitPassword(a.session(), "right")}).is(t, 401, "M_FORBIDDEN")
	del("@passkey:test", dict{"auth": submit(a.session(), "first")}).is(t, 200, "")

	a = del("@a:test", dict{})
	assert.Equal(t, []any{dict{"stages": []any{"m.login.password"}}}, a.JSON["flows"])
	flows = []uia.Flow{{"second"}, {"m.login.password"}} // the session keeps what it was opened with
	again := del("@a:test", dict{"auth": dict{"session": a.session()}})
	assert.Equal(t, a.JSON["flows"], again.JSON["flows"])
	flows = []uia.Flow{{"second"}} // and ends with a flow that is not offered any more
	del("@a:test", dict{"auth": dict{"session": a.session()}}).is(t, 400, "M_UNKNOWN")
	flows = []uia.Flow{{"m.login.password"}}
	del("@a:test", dict{"auth": submitPassword(a.session(), "right")}).is(t, 200, "")

	problem = uia.NewError(403, spec.Forbidden("You have no way to authenticate."))
	del("@a:test", dict{}).is(t, 403, "M_FORBIDDEN")
	problem = errors.New("directory down")
	del("@a:test", dict{}).is(t, 500, "M_UNKNOWN")
	problem = nil
	for _, none := range [][]uia.Flow{nil, {}} {
		flows = none
		del("@a:test", dict{}).is(t, 403, "M_FORBIDDEN")
	}
	for _, wrong := range [][]uia.Flow{{{}}, {{"m.nowhere"}}, {{"first"}, {"first", "second"}}} {
		flows = wrong
		del("@a:test", dict{}).is(t, 500, "M_UNKNOWN")
	}
	h.meter.reset()
	flows = []uia.Flow{{"first"}}
	del("@a:test", dict{})
	h.meter.untouched(t)
}

func TestFlowsForThatNameAStageNoMore(t *testing.T) {
	build := func(stages ...uia.Stage) *homeserver {
		return newHomeserver(t, setup{change: func(c *uia.Config) {
			c.Stages = append(c.Stages, stages...)
			c.Operations[1].Flows, c.Operations[1].Resolve = nil, uia.NotDone
			c.Operations[1].FlowsFor = func(context.Context, uia.Request) ([]uia.Flow, error) {
				if len(stages) == 0 {
					return []uia.Flow{{"m.login.password"}}, nil
				}
				return []uia.Flow{{"first"}}, nil
			}
		}})
	}
	s := build(&probe{typ: "first"}).send("DELETE", "/devices/A", "@a:test", dict{}).session()
	build().send("DELETE", "/devices/A", "@a:test", dict{"auth": submit(s, "first")}).is(t, 400, "M_UNKNOWN")

	// A session of static flows is none of FlowsFor's, and the other way round.
	static := newHomeserver(t, setup{})
	static.send("DELETE", "/devices/A", "@a:test", dict{"auth": submit(s, "first")}).is(t, 400, "M_UNKNOWN")
	s = static.send("DELETE", "/devices/A", "@a:test", dict{}).session()
	build().send("DELETE", "/devices/A", "@a:test", dict{"auth": submitPassword(s, "right")}).is(t, 400, "M_UNKNOWN")
}

func TestSessionsThatWouldNotOpenAgainAreNotIssued(t *testing.T) {
	h := newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Operations[1].Flows, c.Operations[1].Resolve = nil, uia.NotDone
		c.Operations[1].FlowsFor = func(context.Context, uia.Request) ([]uia.Flow, error) {
			flows := make([]uia.Flow, 0, 400)
			for i := range 400 {
				flows = append(flows, uia.Flow{"stage" + string(rune('a'+i/20)) + string(rune('a'+i%20)), "m.login.dummy"})
			}
			return flows, nil
		}
		for i := range 400 {
			c.Stages = append(c.Stages, &probe{typ: "stage" + string(rune('a'+i/20)) + string(rune('a'+i%20))})
		}
	}})
	h.send("DELETE", "/devices/A", "@a:test", dict{}).is(t, 500, "M_UNKNOWN") // the host's mistake, and told at once
}

// Whoever has read a secret of the homeserver can seal a session ID, but not with flows
// of their own: those are asked for again.
func TestForgedFlows(t *testing.T) {
	keys, err := seal.New(secret)
	require.NoError(t, err)
	h := newProbed(t, func(c *uia.Config) {
		c.Operations[1].Flows, c.Operations[1].Resolve = nil, uia.NotDone
		c.Operations[1].FlowsFor = func(context.Context, uia.Request) ([]uia.Flow, error) {
			return []uia.Flow{{"m.login.password"}}, nil
		}
	})
	forge := func(flows string) string {
		id, _ := keys.SealTicket(&seal.Ticket{
			Expires: h.clock.Now().Add(time.Hour).UnixMilli(), Operation: "delete_device", Subject: "@a:test", Target: "A", Flows: []byte(flows),
		})
		return id
	}
	for _, flows := range []string{`[["m.login.dummy"]]`, `[["m.login.password"],["m.login.dummy"]]`, `[[]]`, `[]`, `null`, ``, `{}`} {
		h.send("DELETE", "/devices/A", "@a:test", dict{"auth": submitDummy(forge(flows))}).is(t, 400, "M_UNKNOWN")
	}
	h.send("DELETE", "/devices/A", "@a:test", dict{"auth": submitDummy(forge(`[["m.login.password"]]`))}).is(t, 401, "M_FORBIDDEN")
	assert.Empty(t, h.deletes)
}
