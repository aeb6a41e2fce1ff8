package register_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

func newClosed(t *testing.T, appService bool) *server {
	return newServer(t, func(r *register.Registration) {
		r.Disabled = func(*http.Request) bool { return true }
		if appService {
			r.AppService = echo("application service")
		}
	})
}

// A weak password is refused on the leg that brings it: nobody types a token, reads
// the terms and opens a mail in order to hear of it.
func TestAWeakPasswordIsRefusedAtOnce(t *testing.T) {
	hashed := 0
	s := newServer(t, func(r *register.Registration) {
		r.CheckPassword = func(_ context.Context, password string) error {
			if len(password) < 8 {
				return uia.NewError(400, spec.WeakPassword("A password has at least 8 characters."))
			}
			return nil
		}
		r.HashPassword = func(context.Context, string) (string, error) { hashed++; return "hash", nil }
	})
	weak, strong := dict{"username": "alice", "password": "short"}, dict{"username": "alice", "password": "long enough"}
	a := s.post("", weak)
	a.is(t, 400, "M_WEAK_PASSWORD")
	assert.Empty(t, a.session())
	session := s.post("", dict{}).session()
	token := dict{"type": uia.TokenType, "token": "abc", "session": session}
	s.post("", with(weak, token)).is(t, 400, "M_WEAK_PASSWORD")
	s.post("", with(strong, token)).is(t, 401, "")
	last := dict{"type": "m.login.dummy", "session": session}
	s.post("", with(weak, last)).is(t, 400, "M_WEAK_PASSWORD")
	assert.Zero(t, hashed)
	s.post("", with(strong, last)).is(t, 200, "")
	assert.Equal(t, 1, hashed)
	// In one request, and where a password is not needed.
	s.reg.AllowNoPassword = true
	s.register(dict{"username": "bob"}).is(t, 200, "")
}

// A client in possession of a token could otherwise have the host hash a password for
// each request, and no guess would be charged.
func TestWhatWillBeRefusedIsNotHashed(t *testing.T) {
	hashed := 0
	s := newServer(t, func(r *register.Registration) {
		r.HashPassword = func(context.Context, string) (string, error) { hashed++; return "hash", nil }
	})
	s.pin(t, "taken")
	session := s.post("", dict{}).session()
	for _, params := range []dict{{"password": "pw"}, {"username": "taken", "password": "pw"}, {"username": "alice", "password": "pw"}} {
		a := s.post("", with(params, dict{"type": uia.TokenType, "token": "pinned", "session": session}))
		assert.Contains(t, []int{400, 409}, a.Status, "%v gets the pinned name, or is not for it: %s", params, a.Body)
	}
	for _, params := range []dict{
		{"username": "alice", "password": "pw", "device_id": "a\x00"},
		{"username": "alice", "password": "pw", "device_id": strings.Repeat("x", 256)},
		{"username": "alice", "password": "pw", "initial_device_display_name": "a\x00"},
		{"username": "alice", "password": strings.Repeat("x", 513)},
		{"username": "taken", "password": "pw"},
		{"username": "_alice", "password": "pw"},
	} {
		session := s.post("", with(dict{"password": "pw"}, dict{"type": uia.TokenType, "token": "abc"})).session()
		for range 3 {
			a := s.post("", with(params, dict{"type": "m.login.dummy", "session": session}))
			assert.GreaterOrEqual(t, a.Status, 400, "%v", params)
			assert.NotEqual(t, 401, a.Status, "%v", params)
		}
	}
	assert.Zero(t, hashed)
}

func TestAllowReserved(t *testing.T) {
	s := newServer(t, func(r *register.Registration) { r.AllowReserved = true })
	for _, name := range []string{"_irc_bob", "_", "1", "00000"} {
		s.get("?username="+name).is(t, 200, "")
		s.register(dict{"username": name, "password": "pw"}).is(t, 200, "")
	}
}

func TestMakeUp(t *testing.T) {
	names := []string{"taken", "_reserved", "Not A Name", "12345", "guest-7"}
	var err error
	s := newServer(t, func(r *register.Registration) {
		r.MakeUp = func(context.Context) (string, error) {
			name := names[0]
			if len(names) > 1 {
				names = names[1:]
			}
			return name, err
		}
	})
	a := s.register(dict{"password": "pw"})
	a.is(t, 200, "")
	assert.Equal(t, "@guest-7:example.org", a.JSON["user_id"])
	// There is an end to trying.
	s.register(dict{"password": "pw"}).is(t, 400, "M_USER_IN_USE")
	err = errors.New("the counter is gone")
	s.register(dict{"password": "pw"}).is(t, 500, "M_UNKNOWN")
	assert.Len(t, s.accounts.created, 1)
}

// A guest that registers keeps its name, which the host alone can tell from a name
// that is somebody else's.
func TestAGuestRegisters(t *testing.T) {
	s := newServer(t, nil)
	s.register(dict{"username": "bob", "password": "pw", "guest_access_token": "g1"}).is(t, 200, "")
	assert.Empty(t, s.accounts.last(t).GuestToken, "there are no guests")

	s = newServer(t, func(r *register.Registration) {
		r.GuestAvailable = func(ctx context.Context, asked register.UsernameRequest, token string) error {
			if asked.Localpart == "17" && token == "g17" {
				return nil
			}
			return r.Accounts.Available(ctx, asked)
		}
	})
	s.accounts.taken["17"], s.accounts.taken["18"] = true, true
	own := dict{"username": "17", "password": "pw", "guest_access_token": "g17"}
	a := s.register(own)
	a.is(t, 200, "")
	assert.Equal(t, "@17:example.org", a.JSON["user_id"])
	assert.Equal(t, "g17", s.accounts.last(t).GuestToken)
	s.register(dict{"username": "18", "password": "pw", "guest_access_token": "g17"}).is(t, 400, "M_USER_IN_USE")
	s.register(dict{"username": "17", "password": "pw"}).is(t, 400, "M_INVALID_USERNAME")
	s.register(dict{"username": "carol", "password": "pw", "guest_access_token": "g17"}).is(t, 200, "")
	// It is remembered like the other parameters of the request that opened the session.
	a = s.post("", dict{"username": "dave", "password": "pw", "guest_access_token": "g17"})
	session := a.session()
	s.post("", dict{"auth": dict{"type": uia.TokenType, "token": "abc", "session": session}}).is(t, 401, "")
	s.post("", dict{"auth": dict{"type": "m.login.dummy", "session": session}}).is(t, 200, "")
	assert.Equal(t, "g17", s.accounts.last(t).GuestToken)
}

// Whoever makes a token is told that nobody could use it.
func TestCheckMeta(t *testing.T) {
	reg := &register.Registration{ServerName: serverName}
	for _, good := range []string{``, `{}`, `{"username":"alice"}`, `{"username_pattern":"_*"}`} {
		assert.NoError(t, reg.CheckMeta(json.RawMessage(good)), good)
	}
	long := `{"username":"` + strings.Repeat("a", 256-len("@:"+serverName)) + `"}`
	for _, bad := range []string{`{"username":5}`, `{"username":"_irc_bob"}`, `{"username":"123"}`, long} {
		assert.Error(t, reg.CheckMeta(json.RawMessage(bad)), bad)
	}
	assert.ErrorContains(t, reg.CheckMeta(json.RawMessage(long)), "username: The username is too long.")
	reg.AllowReserved = true
	assert.NoError(t, reg.CheckMeta(json.RawMessage(`{"username":"_irc_bob"}`)))
}
