package uia_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// validity asks the validity endpoint of h.
type validity struct {
	*homeserver
	meter   *meter
	clock   *handClock
	handler http.Handler
}

func newValidity(t testing.TB, change func(*uia.Config), opts *uia.ValidityOptions) *validity {
	v := &validity{meter: newMeter(), clock: newClock()}
	v.homeserver = newHomeserver(t, setup{store: v.meter, change: func(c *uia.Config) {
		c.Now = v.clock.Now
		if change != nil {
			change(c)
		}
	}})
	var err error
	v.handler, err = uia.ValidityHandler(v.engine, v.meter, opts)
	require.NoError(t, err)
	return v
}

func (v *validity) request(method, query string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	ctx, cancel := context.WithTimeout(v.t.Context(), 10*time.Second) // a limiter may make it wait
	defer cancel()
	v.handler.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, uia.ValidityPath+query, nil))
	return w
}

func (v *validity) ask(token string) *httptest.ResponseRecorder {
	return v.request("GET", "?token="+url.QueryEscape(token))
}

func (v *validity) add(token uia.Token) {
	v.t.Helper()
	require.NoError(v.t, v.store.CreateTokens(context.Background(), token))
}

func TestValidity(t *testing.T) {
	v := newValidity(t, nil, nil)
	now := v.clock.Now()
	for value, token := range map[string]uia.Token{
		"abc": {UsesAllowed: new(int64(1))}, "a.b_c~d-1": {}, "expires": {Expires: now.Add(time.Millisecond)}, strings.Repeat("a", 64): {},
	} {
		token.Value = value
		v.add(token)
		v.meter.reset()
		w := v.ask(value)
		assert.Equal(t, 200, w.Code)
		assert.JSONEq(t, `{"valid":true}`, w.Body.String())
		reads, writes := v.meter.counts()
		assert.Equal(t, []int{1, 0}, []int{reads, writes}, "one read")
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	}
	assert.JSONEq(t, `{"valid":true}`, v.request("GET", "?token=abc&other=1").Body.String())
}

func TestValidityTellsNothingAboutAFalse(t *testing.T) {
	v := newValidity(t, nil, nil)
	now := v.clock.Now()
	v.add(uia.Token{Value: "expired", Expires: now})
	v.add(uia.Token{Value: "disabled", UsesAllowed: new(int64(0))})
	v.add(uia.Token{Value: "revoked", Revoked: true})
	v.add(uia.Token{Value: "everything", Revoked: true, Expires: now.Add(-time.Hour), UsesAllowed: new(int64(0))})
	v.token("used-up", 1)
	v.token("held", 1)
	v.token("deleted", 1)
	require.NoError(t, v.store.DeleteToken(t.Context(), "deleted"))
	v.post(with(dict{"username": "alice"}, dict{"type": uia.TokenType, "token": "held"})).is(t, 401, "")
	s := v.post(with(dict{"username": "bob"}, dict{"type": uia.TokenType, "token": "used-up"})).session()
	v.post(dict{"auth": submitDummy(s)}).is(t, 200, "")

	want := v.ask("unknown")
	assert.Equal(t, 200, want.Code)
	assert.Equal(t, `{"valid":false}`, want.Body.String())
	for _, token := range []string{
		"expired", "disabled", "revoked", "everything", "used-up", "held", "deleted", "USED-UP",
		"", " ", "a b", "a/b", "é", "\x00", "\xff", "unknown\n", strings.Repeat("a", 65), strings.Repeat("a", 6000), "' OR 1=1 --", `{"a":1}`,
	} {
		w := v.ask(token)
		assert.Equal(t, want.Code, w.Code, "%q", token)
		assert.Equal(t, want.Body.Bytes(), w.Body.Bytes(), "%q", token)
		assert.Equal(t, want.Header(), w.Header(), "%q", token)
	}
	v.clock.advance(uia.DefaultHoldTTL)
	assert.JSONEq(t, `{"valid":true}`, v.ask("held").Body.String(), "the hold has lapsed")
}

func TestValidityReads(t *testing.T) {
	v := newValidity(t, nil, nil)
	v.token("abc", 1)
	for token, want := range map[string]int{
		"abc": 1, "unknown": 1, strings.Repeat("a", 64): 1,
		"": 0, "a b": 0, "é": 0, "abc\x00": 0, strings.Repeat("a", 65): 0, strings.Repeat("a", 1<<20): 0,
	} {
		v.meter.reset()
		v.ask(token)
		reads, writes := v.meter.counts()
		assert.Equal(t, []int{want, 0}, []int{reads, writes}, "%.70q", token)
	}
}

