package uia_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
)

// attempt attempts the token stage apart from the client's requests.
func (h *homeserver) attempt(session, token string) error {
	auth, err := json.Marshal(dict{"token": token})
	require.NoError(h.t, err)
	s := &uia.Session{ID: session}
	if known, err := h.engine.Session(h.t.Context(), session); err == nil {
		s = known
	}
	s.Client = netip.MustParseAddr("192.0.2.1")
	return h.engine.Attempt(h.t.Context(), s, uia.TokenType, auth)
}

func status(t testing.TB, err error) int {
	t.Helper()
	require.Error(t, err)
	code, _, _ := uia.Answer(t.Context(), nil, err)
	return code
}

// What a stage's own page needs: where the session is, and an attempt that never runs
// the operation.
func TestAttemptApart(t *testing.T) {
	h := newHomeserver(t, setup{flows: []uia.Flow{{uia.TokenType}, {"m.login.dummy", uia.TokenType}}, change: func(c *uia.Config) {
		c.Limiter = newLimiter(t, nil)
		c.Operations[0].Describe = func(s *uia.Session, _ form.Say) string { return "register with " + strings.Join(s.Next(), " or ") }
	}})
	h.token("right", 1)
	id := h.post(dict{"username": "alice", "password": "secret"}).session()
	s, err := h.engine.Session(t.Context(), id)
	require.NoError(t, err)
	assert.Equal(t, []string{uia.TokenType, "m.login.dummy"}, s.Next())
	assert.Equal(t, "register with "+uia.TokenType+" or m.login.dummy", s.Describe(nil))

	err = h.attempt(id, "wrong")
	assert.Equal(t, 401, status(t, err))
	challenge, ok := errors.AsType[*uia.Challenge](err)
	require.True(t, ok)
	assert.EqualValues(t, "M_UNAUTHORIZED", challenge.ErrCode)
	for range 59 {
		assert.Equal(t, 401, status(t, h.attempt(id, "wrong")))
	}
	assert.Equal(t, 429, status(t, h.attempt(id, "right")), "failures are charged to the client")

	assert.Equal(t, 400, status(t, h.attempt("forged", "right")))
	device := h.send("DELETE", "/devices/A", "@alice:test", dict{}).session()
	assert.Equal(t, 403, status(t, h.attempt(device, "right")), "that session does not wait for the stage")
	s, err = h.engine.Session(t.Context(), device)
	require.NoError(t, err)
	assert.Equal(t, "delete_device", s.Describe(nil), "without a Describe it is the name")
}

func TestAttemptApartCompletes(t *testing.T) {
	h := newHomeserver(t, setup{flows: []uia.Flow{{uia.TokenType}}})
	h.token("right", 1)
	id := h.post(dict{"username": "alice", "password": "secret"}).session()
	require.NoError(t, h.attempt(id, "right"))
	require.NoError(t, h.attempt(id, "wrong"), "a completed stage is left as it is")
	s, err := h.engine.Session(t.Context(), id)
	require.NoError(t, err)
	assert.Empty(t, s.Next())
	assert.True(t, s.Has(uia.TokenType))
	assert.Zero(t, h.accounts.count(), "the operation is the client's to run")
	h.post(dict{"username": "alice", "password": "secret", "auth": dict{"session": id}}).is(t, 200, "")
	assert.Equal(t, 403, status(t, h.attempt(id, "right")), "finished")
}

func TestAttemptApartContinues(t *testing.T) {
	p := newProbed(t, nil)
	p.first.attempt = func(*uia.Session, json.RawMessage) (json.RawMessage, error) {
		return nil, &uia.Continue{Extra: map[string]json.RawMessage{"next": json.RawMessage(`1`)}}
	}
	id := p.post(dict{}).session()
	s, err := p.engine.Session(t.Context(), id)
	require.NoError(t, err)
	err = p.engine.Attempt(t.Context(), s, "first", json.RawMessage(`{}`))
	next, ok := errors.AsType[*uia.Continue](err)
	require.True(t, ok, "%v", err)
	assert.JSONEq(t, `1`, string(next.Extra["next"]))
}

func TestStageOfAnEngine(t *testing.T) {
	h := newHomeserver(t, setup{})
	assert.Equal(t, uia.TokenType, h.engine.Stage(uia.TokenType).Type())
	assert.Nil(t, h.engine.Stage("m.login.msisdn"))
}

// Nothing is logged twice, however many hands an error goes through.
func TestAnErrorIsLoggedOnce(t *testing.T) {
	logger, text := logged()
	h := newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Logger = logger
		c.Operations[0].Check = func(context.Context, *uia.Session) error { return errors.New("the disk is full") }
	}})
	_, err := h.engine.Authenticate(t.Context(), uia.Request{Operation: "register"})
	for range 2 {
		code, _, body := h.engine.Answer(t.Context(), err)
		assert.Equal(t, 500, code)
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		assert.NotContains(t, string(encoded), "disk")
	}
	h.engine.WriteError(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil), err)
	assert.Equal(t, 1, strings.Count(text.String(), "the disk is full"))

	_, _, _ = h.engine.Answer(t.Context(), &uia.Error{Status: 502, Cause: errors.New("no route")})
	assert.Equal(t, 1, strings.Count(text.String(), "no route"), "an error of the host's own is logged too")
}
