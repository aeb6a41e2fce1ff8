package register_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/register"
)

func TestRegister(t *testing.T) {
	s := newServer(t, nil)
	a := s.register(dict{"username": "alice", "password": "pw", "device_id": "PHONE", "initial_device_display_name": "Alice's phone"})
	a.is(t, 200, "")
	assert.Equal(t, dict{
		"user_id": "@alice:example.org", "home_server": "example.org", "access_token": "an access token", "device_id": "DEVICE",
	}, a.JSON)
	account := s.accounts.last(t)
	assert.Equal(t, "alice", account.Localpart)
	assert.Equal(t, "pw", account.Password)
	assert.Equal(t, "PHONE", account.DeviceID)
	assert.Equal(t, "Alice's phone", account.DeviceName)
	assert.False(t, account.InhibitLogin)
	assert.False(t, account.RefreshToken)
	assert.Equal(t, account.Session.Key, account.Key)
	assert.True(t, strings.HasPrefix(account.Key, register.OperationName+"."))
	page, err := s.store.ListUses(t.Context(), uia.UseQuery{Token: "abc"})
	require.NoError(t, err)
	assert.Equal(t, "@alice:example.org", page.Uses[0].UserID)
	assert.Equal(t, account.Key, page.Uses[0].Session)
}

// passing checks what the token brought along while the account is being made.
type passing struct {
	*accounts
	meta string
}

func (p *passing) Create(ctx context.Context, a register.Account) (register.Created, error) {
	token, ok := a.Session.Token()
	if !ok || token.Token != "abc" {
		return register.Created{}, errors.New("no token")
	}
	p.meta = string(token.Meta)
	return p.accounts.Create(ctx, a)
}

func TestTheTokensMetaIsPassedThrough(t *testing.T) {
	var p *passing
	s := newServer(t, func(r *register.Registration) {
		p = &passing{accounts: r.Accounts.(*accounts)}
		r.Accounts = p
	})
	s.register(dict{"username": "alice", "password": "pw"}).is(t, 200, "")
	assert.JSONEq(t, `{"room":"!a:b"}`, p.meta)
}

func TestInhibitLogin(t *testing.T) {
	s := newServer(t, nil)
	a := s.register(dict{"username": "alice", "password": "pw", "inhibit_login": true, "refresh_token": true})
	a.is(t, 200, "")
	assert.Equal(t, dict{"user_id": "@alice:example.org", "home_server": "example.org"}, a.JSON)
	assert.True(t, s.accounts.last(t).InhibitLogin)
}

func TestRefreshToken(t *testing.T) {
	s := newServer(t, nil)
	a := s.register(dict{"username": "alice", "password": "pw", "refresh_token": true})
	assert.Equal(t, "a refresh token", a.JSON["refresh_token"])
	assert.True(t, s.accounts.last(t).RefreshToken)
	a = s.register(dict{"username": "bob", "password": "pw", "refresh_token": false})
	assert.NotContains(t, a.JSON, "refresh_token")
}

func TestNoUsername(t *testing.T) {
	s := newServer(t, nil)
	for _, params := range []dict{{"password": "pw"}, {"password": "pw", "username": ""}, {"password": "pw", "username": nil}, {"password": "pw", "username": " "}} {
		a := s.register(params)
		a.is(t, 200, "")
		assert.Regexp(t, `^@[a-z2-7]{12}:example\.org$`, a.JSON["user_id"])
		assert.Equal(t, a.JSON["user_id"], "@"+s.accounts.last(t).Localpart+":example.org")
	}
	assert.Len(t, s.accounts.asked, 4, "a name that is made up is asked for like any other")
}

func TestPassword(t *testing.T) {
	s := newServer(t, nil)
	for _, params := range []dict{{"username": "alice"}, {"username": "alice", "password": ""}, {"username": "alice", "password": nil}} {
		s.register(params).is(t, 400, "M_MISSING_PARAM")
	}
	assert.Empty(t, s.accounts.created)
	// The session stays complete: a client that adds the password gets its account.
	session := s.post("", dict{}).session()
	s.post("", dict{"auth": dict{"type": uia.TokenType, "token": "abc", "session": session}})
	last := dict{"type": "m.login.dummy", "session": session}
	s.post("", with(dict{"username": "alice"}, last)).is(t, 400, "M_MISSING_PARAM")
	s.post("", with(dict{"username": "alice", "password": "pw"}, last)).is(t, 200, "")

	s = newServer(t, func(r *register.Registration) { r.AllowNoPassword = true })
	s.register(dict{"username": "alice"}).is(t, 200, "")
	assert.Empty(t, s.accounts.last(t).Password)

	odd := "\x00\n\u2028 é😀\"\\" + strings.Repeat("x", 400)
	s.register(dict{"username": "bob", "password": odd}).is(t, 200, "")
	assert.Equal(t, odd, s.accounts.last(t).Password, "it reaches the host intact")
}