func TestValidityRefusals(t *testing.T) {
	off := false
	v := newValidity(t, nil, &uia.ValidityOptions{Disabled: func(*http.Request) bool { return off }})
	v.token("abc", 1)
	v.meter.reset()
	refused := func(w *httptest.ResponseRecorder, status int, errcode string) {
		t.Helper()
		assert.Equal(t, status, w.Code)
		assert.Contains(t, w.Body.String(), `"errcode":"`+errcode+`"`)
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
		v.meter.untouched(t)
	}
	for _, query := range []string{"", "?", "?Token=abc", "?tok=abc", "?token=%zz", "?token=abc;x=1", "?token=%"} {
		refused(v.request("GET", query), 400, "M_MISSING_PARAM")
	}
	for _, query := range []string{"?token=abc&token=abc", "?token=abc&token="} {
		refused(v.request("GET", query), 400, "M_INVALID_PARAM")
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} {
		w := v.request(method, "?token=abc")
		refused(w, 405, "M_UNRECOGNIZED")
		assert.Equal(t, "GET, HEAD, OPTIONS", w.Header().Get("Allow"))
	}
	w := v.request("OPTIONS", "?token=abc")
	assert.Equal(t, 204, w.Code)
	assert.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	v.meter.untouched(t)

	off = true
	refused(v.request("GET", "?token=abc"), 403, "M_FORBIDDEN")
	refused(v.request("GET", ""), 403, "M_FORBIDDEN")
	refused(v.request("POST", ""), 405, "M_UNRECOGNIZED")
	off = false
	assert.JSONEq(t, `{"valid":true}`, v.ask("abc").Body.String(), "it is asked for each request")
}

func TestValidityHead(t *testing.T) {
	v := newValidity(t, nil, nil)
	v.token("abc", 1)
	server := httptest.NewServer(v.handler)
	defer server.Close()
	for query, status := range map[string]int{"?token=abc": 200, "?token=x": 200, "": 400} {
		r, err := server.Client().Head(server.URL + uia.ValidityPath + query)
		require.NoError(t, err)
		require.NoError(t, r.Body.Close())
		assert.Equal(t, status, r.StatusCode)
		assert.Equal(t, "application/json", r.Header.Get("Content-Type"))
	}
}

func TestValidityStoreDown(t *testing.T) {
	logger, out := logged()
	v := newValidity(t, func(c *uia.Config) { limited(1)(c); c.Logger = logger }, nil)
	v.meter.fail = func(string) error { return errors.New("connection refused") }
	for range 3 { // nobody is charged for it
		w := v.ask("abc")
		assert.Equal(t, 500, w.Code)
		assert.JSONEq(t, `{"errcode":"M_UNKNOWN","error":"Internal server error"}`, w.Body.String())
	}
	assert.Contains(t, out.String(), "connection refused")
	assert.NotContains(t, out.String(), "abc")
}

func TestValidityBudget(t *testing.T) {
	v := newValidity(t, limited(4), nil)
	v.token("abc", 1)
	for range 20 {
		assert.Equal(t, 200, v.ask("abc").Code, "a right token is never charged")
		assert.Equal(t, 400, v.request("GET", "").Code)
	}
	s := v.open(dict{})
	v.ask("wrong")
	v.post(dict{"auth": submitToken(s, "wrong")}).is(t, 401, "M_UNAUTHORIZED")
	v.ask("not a token")
	v.post(dict{"auth": submitToken(s, "wrong, too")}).is(t, 401, "M_UNAUTHORIZED")

	v.meter.reset()
	w := v.ask("abc") // the budget of both is spent
	assert.Equal(t, 429, w.Code)
	assert.JSONEq(t, `{"errcode":"M_LIMIT_EXCEEDED","error":"Too many failed attempts. Please try again in 10 seconds.","retry_after_ms":10000}`, w.Body.String())
	assert.Equal(t, "10", w.Header().Get("Retry-After"))
	v.meter.untouched(t)
	v.post(dict{"auth": submitToken(s, "abc")}).is(t, 429, "M_LIMIT_EXCEEDED")
	v.clock.advance(10 * time.Second)
	assert.JSONEq(t, `{"valid":true}`, v.ask("abc").Body.String())
}

