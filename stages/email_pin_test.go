package stages_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/stages"
)

// chargeCounter is a limiter that counts what stays charged.
type chargeCounter struct{ charged int }

func (c *chargeCounter) Charge(context.Context, netip.Addr) (func(bool), error) {
	c.charged++
	settled := false
	return func(failed bool) {
		if !settled && !failed {
			c.charged--
		}
		settled = true
	}, nil
}

// TestMailToAPinnedAddress asks for mails in a session whose token is for one address:
// no mail is sent to another one, and asking for it is not charged.
func TestMailToAPinnedAddress(t *testing.T) {
	box, mails, guesses, store := &mailbox{}, &chargeCounter{}, &chargeCounter{}, memstore.New(nil)
	stage := newEmail(box)
	stage.NoLimit, stage.Limiter = false, mails
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("a secret of the tests, 32 bytes long or more")),
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, stage},
		Operations: []uia.Operation{{Name: "op", Flows: []uia.Flow{{uia.TokenType, stages.EmailType}}, Resolve: uia.NotDone}},
		Sessions:   store, Limiter: guesses, Client: uia.ClientBehind(),
	})
	require.NoError(t, err)
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "abc", Meta: json.RawMessage(`{"email":"alice@example.org"}`)}))
	post := func(auth dict) (*uia.Challenge, *uia.Error) {
		body, err := json.Marshal(dict{"auth": auth})
		require.NoError(t, err)
		_, err = engine.Authenticate(t.Context(), uia.Request{Operation: "op", Body: body, Client: netip.MustParseAddr("192.0.2.1")})
		c, _ := errors.AsType[*uia.Challenge](err)
		refusal, _ := errors.AsType[*uia.Error](err)
		return c, refusal
	}
	opened, _ := post(dict{"type": uia.TokenType, "token": "abc"})
	require.NotNil(t, opened)
	before := mails.charged
	_, refusal := post(dict{"type": stages.EmailType, "session": opened.Session, "address": "mallory@example.org"})
	require.NotNil(t, refusal)
	assert.Equal(t, []any{409, "M_FORBIDDEN"}, []any{refusal.Status, string(refusal.ErrCode)})
	assert.Empty(t, box.mails)
	assert.Equal(t, before, mails.charged, "the mail is not charged")
	assert.Zero(t, guesses.charged, "and neither is a guess")

	sent, _ := post(dict{"type": stages.EmailType, "session": opened.Session, "address": " Alice@Example.org"})
	require.NotNil(t, sent)
	require.Len(t, box.mails, 1)
	assert.Equal(t, "alice@example.org", box.mails[0].Address)
}
