package register_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// A phone's keyboard begins a name with a capital and ends it with a space. Wherever
// somebody types a name, they mean the same one.
func TestANameAsAPhoneTypesIt(t *testing.T) {
	for typed, localpart := range map[string]string{
		"Alice": "alice", "ALICE": "alice", "alice ": "alice", " alice": "alice", "Alice\n": "alice", "\tBob.S=mith/X+Y-Z ": "bob.s=mith/x+y-z",
	} {
		s := newServer(t, nil)
		a := s.register(dict{"username": typed, "password": " Pw "})
		a.is(t, 200, "")
		assert.Equal(t, "@"+localpart+":"+serverName, a.JSON["user_id"], "%q", typed)
		assert.Equal(t, " Pw ", s.accounts.last(t).Password, "a password is what it is")
		for _, asked := range s.accounts.asked {
			assert.Equal(t, localpart, asked)
		}
		s.get("?username="+url.QueryEscape(typed)).is(t, 400, "M_USER_IN_USE")
		s.post("", dict{"username": typed}).is(t, 400, "M_USER_IN_USE")
	}
	p := newPinning(t, `{"username":"alice"}`, uia.Flow{uia.TokenType})
	status, a := p.post(`{"username":"Alice ","password":"p","auth":{"type":"m.login.registration_token","token":"abc"}}`)
	assert.Equal(t, 200, status, "a token that is pinned to alice: %v", a)
}

// A name comes to an account in three ways, and passes the same checks in each.
func TestEveryNamePassesTheSameChecks(t *testing.T) {
	reserved := []string{"_irc_bob", "_", "1", "00000"}
	for _, name := range append(reserved, strings.Repeat("a", 256-len("@:"+serverName))) {
		s := newServer(t, nil)
		s.post("", dict{"username": name, "password": "pw"}).is(t, 400, "M_INVALID_USERNAME")
		s.get("?username="+name).is(t, 400, "M_INVALID_USERNAME")
		assert.Empty(t, s.accounts.asked)
		s.pin(t, name)
		for _, params := range []dict{{"password": "pw"}, {"password": "pw", "username": ""}} {
			s.registerWith("pinned", params).is(t, 400, "M_INVALID_USERNAME")
		}
		assert.Empty(t, s.accounts.created, name)
	}
	s := newServer(t, nil)
	s.pin(t, "taken")
	s.registerWith("pinned", dict{"password": "pw"}).is(t, 400, "M_USER_IN_USE")
	assert.Empty(t, s.accounts.created, "a name that is taken reached Create")
	s.post("", dict{"username": "taken"}).is(t, 400, "M_USER_IN_USE")
}

// pin makes the token "pinned", which is for this name.
func (s *server) pin(t *testing.T, name string) {
	meta, err := json.Marshal(dict{"username": name})
	require.NoError(t, err)
	require.NoError(t, s.store.CreateTokens(t.Context(), uia.Token{Value: "pinned", Meta: meta}))
}

// registerWith goes all the way with this token.
func (s *server) registerWith(token string, params dict) answer {
	a := s.post("", with(params, dict{"type": uia.TokenType, "token": token}))
	if a.Status != 401 || a.JSON["errcode"] != nil {
		return a
	}
	return s.post("", with(params, dict{"type": "m.login.dummy", "session": a.session()}))
}

// Old tools send booleans as strings.
func TestBooleansOfOldTools(t *testing.T) {
	for spelled, want := range map[string]bool{`true`: true, `"true"`: true, `false`: false, `"false"`: false, `null`: false} {
		s := newServer(t, nil)
		body := `"username":"alice","password":"pw","inhibit_login":` + spelled + `,"refresh_token":` + spelled
		a := s.post("", `{`+body+`,"auth":{"type":"m.login.registration_token","token":"abc"}}`)
		a = s.post("", `{`+body+`,"auth":{"type":"m.login.dummy","session":"`+a.session()+`"}}`)
		a.is(t, 200, "")
		assert.Equal(t, want, s.accounts.last(t).InhibitLogin, spelled)
		assert.Equal(t, want, s.accounts.last(t).RefreshToken, spelled)
		assert.Equal(t, !want, a.JSON["access_token"] != nil, spelled)
	}
}

// While registration is off, application services still register their users.
func TestApplicationServicesWhileRegistrationIsOff(t *testing.T) {
	const body = `{"type":"m.login.application_service","username":"_bridge_bot"}`
	for name, handler := range map[string]bool{"with a handler": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			s := newClosed(t, handler)
			if a := s.post("", body); handler {
				a.is(t, 200, "")
				assert.Equal(t, body, a.JSON["body"])
			} else {
				a.is(t, 400, "M_UNRECOGNIZED")
			}
			for _, other := range []string{`{}`, `{"x":"m.login.application_service"}`, `{"type":"m.login.application_service"`, `{"auth":{"type":"m.login.application_service"}}`} {
				s.post("", other).is(t, 403, "M_FORBIDDEN")
			}
		})
	}
}
