package stages_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/stages"
)

// What one secret has made works for as long as that secret opens.
func TestMailsOutliveARotation(t *testing.T) {
	yesterday, today := []byte("the secret of yesterday, of 32 bytes"), []byte("the secret of today, of 32 bytes long")
	secrets := uia.FixedSecrets(yesterday)
	box := &mailbox{}
	stage := newEmail(box)
	stage.After = gateType
	stage.Secrets = func(ctx context.Context, now time.Time) ([][]byte, error) { return secrets(ctx, now) }
	h := newHost(t, "", stage)
	h.mountEmail(stage)
	ask := func(address string) dict {
		a := h.post("/requestToken", dict{"email": address, "client_secret": "x", "send_attempt": 1})
		require.Equal(t, 200, a.Status, a.Body)
		return dict{"threepid_creds": dict{"sid": a.SID, "client_secret": "x"}}
	}
	passed := func(session string, creds dict) bool {
		a := h.auth(session, stages.EmailType, creds)
		assert.Empty(t, a.Errcode, a.Body)
		return len(a.Completed) == 2
	}
	early, late, never := h.open(), h.open(), h.open()
	sent, putOff, forgotten := ask("ann@example.org"), ask("bob@example.org"), ask("carol@example.org")
	assert.False(t, passed(early, sent))
	assert.False(t, passed(never, forgotten))
	require.Len(t, box.mails, 2)

	secrets = uia.FixedSecrets(today, yesterday)
	require.Equal(t, 200, h.confirm("POST", box.mails[0].Link).Code)
	assert.True(t, passed(early, sent), "the mail was sent before")
	for range 2 {
		assert.False(t, passed(late, putOff))
		require.Len(t, box.mails, 3, "the mail was asked for before, and is sent now, once")
	}
	require.Equal(t, 200, h.confirm("POST", box.mails[2].Link).Code)
	assert.True(t, passed(late, putOff))

	secrets = uia.FixedSecrets(today)
	assert.Equal(t, 400, h.confirm("POST", box.mails[1].Link).Code)
	assert.Equal(t, "M_UNAUTHORIZED", h.auth(never, stages.EmailType, forgotten).Errcode)
}

func TestEmailSecretsAreChecked(t *testing.T) {
	stage := newEmail(&mailbox{})
	stage.Secrets = uia.FixedSecrets([]byte("short"))
	require.ErrorContains(t, stage.Configured(), "Secrets: secret 1 of 1 has 5 bytes")
	other := newHost(t, "", newEmail(&mailbox{}))
	_, err := stage.RequestToken(other.engine)
	require.ErrorContains(t, err, "is another one")
	_, err = stage.RequestToken(nil)
	require.ErrorContains(t, err, "the engine is nil")
	_, err = stage.Confirm(nil)
	require.ErrorContains(t, err, "the pages are nil")
	_, err = stage.Confirm(other.pages)
	require.ErrorContains(t, err, "stages: Confirm: Secrets: secret 1 of 1")
	stage.Secrets = nil
	require.ErrorContains(t, stage.Configured(), "Secrets is required")
}
