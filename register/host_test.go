package register_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// at sends a body to a virtual host.
func (s *server) at(host string, body dict) answer {
	s.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(s.t, err)
	r := httptest.NewRequest("POST", "/_matrix/client/v3/register", strings.NewReader(string(encoded)))
	r.Host = host
	r.Header.Set("User-Agent", "client of "+host)
	return s.do(s.handler, r)
}

// Two servers of one process: each has its own names, and a session of one is nothing to
// the other.
func TestVirtualHosts(t *testing.T) {
	long := strings.Repeat("l", 200) + ".example"
	closed := false
	s := newServer(t, func(r *register.Registration) {
		r.Host = func(r *http.Request) string {
			switch r.Host {
			case "a.example", long:
				return r.Host
			}
			return ""
		}
		r.Disabled = func(r *http.Request) bool { return closed && r.Host == "a.example" }
	})
	alice := dict{"username": "alice", "password": "pw"}
	session := s.at("a.example", alice).session()
	token := with(alice, dict{"type": uia.TokenType, "token": "abc", "session": session})
	last := with(alice, dict{"type": "m.login.dummy", "session": session})
	s.at("a.example", token).is(t, 401, "")
	s.at(long, token).is(t, 403, "M_FORBIDDEN")
	s.at(long, last).is(t, 403, "M_FORBIDDEN")
	a := s.at("a.example", last)
	a.is(t, 200, "")
	assert.Equal(t, "a.example", a.JSON["home_server"])
	made := s.accounts.last(t)
	assert.Equal(t, "a.example", made.ServerName)
	assert.Equal(t, "client of a.example", made.Request.Header.Get("User-Agent"))
	assert.NotContains(t, s.accounts.servers, long)

	// The length of a user ID is that of its own server's name.
	name := strings.Repeat("a", 60)
	s.at("a.example", dict{"username": name}).is(t, 401, "")
	s.at(long, dict{"username": name}).is(t, 400, "M_INVALID_USERNAME")

	available := func(host, name string) answer {
		r := httptest.NewRequest("GET", "/_matrix/client/v3/register/available?username="+name, nil)
		r.Host = host
		return s.do(s.available, r)
	}
	available("a.example", name).is(t, 200, "")
	assert.Equal(t, "a.example", s.accounts.servers[len(s.accounts.servers)-1])
	available(long, name).is(t, 400, "M_INVALID_USERNAME")

	for _, other := range []string{"b.example", ""} {
		s.at(other, alice).is(t, 404, "M_NOT_FOUND")
		available(other, "bob").is(t, 404, "M_NOT_FOUND")
	}

	closed = true
	s.at("a.example", dict{"username": "bob"}).is(t, 403, "M_FORBIDDEN")
	available("a.example", "bob").is(t, 403, "M_FORBIDDEN")
	s.at(long, dict{"username": "bob"}).is(t, 401, "")
}

// Run returns what the handler writes.
func TestRun(t *testing.T) {
	echoed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Other", "1")
		w.WriteHeader(http.StatusTeapot)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(`{"a":`))
		_, _ = w.Write([]byte(`1}`))
	})
	s := newServer(t, func(r *register.Registration) { r.AppService = echoed })
	handler := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, header, body := s.reg.Run(r, s.engine)
		maps.Copy(w.Header(), header)
		uia.WriteJSON(w, r, nil, status, body)
	})
	a := s.register(dict{"username": "alice", "password": "pw"})
	a.is(t, 200, "")
	assert.Equal(t, "@alice:example.org", a.JSON["user_id"])
	bodies := []string{"{", `[]`, `{"username":"taken"}`, `{"auth":{"session":"forged"}}`, `{"x":"` + strings.Repeat("x", 20<<10) + `"}`,
		`{"type":"m.login.application_service"}`, `{"kind":"guest"}`}
	for _, body := range bodies {
		returned := s.post("", body)
		s.handler, handler = handler, s.handler
		written := s.post("", body)
		s.handler, handler = handler, s.handler
		assert.Equal(t, written.Status, returned.Status, body)
		assert.Equal(t, written.Body, returned.Body, body)
		assert.Equal(t, written.Header.Get("X-Other"), returned.Header.Get("X-Other"), body)
	}
}

// What is missing shows at the first request, because nothing is made at the start.
func TestRunOfARegistrationThatIsWrong(t *testing.T) {
	s := newServer(t, nil)
	r := httptest.NewRequest("POST", "/", strings.NewReader("{}"))
	for _, wrong := range []struct {
		reg *register.Registration
		e   *uia.Engine
	}{{s.reg, nil}, {&register.Registration{}, s.engine}} {
		status, _, body := wrong.reg.Run(r, wrong.e)
		assert.Equal(t, 500, status)
		assert.NotNil(t, body)
	}
}