func TestValidityClientUnknown(t *testing.T) {
	v := newValidity(t, func(c *uia.Config) {
		limited(5)(c)
		c.Client = func(*http.Request) netip.Addr { return netip.Addr{} }
	}, nil)
	v.token("abc", 1)
	assert.Equal(t, 500, v.ask("abc").Code)
}

// gone panics where a guess is looked at.
type gone struct{ uia.Store }

func (gone) Token(context.Context, string, time.Time) (uia.Token, error) { panic("a driver's mistake") }

func TestAPanicLeavesNoGuessInFlight(t *testing.T) {
	v := newValidity(t, limited(2), nil)
	var err error
	v.handler, err = uia.ValidityHandler(v.engine, gone{v.store}, nil)
	require.NoError(t, err)
	h := newProbed(t, limited(2))
	h.first.attempt = func(*uia.Session, json.RawMessage) (json.RawMessage, error) { panic("a stage's mistake") }
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // else the third guess would wait for ever
	defer cancel()
	for range 5 {
		assert.Panics(t, func() {
			v.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", uia.ValidityPath+"?token=abc", nil))
		})
		_, err := h.engine.Authenticate(ctx, uia.Request{Operation: "register", Client: netip.MustParseAddr("192.0.2.1"), Body: []byte(`{"auth":{"type":"first"}}`)})
		assert.ErrorContains(t, err, "500 M_UNKNOWN")
	}
}

// A token that was copied brings white space along, wherever it is typed.
func TestATokenWithWhiteSpaceAround(t *testing.T) {
	v := newValidity(t, nil, nil)
	v.token("abc", 1)
	for _, query := range []string{"%20abc", "abc%0A", "+abc%0d%0a", "%C2%A0abc", "abc&%zz", "abc&a;b"} {
		assert.JSONEq(t, `{"valid":true}`, v.request("GET", "?token="+query).Body.String(), query)
	}
	for _, query := range []string{"ab%20c", "%20", "abc%00"} {
		assert.JSONEq(t, `{"valid":false}`, v.request("GET", "?token="+query).Body.String(), query)
	}
	s := v.open(dict{})
	v.post(dict{"auth": submitToken(s, "ab c")}).is(t, 401, "M_UNAUTHORIZED")
	a := v.post(dict{"auth": submitToken(s, "\u00a0abc\n")})
	assert.Equal(t, []string{uia.TokenType}, a.completed(), a.Body)
}

func TestValidityIsAGuess(t *testing.T) {
	var events []uia.Event
	v := newValidity(t, func(c *uia.Config) {
		limited(2)(c)
		c.Observer = func(_ context.Context, ev uia.Event) { events = append(events, ev) }
	}, nil)
	v.token("abc", 1)
	v.add(uia.Token{Value: "gone", Expires: v.clock.Now()})
	for _, token := range []string{"abc", "wrong", "gone", "abc"} {
		v.ask(token)
	}
	failed := uia.Event{Kind: uia.EventStageFailed, Operation: "validity", Stage: uia.TokenType, Client: netip.MustParseAddr("192.0.2.1"), Reason: "not found"}
	expired := failed
	expired.Reason = "token expired"
	assert.Equal(t, []uia.Event{failed, expired, {Kind: uia.EventLimitHit, Client: failed.Client}}, events)
}

// A page that is told why a token cannot be used is charged like the endpoint.
func TestLookUpToken(t *testing.T) {
	v := newValidity(t, nil, nil)
	once := int64(1)
	v.add(uia.Token{Value: "good", UsesAllowed: &once, Label: "for Bob"})
	v.add(uia.Token{Value: "revoked", Revoked: true})
	v.add(uia.Token{Value: "expired", Expires: v.clock.Now().Add(-time.Hour)})
	v.add(uia.Token{Value: "used", UsesAllowed: new(int64(0))})
	look := func(value string) (uia.Token, error) {
		return v.engine.LookUpToken(t.Context(), netip.MustParseAddr("192.0.2.77"), v.meter, value)
	}
	token, err := look(" good\n")
	require.NoError(t, err)
	assert.Equal(t, "for Bob", token.Label)
	for value, want := range map[string]error{
		"revoked": uia.ErrRevoked, "expired": uia.ErrExpired, "used": uia.ErrExhausted, "unknown": uia.ErrNotFound, "no token": uia.ErrNotFound,
	} {
		token, err := look(value)
		assert.ErrorIs(t, err, want, value)
		if want != uia.ErrNotFound {
			assert.Equal(t, value, token.Value)
		}
	}
}
