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
)

// terms has parameters that may change while a session is open, and remembers
// the version that it has shown.
type terms struct {
	*probe
	version string
	params  json.RawMessage
	err     error
}

func (p *terms) Params(_ context.Context, s *uia.Session) (json.RawMessage, error) {
	if p.params != nil || p.err != nil {
		return p.params, p.err
	}
	return json.Marshal(map[string]string{"shown": s.Opening("terms"), "for": string(s.Params)})
}

func (p *terms) Opening(context.Context, *uia.Session) (string, error) { return p.version, p.err }

func newTerms(t testing.TB) (*homeserver, *terms) {
	stage := &terms{probe: &probe{typ: "terms"}, version: "1.0"}
	h := newHomeserver(t, setup{flows: []uia.Flow{{"terms", "m.login.dummy"}}, change: func(c *uia.Config) {
		c.Stages = append(c.Stages, stage)
	}})
	return h, stage
}

func TestParamsStage(t *testing.T) {
	h, stage := newTerms(t)
	a := h.post(dict{"username": "alice"})
	a.challenges(t, "flows", "params", "session")
	assert.Equal(t, dict{"terms": dict{"shown": "1.0", "for": `{"username":"alice"}`}}, a.JSON["params"])
	b := h.post(dict{"auth": submit(a.session(), "terms")})
	assert.Equal(t, a.JSON["params"], b.JSON["params"], "they are in every challenge")
	h.post(dict{"auth": submitPassword(a.session(), "right")}).is(t, 401, "M_FORBIDDEN")

	stage.params = json.RawMessage(`{"x":[1,{"y":"</script>"}]}`)
	assert.Equal(t, dict{"terms": dict{"x": []any{1.0, dict{"y": "</script>"}}}}, h.post(dict{}).JSON["params"])
	stage.params, stage.err = nil, errors.New("no template")
	h.post(dict{}).is(t, 500, "M_UNKNOWN")
	stage.err = uia.NewError(403, spec.Forbidden("Not for you."))
	h.post(dict{}).is(t, 403, "M_FORBIDDEN")
}

// quiet is a ParamsStage without parameters.
type quiet struct{ *probe }

func (quiet) Params(context.Context, *uia.Session) (json.RawMessage, error) { return nil, nil }

func TestParamsStageWithoutParams(t *testing.T) {
	h := newHomeserver(t, setup{flows: []uia.Flow{{"quiet"}}, change: func(c *uia.Config) {
		c.Stages = append(c.Stages, quiet{&probe{typ: "quiet"}})
	}})
	assert.Equal(t, dict{}, h.post(dict{}).JSON["params"])
}

func TestOpeningStage(t *testing.T) {
	h, stage := newTerms(t)
	var seen []string
	stage.attempt = func(s *uia.Session, _ json.RawMessage) (json.RawMessage, error) {
		seen = append(seen, s.Opening("terms"), s.Opening("m.login.dummy"))
		return nil, nil
	}
	s := h.open(dict{})
	stage.version = "2.0" // published while the session is open
	h.post(dict{"auth": submit(s, "terms")}).is(t, 401, "")
	assert.Equal(t, []string{"1.0", ""}, seen)
	h.post(dict{"auth": dict{"type": "terms"}}).is(t, 401, "")
	assert.Equal(t, []string{"2.0", ""}, seen[2:])
	stage.version = ""
	s = h.open(dict{})
	h.post(dict{"auth": submit(s, "terms")}).is(t, 401, "")
	assert.Equal(t, []string{"", ""}, seen[4:])
	stage.version = strings.Repeat("v", 512)
	s = h.open(dict{})
	h.post(dict{"auth": submit(s, "terms")}).is(t, 401, "")
	assert.Equal(t, stage.version, seen[6])
}

func TestContinue(t *testing.T) {
	h := newProbed(t, limited(1))
	s := h.open(dict{"username": "alice"})
	h.first.attempt = func(_ *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
		var code string
		if ok, err := uia.Field(auth, "code", &code); err != nil || ok {
			return nil, err
		}
		return nil, &uia.Continue{Extra: map[string]json.RawMessage{
			"challenge": json.RawMessage(`{"nonce":1}`), "nothing": nil,
			"session": json.RawMessage(`"stolen"`), "completed": json.RawMessage(`["first","second"]`), "errcode": json.RawMessage(`"M_X"`),
		}}
	}
	for range 3 { // it is no failure
		a := h.post(dict{"auth": submit(s, "first")})
		a.challenges(t, "flows", "params", "session", "challenge", "nothing")
		assert.Equal(t, dict{"nonce": 1.0}, a.JSON["challenge"])
		assert.Equal(t, s, a.session(), "an extra member replaced one of ours")
	}
	h.meter.unwritten(t)
	a := h.post(dict{"auth": dict{"type": "first", "session": s, "code": "123"}})
	a.challenges(t, "flows", "params", "session", "completed")
}