func TestHashPassword(t *testing.T) {
	var hashErr error
	s := newServer(t, func(r *register.Registration) {
		r.AllowNoPassword = true
		r.HashPassword = func(_ context.Context, password string) (string, error) { return "hash of " + password, hashErr }
	})
	s.register(dict{"username": "alice", "password": "pw"}).is(t, 200, "")
	assert.Equal(t, "hash of pw", s.accounts.last(t).PasswordHash)
	s.register(dict{"username": "bob"}).is(t, 200, "")
	assert.Empty(t, s.accounts.last(t).PasswordHash)
	hashErr = uia.NewError(400, spec.WeakPassword("too weak"))
	s.register(dict{"username": "carol", "password": "pw"}).is(t, 400, "M_WEAK_PASSWORD")
	assert.Len(t, s.accounts.created, 2)
}

func TestWrongTypesAndLengths(t *testing.T) {
	s := newServer(t, nil)
	for _, body := range []string{
		`{"username":1}`, `{"password":{}}`, `{"device_id":[]}`, `{"initial_device_display_name":true}`, `{"inhibit_login":"yes"}`, `{"refresh_token":1}`, `{"inhibit_login":0}`,
		`{"inhibit_login":"True"}`, `{"refresh_token":""}`, `{"guest_access_token":true}`,
	} {
		s.post("", body).is(t, 400, "M_BAD_JSON")
	}
	for name, limit := range map[string]int{"password": 512, "device_id": 255, "initial_device_display_name": 255} {
		s.post("", dict{name: strings.Repeat("x", limit)}).is(t, 401, "")
		s.post("", dict{name: strings.Repeat("x", limit+1)}).is(t, 400, "M_INVALID_PARAM")
	}
	for _, name := range []string{"device_id", "initial_device_display_name"} {
		s.post("", dict{name: "a\x00b"}).is(t, 400, "M_INVALID_PARAM")
	}
	// Names are case sensitive, and members that nobody knows are no one's business.
	s.post("", `{"Username":1,"USERNAME":"taken","x_show_msisdn":true,"bind_email":7}`).is(t, 401, "")
}

func TestRefusedWhileTheAccountIsMade(t *testing.T) {
	s := newServer(t, nil)
	s.accounts.refuse = uia.NewError(400, spec.MatrixError{ErrCode: spec.ErrorExclusive, Err: "reserved"})
	params := dict{"username": "alice", "password": "pw"}
	s.register(params).is(t, 400, "M_EXCLUSIVE")
	s.accounts.refuse = errors.New("disk full")
	a := s.register(params)
	a.is(t, 500, "M_UNKNOWN")
	assert.NotContains(t, a.Body, "disk")
}

func TestInATransaction(t *testing.T) {
	var began int
	s := newServer(t, func(r *register.Registration) { r.Resolve, r.Tx = nil, true })
	s.store.inTx = func(ctx context.Context, fn func(context.Context) error) error { began++; return fn(ctx) }
	s.register(dict{"username": "alice"}).is(t, 400, "M_MISSING_PARAM")
	assert.Zero(t, began, "refused before the transaction")
	s.register(dict{"username": "alice", "password": "pw"}).is(t, 200, "")
	assert.Equal(t, 1, began)
	token, err := s.store.Token(t.Context(), "abc", s.accounts.last(t).Session.Now)
	require.NoError(t, err)
	assert.EqualValues(t, 1, token.Completed)
}

func TestDescribe(t *testing.T) {
	describe := newServer(t, nil).reg.Operation().Describe
	for params, want := range map[string]string{
		`{"username":"alice"}`:    "create the account @alice:example.org",
		`{"username":" Alice "}`:  "create the account @alice:example.org",
		`{}`:                      "create an account on example.org",
		`{"username":"<b>"}`:      "create an account on example.org",
		`{"username":["a"]}`:      "create an account on example.org",
		`{"username":"a\u202eb"}`: "create an account on example.org",
	} {
		assert.Equal(t, want, describe(&uia.Session{Params: json.RawMessage(params)}, form.Fill))
	}
}
