package register_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

func (s *server) get(query string) answer {
	s.t.Helper()
	return s.do(s.available, httptest.NewRequest("GET", "/_matrix/client/v3/register/available"+query, nil))
}

func TestAvailable(t *testing.T) {
	s := newServer(t, nil)
	for _, name := range []string{"alice", "a.b_c=d-e/f+1", strings.Repeat("a", 255-len("@:"+serverName))} {
		a := s.get("?username=" + url.QueryEscape(name))
		a.is(t, 200, "")
		assert.Equal(t, dict{"available": true}, a.JSON)
	}
	s.get("?username=taken").is(t, 400, "M_USER_IN_USE")
	asked := len(s.accounts.asked)
	for _, name := range []string{"", " ", "a b", "@alice:example.org", "é", "a\x00", "a%", strings.Repeat("a", 256-len("@:"+serverName))} {
		s.get("?username="+url.QueryEscape(name)).is(t, 400, "M_INVALID_USERNAME")
	}
	s.get("").is(t, 400, "M_MISSING_PARAM")
	s.get("?user=alice").is(t, 400, "M_MISSING_PARAM")
	s.get("?username=%zz").is(t, 400, "M_MISSING_PARAM")
	assert.Len(t, s.accounts.asked, asked, "the host was asked about what is no localpart")
}

func TestAvailableMethods(t *testing.T) {
	s := newServer(t, nil)
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		a := s.do(s.available, request(t, method, "/available?username=alice"))
		a.is(t, 405, "M_UNRECOGNIZED")
		assert.Equal(t, "GET, HEAD, OPTIONS", a.Header.Get("Allow"))
	}
	assert.Equal(t, 204, s.do(s.available, request(t, "OPTIONS", "/available")).Status)
	assert.Equal(t, 200, s.do(s.available, request(t, "HEAD", "/available?username=alice")).Status)
}

func TestAvailableIsLimited(t *testing.T) {
	var limit error
	s := newServer(t, func(r *register.Registration) {
		r.LimitAvailable = func(context.Context, netip.Addr) error { return limit }
	})
	s.get("?username=alice").is(t, 200, "")
	limit = &uia.Error{Status: 429, MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "slowly"}, RetryAfter: time.Second}
	a := s.get("?username=alice")
	a.is(t, 429, "M_LIMIT_EXCEEDED")
	assert.Equal(t, "1", a.Header.Get("Retry-After"))
	assert.Len(t, s.accounts.asked, 1)
	limit = errors.New("broken")
	a = s.get("?username=alice")
	a.is(t, 500, "M_UNKNOWN")
	assert.NotContains(t, a.Body, "broken")
}

// What /register/available does not tell any more, POST /register does not tell either.
func TestRegisterIsLimitedAsAvailableIs(t *testing.T) {
	var asked []netip.Addr
	limit := &uia.Error{Status: 429, MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "slowly"}, RetryAfter: time.Second}
	s := newServer(t, func(r *register.Registration) {
		r.LimitAvailable = func(_ context.Context, client netip.Addr) error {
			if asked = append(asked, client); len(asked) > 3 {
				return limit
			}
			return nil
		}
	})
	told := 0
	for range 100 {
		for _, name := range []string{"taken", "free"} {
			if a := s.post("", dict{"username": name}); a.Status != 429 {
				told++
			}
		}
	}
	assert.Equal(t, 3, told, "names were told of in spite of the limit")
	assert.Len(t, s.accounts.asked, 3)
	assert.Equal(t, slices.Repeat([]netip.Addr{client}, len(asked)), asked)
	s.post("", dict{}).is(t, 401, "")                                   // nothing is asked
	s.post("", dict{"username": "_x"}).is(t, 400, "M_INVALID_USERNAME") // nothing is told
	s.get("?username=free").is(t, 429, "M_LIMIT_EXCEEDED")
}

// What breaks is logged with what was asked, and the client is told nothing of it.
func TestAvailableLogsWhatBreaks(t *testing.T) {
	var text strings.Builder
	s := newServer(t, nil)
	e, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets([]byte(strings.Repeat("secret ", 5))), Sessions: s.store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: s.store}, uia.DummyStage{}},
		Operations: []uia.Operation{s.reg.Operation()},
		Logger:     slog.New(slog.NewTextHandler(&text, nil)),
	})
	require.NoError(t, err)
	s.available, err = s.reg.AvailableHandler(e)
	require.NoError(t, err)
	s.reg.Accounts = down{}
	a := s.get("?username=alice")
	a.is(t, 500, "M_UNKNOWN")
	assert.NotContains(t, string(a.Body), "database")
	assert.Equal(t, 1, strings.Count(text.String(), "\n"), "it is logged once: %s", text.String())
	assert.Contains(t, text.String(), `operation=register error="register: whether a username is available: the database is down"`)
}

// down is a host whose database is.
type down struct{ register.Accounts }

func (down) Available(context.Context, register.UsernameRequest) error {
	return errors.New("the database is down")
}
