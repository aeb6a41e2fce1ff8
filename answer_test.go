package uia_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
)

func TestAnswer(t *testing.T) {
	const internal = `{"errcode":"M_UNKNOWN","error":"Internal server error"}`
	cause := errors.New("not to be told")
	for name, tc := range map[string]struct {
		err    error
		status int
		body   string
		retry  string
	}{
		"an error":          {uia.NewError(400, spec.UserInUse("taken")), 400, `{"errcode":"M_USER_IN_USE","error":"taken"}`, ""},
		"wrapped":           {fmt.Errorf("outer: %w", uia.NewError(403, spec.Forbidden("no"))), 403, `{"errcode":"M_FORBIDDEN","error":"no"}`, ""},
		"with a cause":      {&uia.Error{Status: 502, MatrixError: spec.Unknown("later"), Cause: cause}, 502, `{"errcode":"M_UNKNOWN","error":"later"}`, ""},
		"retry":             {&uia.Error{Status: 429, MatrixError: spec.Unknown("wait"), RetryAfter: 1500 * time.Millisecond}, 429, `{"errcode":"M_UNKNOWN","error":"wait","retry_after_ms":1500}`, "2"},
		"retry, rounded up": {&uia.Error{Status: 429, MatrixError: spec.Unknown("wait"), RetryAfter: 1}, 429, `{"errcode":"M_UNKNOWN","error":"wait","retry_after_ms":1}`, "1"},
		"retry, exactly":    {&uia.Error{Status: 503, MatrixError: spec.Unknown("wait"), RetryAfter: time.Second}, 503, `{"errcode":"M_UNKNOWN","error":"wait","retry_after_ms":1000}`, "1"},
		"unknown":           {cause, 500, internal, ""},
		"nil":               {nil, 500, internal, ""},
		"no status":         {&uia.Error{MatrixError: spec.Unknown("x"), Cause: cause}, 500, internal, ""},
		"a status of none":  {&uia.Error{Status: 200, MatrixError: spec.Unknown("x")}, 500, internal, ""},
		"markup": {uia.NewError(400, spec.Unknown("<b>\"é\u2028")), 400,
			"{\"errcode\":\"M_UNKNOWN\",\"error\":\"<b>\\\"é\\u2028\"}", ""},
		"a challenge": {&uia.Challenge{Flows: []uia.Flow{{"a", "b"}}, Session: "s"}, 401,
			`{"flows":[{"stages":["a","b"]}],"params":{},"session":"s"}`, ""},
		"a challenge, wrapped": {fmt.Errorf("outer: %w", &uia.Challenge{
			Flows: []uia.Flow{{"a"}}, Params: map[string]json.RawMessage{"a": json.RawMessage(`{"k":1}`)}, Session: "é\"",
			Completed: []string{"a"}, ErrCode: "M_X", Message: "why", Cause: cause,
		}), 401, `{"flows":[{"stages":["a"]}],"params":{"a":{"k":1}},"session":"é\"","completed":["a"],"errcode":"M_X","error":"why"}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			status, header, body := uia.Answer(t.Context(), nil, tc.err)
			encoded, err := json.Marshal(body)
			require.NoError(t, err)
			assert.Equal(t, tc.status, status)
			assert.JSONEq(t, tc.body, string(encoded))
			assert.Equal(t, tc.retry, header.Get("Retry-After"))

			w := httptest.NewRecorder()
			uia.WriteError(w, httptest.NewRequest("GET", "/", nil), nil, tc.err)
			assert.Equal(t, tc.status, w.Code)
			assert.JSONEq(t, tc.body, w.Body.String())
			assert.Equal(t, tc.retry, w.Header().Get("Retry-After"))
			for name, value := range map[string]string{
				"Content-Type": "application/json", "Cache-Control": "no-store", "Access-Control-Allow-Origin": "*",
				"Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
				"Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
			} {
				assert.Equal(t, value, w.Header().Get(name))
			}
		})
	}
}

func TestErrorsAreGoErrors(t *testing.T) {
	cause := errors.New("cause")
	e := &uia.Error{Status: 400, MatrixError: spec.Forbidden("no"), Cause: cause}
	assert.ErrorIs(t, e, cause)
	assert.EqualError(t, e, "400 M_FORBIDDEN: no: cause")
	c := &uia.Challenge{Session: "secret", ErrCode: "M_X", Message: "why", Cause: cause}
	assert.ErrorIs(t, c, cause)
	assert.NotContains(t, c.Error(), "secret")
	assert.NotContains(t, (&uia.Challenge{Session: "secret"}).Error(), "secret")
	assert.NotEmpty(t, (&uia.Continue{}).Error())
}

func TestWriteJSON(t *testing.T) {
	log, text := logged()
	write := func(body any) (int, string) {
		w := httptest.NewRecorder()
		uia.WriteJSON(w, httptest.NewRequest("GET", "/", nil), log, 200, body)
		return w.Code, w.Body.String()
	}
	for want, body := range map[string]any{`{"as":"it is" }`: json.RawMessage(`{"as":"it is" }`), `{"a":1}`: dict{"a": 1}} {
		status, got := write(body)
		assert.Equal(t, 200, status)
		assert.Equal(t, want, got)
	}
	status, got := write(dict{"f": func() {}})
	assert.Equal(t, 500, status)
	assert.JSONEq(t, `{"errcode":"M_UNKNOWN","error":"Internal server error"}`, got)
	assert.Contains(t, text.String(), "the body of an answer does not encode: json: unsupported type: func()")
}

// reply is what handlers of some homeservers return, instead of writing it.
type reply struct {
	Code   int
	Header http.Header
	JSON   any
}

func (h *homeserver) handle(r *http.Request) reply {
	req, err := h.engine.Request(r, uia.Caller{Operation: "register"})
	if err == nil {
		var g *uia.Grant
		if g, err = h.engine.Authenticate(r.Context(), req); err == nil {
			assert.Equal(h.t, "register", g.Session().Operation)
			var body json.RawMessage
			if body, err = g.Finish(r.Context(), h.operate); err == nil {
				return reply{Code: 200, JSON: body}
			}
		}
	}
	code, header, body := h.engine.Answer(r.Context(), err)
	return reply{code, header, body}
}

func TestHostThatReturnsResponses(t *testing.T) {
	store := newMeter()
	h := newHomeserver(t, setup{store: store})
	h.token("abc", 1)
	serve := h.handler
	h.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := h.handle(r)
		maps.Copy(w.Header(), out.Header)
		wire.SetCORS(w.Header())
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(out.Code)
		require.NoError(t, json.NewEncoder(w).Encode(out.JSON))
	})
	a := h.post(dict{"username": "alice"})
	a.challenges(t, "flows", "params", "session")
	s := a.session()
	h.post("[").is(t, 400, "M_NOT_JSON")
	h.post(strings.Repeat(" ", 65<<10)).is(t, 413, "M_TOO_LARGE")
	h.post(dict{"auth": submitToken(s, "wrong")}).is(t, 401, "M_UNAUTHORIZED")
	a = h.post(dict{"auth": submitToken(s, "abc")})
	assert.Equal(t, []string{uia.TokenType}, a.completed())
	a = h.post(dict{"auth": submitDummy(s)})
	a.is(t, 200, "")
	assert.Equal(t, "@alice:test", a.JSON["user_id"])

	// Both kinds of hosts say the same.
	returned := h.post(dict{"auth": submitDummy(s)})
	h.handler = serve
	written := h.post(dict{"auth": submitDummy(s)})
	assert.Equal(t, returned.JSON, written.JSON)
}

func TestFinishIsCalledOnce(t *testing.T) {
	h := newHomeserver(t, setup{flows: []uia.Flow{{"m.login.dummy"}}})
	g, err := h.engine.Authenticate(t.Context(), uia.Request{Operation: "register", Body: []byte(`{"auth":{"type":"m.login.dummy"}}`)})
	require.NoError(t, err)
	_, err = g.Finish(t.Context(), h.operate)
	require.NoError(t, err)
	_, err = g.Finish(t.Context(), h.operate)
	status, _, _ := uia.Answer(t.Context(), nil, err)
	assert.Equal(t, 500, status)
	assert.Equal(t, 1, h.accounts.count())
}