func TestComplete(t *testing.T) {
	h := newProbed(t, nil)
	complete := func(c uia.Completion) answer {
		status, _, body := h.engine.Answer(t.Context(), h.engine.Complete(t.Context(), c))
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		a := answer{Status: status, Body: string(encoded)}
		require.NoError(t, json.Unmarshal(encoded, &a.JSON))
		return a
	}
	refused := func(c uia.Completion, status int, errcode string) {
		t.Helper()
		a := complete(c)
		assert.Equal(t, status, a.Status, a.Body)
		assert.Equal(t, errcode, a.errcode())
	}
	s := h.open(dict{"username": "alice"})
	refused(uia.Completion{Session: "x", Type: "first"}, 400, "M_UNKNOWN")
	refused(uia.Completion{Type: "first"}, 400, "M_UNKNOWN")
	refused(uia.Completion{Session: s, Type: "second"}, 403, "M_FORBIDDEN")
	refused(uia.Completion{Session: s, Type: "m.nowhere"}, 403, "M_FORBIDDEN")
	refused(uia.Completion{Session: s}, 403, "M_FORBIDDEN")
	h.meter.unwritten(t)

	first := uia.Completion{Session: s, Type: "first", Result: json.RawMessage(`{"sub":"a"}`)}
	require.NoError(t, h.engine.Complete(t.Context(), first))
	h.meter.reset()
	require.NoError(t, h.engine.Complete(t.Context(), first), "a repeated one is nothing")
	h.meter.unwritten(t)
	assert.Equal(t, []string{"first"}, h.post(dict{"auth": dict{"session": s}}).completed())

	var result json.RawMessage
	h.second.attempt = func(s *uia.Session, _ json.RawMessage) (json.RawMessage, error) {
		result = s.Result("first")
		return nil, nil
	}
	h.post(dict{"auth": submit(s, "second")}).is(t, 200, "")
	assert.JSONEq(t, `{"sub":"a"}`, string(result))
	refused(first, 403, "M_FORBIDDEN") // the session is finished
	s = h.open(dict{})
	h.clock.advance(time.Hour)
	refused(uia.Completion{Session: s, Type: "first"}, 400, "M_UNKNOWN")
}

func TestCompleteHoldsATokenToo(t *testing.T) {
	h := newHomeserver(t, setup{})
	h.token("abc", 1)
	s := h.open(dict{"username": "alice"})
	c := uia.Completion{Session: s, Type: uia.TokenType, Result: json.RawMessage(`{"token":"abc"}`)}
	require.NoError(t, h.engine.Complete(t.Context(), c))
	pending, _ := h.left("abc")
	assert.EqualValues(t, 1, pending)
	other := h.open(dict{"username": "bob"})
	c.Session = other
	status, _, _ := h.engine.Answer(t.Context(), h.engine.Complete(t.Context(), c))
	assert.Equal(t, 401, status)
	h.post(dict{"auth": submitDummy(s)}).is(t, 200, "")
}

func TestEngineSession(t *testing.T) {
	h := newProbed(t, nil)
	s := h.open(dict{"username": "alice"})
	h.meter.reset()
	got, err := h.engine.Session(t.Context(), s)
	require.NoError(t, err)
	assert.Equal(t, []any{s, "register", "", ""}, []any{got.ID, got.Operation, got.Subject, got.Target})
	assert.JSONEq(t, `{"username":"alice"}`, string(got.Params))
	assert.Empty(t, got.Completed)
	assert.Equal(t, h.clock.Now().Add(time.Hour), got.Expires.Local())
	h.post(with(dict{"username": "bob"}, submit(s, "first")))
	got, err = h.engine.Session(t.Context(), s)
	require.NoError(t, err)
	assert.True(t, got.Has("first"))
	assert.JSONEq(t, `{"username":"bob"}`, string(got.Params))

	del := h.send("DELETE", "/devices/A", "@a:test", dict{}).session()
	got, err = h.engine.Session(t.Context(), del)
	require.NoError(t, err)
	assert.Equal(t, []string{"delete_device", "@a:test", "A", "{}"}, []string{got.Operation, got.Subject, got.Target, string(got.Params)})

	h.post(dict{"auth": submit(s, "second")}).is(t, 200, "")
	for id, want := range map[string]int{s: 403, "x": 400, "": 400} {
		_, err = h.engine.Session(t.Context(), id)
		status, _, _ := uia.Answer(t.Context(), nil, err)
		assert.Equal(t, want, status)
	}
	h.meter.fail = func(string) error { return errors.New("down") }
	_, err = h.engine.Session(t.Context(), del)
	status, _, _ := uia.Answer(t.Context(), nil, err)
	assert.Equal(t, 500, status)
}
