package register_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

func TestUsernames(t *testing.T) {
	s := newServer(t, func(r *register.Registration) { r.AllowReserved = true })
	longest := strings.Repeat("a", 255-len("@:"+serverName))
	for _, name := range []string{"a", "alice", "a+b", "+", "0", ".", "_=-./+", "user", longest} {
		a := s.register(dict{"username": name, "password": "pw"})
		a.is(t, 200, "")
		assert.Equal(t, "@"+name+":"+serverName, a.JSON["user_id"])
		assert.Equal(t, name, s.accounts.last(t).Localpart)
	}
	made := len(s.accounts.created)
	asked := len(s.accounts.asked)
	for _, name := range []string{
		"a b", "a:b", "@alice:example.org", "alice:example.org", "é", "a\x00", "a\u200b", "\u200ba", "\u212a" /* Kelvin */, "\u0130", "a%2b", "a!", "a~", "а", /* Cyrillic */
		longest + "a", strings.Repeat("a", 1000),
	} {
		a := s.post("", dict{"username": name, "password": "pw"})
		a.is(t, 400, "M_INVALID_USERNAME")
		assert.Empty(t, a.session())
	}
	assert.Len(t, s.accounts.created, made)
	assert.Len(t, s.accounts.asked, asked, "the host was asked about what is no localpart")
}

func TestTheLengthOfAUserIDIncludesTheServersName(t *testing.T) {
	s := newServer(t, func(r *register.Registration) { r.ServerName = strings.Repeat("b", 250) })
	s.post("", dict{"username": "abc"}).is(t, 401, "")
	s.post("", dict{"username": "abcd"}).is(t, 400, "M_INVALID_USERNAME")
}

func TestUserInUseComesBeforeAuthentication(t *testing.T) {
	s := newServer(t, nil)
	s.post("", dict{"username": "taken"}).is(t, 400, "M_USER_IN_USE")
	session := s.post("", dict{}).session()
	token := dict{"type": uia.TokenType, "token": "abc", "session": session}
	s.post("", with(dict{"username": "taken"}, token)).is(t, 400, "M_USER_IN_USE")
	stored, err := s.store.Token(t.Context(), "abc", time.Now())
	assert.NoError(t, err)
	assert.Zero(t, stored.Pending, "the token was looked at")
	s.post("", with(dict{"username": "free"}, token)).is(t, 401, "")
	// Between the stages somebody takes it.
	s.accounts.taken["free"] = true
	last := dict{"type": "m.login.dummy", "session": session}
	s.post("", with(dict{"username": "free", "password": "pw"}, last)).is(t, 400, "M_USER_IN_USE")
	s.post("", with(dict{"username": "other", "password": "pw"}, last)).is(t, 200, "")
}

// The order is the specification's: disabled, kind, grammar, availability,
// authentication, and only then the password.
func TestTheOrderOfChecks(t *testing.T) {
	off := true
	s := newServer(t, func(r *register.Registration) { r.Disabled = func(*http.Request) bool { return off } })
	bad := dict{"username": "NOT A NAME", "kind": "guest"}
	s.post("", bad).is(t, 403, "M_FORBIDDEN")
	off = false
	s.post("", bad).is(t, 403, "M_GUEST_ACCESS_FORBIDDEN")
	delete(bad, "kind")
	s.post("", bad).is(t, 400, "M_INVALID_USERNAME")
	assert.Empty(t, s.accounts.asked)
	bad["username"] = "taken"
	s.post("", bad).is(t, 400, "M_USER_IN_USE")
	bad["username"] = "free"
	s.post("", bad).is(t, 401, "")
	s.register(bad).is(t, 400, "M_MISSING_PARAM")
}

// element-android opens a session with {}, then another one with username and
// password but without auth, and sends only auth from there on.
func TestElementAndroid(t *testing.T) {
	s := newServer(t, nil)
	a := s.post("", dict{})
	a.is(t, 401, "")
	a = s.post("", dict{"username": "alice", "password": "pw", "initial_device_display_name": "Pixel"})
	a.is(t, 401, "")
	session := a.session()
	for _, token := range []string{"wrong", "abc"} {
		a = s.post("", dict{"auth": dict{"type": uia.TokenType, "session": session, "token": token}})
		assert.Equal(t, 401, a.Status)
	}
	assert.Equal(t, []any{uia.TokenType}, a.JSON["completed"])
	a = s.post("", dict{"auth": dict{"type": "m.login.dummy", "session": session}})
	a.is(t, 200, "")
	assert.Equal(t, "@alice:example.org", a.JSON["user_id"])
	account := s.accounts.last(t)
	assert.Equal(t, []string{"alice", "pw", "Pixel"}, []string{account.Localpart, account.Password, account.DeviceName})
}
