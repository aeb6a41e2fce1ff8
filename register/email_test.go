package register_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

func TestCanonicalAddress(t *testing.T) {
	for typed, want := range map[string]string{
		"alice@example.org": "alice@example.org", " Alice@EXAMPLE.org\n": "alice@example.org", "a+tag@example.org": "a+tag@example.org",
		"ÄRGER@exämple.org": "ärger@exämple.org",
	} {
		got, ok := register.CanonicalAddress(typed)
		assert.True(t, ok, typed)
		assert.Equal(t, want, got)
	}
	for _, typed := range []string{"", "alice", "@example.org", "alice@", "Alice <alice@example.org>", "a b@example.org", "a@example.org,b@example.org", "mailto:a@b.c@d", "a@b\x00", strings.Repeat("a", 251) + "@b.c"} {
		_, ok := register.CanonicalAddress(typed)
		assert.False(t, ok, typed)
	}
}

func TestReadPinnedAddress(t *testing.T) {
	for meta, want := range map[string]register.Pin{
		`{"email":" Alice@Example.org "}`:                  {Email: "alice@example.org"},
		`{"email":"a@b.c","username":"alice"}`:             {Email: "a@b.c", Username: "alice"},
		`{"email":"a@b.c","username_pattern":"student-*"}`: {Email: "a@b.c", Pattern: "student-*"},
		`{"email":null}`:                                   {},
	} {
		got, err := register.ReadPin(json.RawMessage(meta))
		assert.NoError(t, err, meta)
		assert.Equal(t, want, got, meta)
	}
	for meta, says := range map[string]string{
		`{"email":5}`: "not a string", `{"email":""}`: "no e-mail address", `{"email":["a@b.c"]}`: "not a string",
		`{"email":"Alice <alice@example.org>"}`: "no e-mail address",
	} {
		_, err := register.ReadPin(json.RawMessage(meta))
		assert.ErrorContains(t, err, says, meta)
	}
	withMail := register.Registration{ServerName: serverName, Flows: []uia.Flow{{uia.TokenType, mailType}}}
	without := register.Registration{ServerName: serverName, Flows: []uia.Flow{{uia.TokenType}}}
	assert.NoError(t, withMail.CheckMeta(json.RawMessage(`{"email":"a@b.c","username":"alice"}`)))
	assert.ErrorContains(t, withMail.CheckMeta(json.RawMessage(`{"email":"a@b.c","username":"123"}`)), "username")
	assert.ErrorContains(t, without.CheckMeta(json.RawMessage(`{"email":"a@b.c"}`)), "asks for no e-mail address")
}

const mailType = "m.login.email.identity"

// mails is a stage that takes any address for confirmed.
type mails struct{}

func (mails) Type() string { return mailType }

func (mails) Attempt(_ context.Context, _ *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	var address string
	_, err := uia.Field(auth, "address", &address)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"medium": "email", "address": address})
}

// TestPinnedAddress registers with a token that is pinned to an address: whatever the
// order of the stages, no other address gets an account, holds a use or is charged.
func TestPinnedAddress(t *testing.T) {
	const tokenLeg, rightMail, wrongMail, dummy = `{"type":"m.login.registration_token","token":"abc"`, `{"type":"m.login.email.identity","address":"Alice@example.org"`,
		`{"type":"m.login.email.identity","address":"mallory@example.org"`, `{"type":"m.login.dummy"`
	for name, row := range map[string]struct {
		flow    uia.Flow
		legs    []string
		refused int // the leg that is answered with 409; len(legs) for none
	}{
		"the right address":           {uia.Flow{uia.TokenType, mailType, "m.login.dummy"}, []string{tokenLeg, rightMail, dummy}, 3},
		"the right address first":     {uia.Flow{mailType, uia.TokenType, "m.login.dummy"}, []string{rightMail, tokenLeg, dummy}, 3},
		"another address":             {uia.Flow{uia.TokenType, mailType, "m.login.dummy"}, []string{tokenLeg, wrongMail}, 1},
		"another address first":       {uia.Flow{mailType, uia.TokenType, "m.login.dummy"}, []string{wrongMail, tokenLeg}, 1},
		"another address at the end":  {uia.Flow{uia.TokenType, mailType}, []string{tokenLeg, wrongMail}, 1},
		"nobody asks for the address": {uia.Flow{uia.TokenType, "m.login.dummy"}, []string{tokenLeg, dummy}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pinning{t: t, accounts: &anyone{}, store: memstore.New(nil)}
			reg := &register.Registration{
				Accounts: p.accounts, ServerName: "test", Flows: []uia.Flow{row.flow},
				Resolve: func(context.Context, string) (uia.Outcome, error) { return uia.Outcome{}, nil },
			}
			engine, err := uia.New(uia.Config{
				Secrets: uia.FixedSecrets([]byte(strings.Repeat("s", 32))), Sessions: p.store, Operations: []uia.Operation{reg.Operation()},
				Stages: []uia.Stage{&uia.TokenStage{Store: p.store}, mails{}, uia.DummyStage{}},
			})
			require.NoError(t, err)
			p.handler, err = reg.Handler(engine)
			require.NoError(t, err)
			require.NoError(t, p.store.CreateTokens(t.Context(), uia.Token{Value: "abc", UsesAllowed: new(int64(1)), Meta: json.RawMessage(`{"email":"alice@EXAMPLE.org"}`)}))
			_, a := p.post(`{"username":"alice","password":"p"}`)
			session := a["session"]
			for i, leg := range row.legs {
				before, err := p.store.Token(t.Context(), "abc", time.Now())
				require.NoError(t, err)
				status, a := p.post(`{"username":"alice","password":"p","auth":` + leg + `,"session":"` + session + `"}}`)
				if i != row.refused {
					continue
				}
				assert.Equal(t, []any{409, "M_FORBIDDEN"}, []any{status, a["errcode"]})
				assert.Contains(t, a["error"], "e-mail address")
				assert.NotContains(t, strings.ToLower(a["error"]), "example.org", "the answer does not tell the address")
				after, err := p.store.Token(t.Context(), "abc", time.Now())
				require.NoError(t, err)
				if name != "nobody asks for the address" {
					assert.Equal(t, before, after, "nothing is held")
				}
			}
			if row.refused < len(row.legs) {
				assert.Empty(t, p.accounts.made)
				return
			}
			assert.Len(t, p.accounts.made, 1)
		})
	}
}
