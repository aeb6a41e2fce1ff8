package register_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// echo answers with the body that it gets, and that is where it came from.
func echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		uia.WriteJSON(w, r, nil, 200, dict{"handler": name, "body": string(body), "length": r.ContentLength})
	})
}

func TestGuests(t *testing.T) {
	requests := []struct{ query, body string }{
		{"?kind=guest", ""}, {"?kind=guest", "{}"}, {"?x=1&kind=guest", `{"initial_device_display_name":"phone"}`},
		{"", `{"kind":"guest"}`}, {"?", `{"kind":"guest","auth":{"type":"m.login.dummy"}}`}, {"?kind=guest", `{"kind":"user"}`},
	}
	s := newServer(t, nil)
	for _, r := range requests {
		a := s.post(r.query, r.body)
		a.is(t, 403, "M_GUEST_ACCESS_FORBIDDEN")
		assert.Empty(t, a.session(), "a guest was asked for a token")
	}
	s = newServer(t, func(r *register.Registration) { r.Guest = echo("guest") })
	for _, r := range requests {
		a := s.post(r.query, r.body)
		a.is(t, 200, "")
		assert.Equal(t, dict{"handler": "guest", "body": r.body, "length": float64(len(r.body))}, a.JSON)
	}
	assert.Empty(t, s.accounts.created)
}

func TestKinds(t *testing.T) {
	s := newServer(t, func(r *register.Registration) { r.Guest = echo("guest") })
	for _, r := range []struct{ query, body string }{
		{"", "{}"}, {"?kind=user", "{}"}, {"?kind=", "{}"}, {"?", `{"kind":"user"}`}, {"", `{"kind":null}`}, {"", `{"kind":""}`},
		{"?kind=user", `{"kind":"guest"}`}, // the query is where it belongs
		{"", `{"x":{"kind":"guest"}}`}, {"", `{"Kind":"guest"}`}, {"?Kind=guest", "{}"},
	} {
		s.post(r.query, r.body).is(t, 401, "")
	}
	s.post("", `{"password":"\"kind\":\"guest\""}`).is(t, 401, "")
	s.post("?kind=bot", "{}").is(t, 400, "M_INVALID_PARAM")
	s.post("", `{"kind":"GUEST"}`).is(t, 400, "M_INVALID_PARAM")
	s.post("", `{"kind":1}`).is(t, 400, "M_BAD_JSON")
	s.post("", `["kind"]`).is(t, 400, "M_BAD_JSON")
	s.post("", `{"kind"}`).is(t, 400, "M_NOT_JSON")
	s.post("", `{"kind":"user","kind":"user"}`).is(t, 400, "M_BAD_JSON")
	for _, query := range []string{"?kind=%zz", "?%zz", "?a;b", "?&&==&", "?x=%00%ff"} {
		s.post(query, "{}").is(t, 401, "") // nothing is used of it
	}
	s.post("?%zz&kind=guest", "{}").is(t, 200, "")
}

func TestApplicationServices(t *testing.T) {
	const body = `{"type":"m.login.application_service","username":"_bridge_bot"}`
	s := newServer(t, nil)
	s.post("", body).is(t, 400, "M_UNRECOGNIZED")
	s.post("", `{"auth":{"type":"m.login.application_service"}}`).is(t, 401, "M_FORBIDDEN") // a stage of no flow
	s = newServer(t, func(r *register.Registration) { r.AppService = echo("application service") })
	a := s.post("", body)
	assert.Equal(t, dict{"handler": "application service", "body": body, "length": float64(len(body))}, a.JSON)
	for _, other := range []string{
		`{"type":"m.login.password"}`, `{"type":["m.login.application_service"]}`, `{"x":"m.login.application_service"}`, `{"Type":"m.login.application_service"}`,
	} {
		s.post("", other).is(t, 401, "")
	}
	s.post("", `{"type":"m.login.application_service"`).is(t, 400, "M_NOT_JSON")
}

func TestDisabled(t *testing.T) {
	off := true
	s := newServer(t, func(r *register.Registration) {
		r.Disabled, r.Guest = func(*http.Request) bool { return off }, echo("guest")
	})
	for _, r := range []struct{ query, body string }{
		{"", "{}"}, {"?kind=guest", "{}"}, {"", `{"username":"taken"}`}, {"", `{"username":"NOT A NAME"}`}, {"", "not JSON"}, {"", `{"kind":"guest"}`},
	} {
		s.post(r.query, r.body).is(t, 403, "M_FORBIDDEN")
	}
	s.get("?username=alice").is(t, 403, "M_FORBIDDEN")
	assert.Empty(t, s.accounts.asked)
	off = false
	session := s.post("", "{}").session()
	s.post("?kind=guest", "{}").is(t, 200, "")
	off = true
	s.post("", dict{"auth": dict{"session": session}}).is(t, 403, "M_FORBIDDEN") // at once
}

func TestMethods(t *testing.T) {
	s := newServer(t, nil)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH"} {
		a := s.do(s.handler, request(t, method, "/register"))
		a.is(t, 405, "M_UNRECOGNIZED")
		assert.Equal(t, "POST, OPTIONS", a.Header.Get("Allow"))
	}
	a := s.do(s.handler, request(t, "OPTIONS", "/register"))
	assert.Equal(t, 204, a.Status)
	assert.Equal(t, "*", a.Header.Get("Access-Control-Allow-Origin"))
}

func request(t testing.TB, method, target string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, http.NoBody)
	assert.NoError(t, err)
	return r
}
