package register_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

func TestReadPin(t *testing.T) {
	for meta, want := range map[string]register.Pin{
		``:                                   {},
		`{}`:                                 {},
		`{"rooms":["#a:b"]}`:                 {},
		`{"username":null}`:                  {},
		`{"username":"alice","role":"x"}`:    {Username: "alice"},
		`{"username_pattern":"student-*"}`:   {Pattern: "student-*"},
		`{"Username":"not ours"}`:            {},
		`{"username":" Alice "}`:             {Username: "alice"},
		`{"username_pattern":"Student-*"}`:   {Pattern: "student-*"},
		`{"username_pattern":"a/b+c=d._-?"}`: {Pattern: "a/b+c=d._-?"},
	} {
		got, err := register.ReadPin(json.RawMessage(meta))
		assert.NoError(t, err, meta)
		assert.Equal(t, want, got, meta)
	}
	for _, meta := range []string{
		`{"username":5}`, `{"username":""}`, `{"username":" "}`, `{"username":"Älice"}`, `{"username":"@alice:x"}`, `{"username":"a*"}`,
		`{"username":"` + strings.Repeat("a", 256) + `"}`,
		`{"username_pattern":true}`, `{"username_pattern":""}`, `{"username_pattern":"^a.*$"}`, `{"username_pattern":"[a-z]"}`,
		`{"username":"a","username_pattern":"a*"}`, `[]`, `"alice"`,
	} {
		_, err := register.ReadPin(json.RawMessage(meta))
		assert.Error(t, err, meta)
	}
}

func TestPinAllows(t *testing.T) {
	for _, row := range []struct {
		pattern, yes, no string // separated by spaces
	}{
		{"student-*", "student- student-1 student-a-b", "student xstudent-1 Student-1 student"},
		{"*", "a anything", ""},
		{"a?c", "abc a.c", "ac abbc aXbc abcd"},
		{"*-staff", "a-staff -staff a-staff-staff", "staff a-staffx"},
		{"a*b*c", "abc aXbYc abcbc aabbcc", "ab acb bac abcd"},
		{"a.b", "a.b", "axb"},
		{"**", "a", ""},
	} {
		pin := register.Pin{Pattern: row.pattern}
		for name := range strings.FieldsSeq(row.yes) {
			assert.True(t, pin.Allows(name), "%s allows %s", row.pattern, name)
		}
		for name := range strings.FieldsSeq(row.no) {
			assert.False(t, pin.Allows(name), "%s allows %s", row.pattern, name)
		}
	}
	assert.False(t, register.Pin{Pattern: strings.Repeat("*a", 100) + "b"}.Allows(strings.Repeat("a", 255)), "and does not take for ever")
}

// anyone makes any account, and remembers what it was asked.
type anyone struct {
	mu   sync.Mutex
	made []register.Account
	meta []string // of their tokens
}

func (a *anyone) Available(context.Context, register.UsernameRequest) error { return nil }

func (a *anyone) Create(_ context.Context, acc register.Account) (register.Created, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	token, _ := acc.Session.Token() // here: a session that is finished forgets it
	a.made, a.meta = append(a.made, acc), append(a.meta, string(token.Meta))
	name := acc.Localpart
	if name == "" {
		name = "made-up"
	}
	return register.Created{UserID: "@" + name + ":test", DeviceID: "D", AccessToken: "t"}, nil
}

// pinning is a homeserver with one token of this meta.
type pinning struct {
	t        *testing.T
	handler  http.Handler
	accounts *anyone
	store    uia.Store
}

func newPinning(t *testing.T, meta string, flow uia.Flow) *pinning {
	p := &pinning{t: t, accounts: &anyone{}, store: memstore.New(nil)}
	reg := &register.Registration{
		Accounts: p.accounts, ServerName: "test", Flows: []uia.Flow{flow},
		Resolve: func(context.Context, string) (uia.Outcome, error) { return uia.Outcome{}, nil },
	}
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets([]byte(strings.Repeat("s", 32))), Sessions: p.store, Operations: []uia.Operation{reg.Operation()},
		Stages: []uia.Stage{&uia.TokenStage{Store: p.store}, uia.DummyStage{}},
	})
	require.NoError(t, err)
	p.handler, err = reg.Handler(engine)
	require.NoError(t, err)
	require.NoError(t, p.store.CreateTokens(t.Context(), uia.Token{Value: "abc", UsesAllowed: new(int64(1)), Meta: json.RawMessage(meta)}))
	return p
}

// post returns the status and the errcode, error, user_id and session of an answer.
func (p *pinning) post(body string) (int, map[string]string) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, httptest.NewRequest("POST", "/register", strings.NewReader(body)))
	var members map[string]json.RawMessage
	require.NoError(p.t, json.Unmarshal(w.Body.Bytes(), &members))
	out := make(map[string]string)
	for name, raw := range members {
		var s string
		if json.Unmarshal(raw, &s) == nil {
			out[name] = s
		}
	}
	return w.Code, out
}

func TestPinBeforeAuthenticationEnds(t *testing.T) {
	p := newPinning(t, `{"username":"alice","role":"guest"}`, uia.Flow{uia.TokenType, "m.login.dummy"})
	_, a := p.post(`{}`)
	session := a["session"]
	refused := func(body string) {
		t.Helper()
		status, a := p.post(body)
		assert.Equal(t, 409, status)
		assert.Equal(t, "M_FORBIDDEN", a["errcode"])
		assert.Equal(t, "This registration token is for the username alice", a["error"])
	}

	// The wrong name is refused at the token's leg, and nothing is held.
	refused(`{"username":"bob","password":"p","auth":{"type":"m.login.registration_token","token":"abc","session":"` + session + `"}}`)
	token, err := p.store.Token(t.Context(), "abc", time.Now())
	require.NoError(t, err)
	assert.Zero(t, token.Pending)

	// One that comes later is refused at the first leg that brings it.
	status, _ := p.post(`{"password":"p","auth":{"type":"m.login.registration_token","token":"abc","session":"` + session + `"}}`)
	require.Equal(t, 401, status)
	refused(`{"username":"bob","password":"p","auth":{"session":"` + session + `"}}`)
	refused(`{"username":"bob","password":"p","auth":{"type":"m.login.dummy","session":"` + session + `"}}`)
	assert.Empty(t, p.accounts.made)

	status, a = p.post(`{"username":"alice","password":"p","auth":{"type":"m.login.dummy","session":"` + session + `"}}`)
	assert.Equal(t, 200, status)
	assert.Equal(t, "@alice:test", a["user_id"])
	require.Len(t, p.accounts.made, 1)
	assert.JSONEq(t, `{"username":"alice","role":"guest"}`, p.accounts.meta[0], "the homeserver gets the whole of it")
}

func TestPinAfterAuthentication(t *testing.T) {
	for _, row := range []struct {
		name, meta, username string
		status               int
		errcode, user        string
	}{
		{"another name", `{"username":"alice"}`, "bob", 409, "M_FORBIDDEN", ""},
		{"the name", `{"username":"alice"}`, "alice", 200, "", "@alice:test"},
		{"no name gets the pinned one", `{"username":"alice"}`, "", 200, "", "@alice:test"},
		{"a name that matches", `{"username_pattern":"student-*"}`, "student-7", 200, "", "@student-7:test"},
		{"a name that does not", `{"username_pattern":"student-*"}`, "teacher-7", 409, "M_FORBIDDEN", ""},
		{"no name for a pattern", `{"username_pattern":"student-*"}`, "", 409, "M_FORBIDDEN", ""},
		{"a pin that nobody understands", `{"username":["alice"]}`, "alice", 403, "M_FORBIDDEN", ""},
		{"no pin", `{"rooms":[]}`, "anybody", 200, "", "@anybody:test"},
	} {
		t.Run(row.name, func(t *testing.T) {
			// All in one request: only the operation can refuse.
			p := newPinning(t, row.meta, uia.Flow{uia.TokenType})
			status, a := p.post(`{"username":"` + row.username + `","password":"p","auth":{"type":"m.login.registration_token","token":"abc"}}`)
			assert.Equal(t, row.status, status)
			assert.Equal(t, row.errcode, a["errcode"])
			assert.Equal(t, row.user, a["user_id"])
			if row.status != 200 {
				assert.Empty(t, p.accounts.made)
				assert.NotContains(t, a["error"], "abc")
			}
		})
	}
}
