package clients

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/stages"
)

// mailbox is a user who opens each mail at once.
type mailbox struct {
	mu    sync.Mutex
	mails []stages.Confirmation
}

func (m *mailbox) SendConfirmation(ctx context.Context, c stages.Confirmation) error {
	m.mu.Lock()
	m.mails = append(m.mails, c)
	m.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, "POST", c.Link, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

func (m *mailbox) addresses() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.mails {
		all = append(all, c.Address)
	}
	return all
}

// anybody makes accounts that are there only in name.
type anybody struct{}

func (anybody) Available(context.Context, register.UsernameRequest) error { return nil }

func (anybody) Create(_ context.Context, a register.Account) (register.Created, error) {
	return register.Created{UserID: "@" + a.Localpart + ":localhost", DeviceID: "D", AccessToken: "t"}, nil
}

// newMailing starts a homeserver that asks for a token and then for a confirmed address.
func newMailing(t *testing.T) (*homeserver, *mailbox) {
	mux, store, box := http.NewServeMux(), memstore.New(nil), &mailbox{}
	h := &homeserver{httptest.NewServer(mux), store}
	t.Cleanup(h.Close)
	email := &stages.EmailStage{
		Mailer: box, Store: &stages.EmailMemory{}, Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)),
		ConfirmURL: h.URL + "/confirm", After: uia.TokenType, NoLimit: true,
	}
	registration := &register.Registration{
		Accounts: anybody{}, ServerName: "localhost", Flows: []uia.Flow{{uia.TokenType, stages.EmailType}}, Resolve: uia.NotDone,
	}
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), Sessions: store,
		Stages: []uia.Stage{&uia.TokenStage{Store: store}, email}, Operations: []uia.Operation{registration.Operation()},
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, nil)
	require.NoError(t, err)
	handler, err := registration.Handler(engine)
	require.NoError(t, err)
	requestToken, err := email.RequestToken(engine)
	require.NoError(t, err)
	confirm, err := email.Confirm(pages)
	require.NoError(t, err)
	for _, v := range []string{"/_matrix/client/v3", "/_matrix/client/r0"} {
		mux.Handle(v+"/register", handler)
		mux.Handle(v+"/register/email/requestToken", requestToken)
	}
	mux.Handle("/confirm", confirm)
	mux.HandleFunc("/_matrix/client/versions", func(w http.ResponseWriter, r *http.Request) {
		uia.WriteJSON(w, r, nil, http.StatusOK, map[string]any{"versions": []string{"r0.6.1", "v1.11"}})
	})
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "once", UsesAllowed: new(int64(1)), Created: time.Now()}))
	return h, box
}

// matrix-js-sdk asks for the mail when it sees the flows, and names no session. The mail
// goes out once the token is right, and to nobody before that.
func TestMatrixJSSDKConfirmsAnAddressBehindAToken(t *testing.T) {
	h, box := newMailing(t)
	results := registerJS(t, h, []jsCase{
		{Username: "mallory", Password: "wonderland", Tokens: []string{"wrong", "guessed"}, Email: "victim@example.org"},
		{Username: "alice", Password: "wonderland", Tokens: []string{"wrong", "once"}, Email: "Alice@example.org"},
	})
	stranger, alice := results[0], results[1]
	require.Contains(t, stranger.Failure.Message, "out of tokens")
	require.Equal(t, 1, stranger.MailRequests)
	require.Nil(t, alice.Failure)
	require.Equal(t, "@alice:localhost", alice.Response.UserID)
	require.Equal(t, 1, alice.Sessions)
	require.Equal(t, []string{"alice@example.org"}, box.addresses())
}

// element-android counts send_attempt from zero, and asks for the mail before it sends
// anything else.
func TestElementAndroidConfirmsAnAddressBehindAToken(t *testing.T) {
	h, box := newMailing(t)
	const path = "/_matrix/client/r0/register"
	h.do(t, "POST", path, `{}`).session(t)
	session := h.do(t, "POST", path, `{"username":"ann","password":"wonderland","initial_device_display_name":"Pixel"}`).session(t)
	token := h.do(t, "POST", path, object(t, "auth", map[string]any{"type": uia.TokenType, "session": session, "token": "once"}))
	require.Equal(t, []any{uia.TokenType}, token.Body["completed"])
	asked := h.do(t, "POST", path+"/email/requestToken", `{"client_secret":"3f9c0a6e-7e5c-4b6e-9d2c-2f1f6f0c0f3a","send_attempt":0,"email":"ann@example.org"}`)
	require.Equal(t, http.StatusOK, asked.Status, "%v", asked.Body)
	stage := object(t, "auth", map[string]any{"type": stages.EmailType, "session": session,
		"threepid_creds": map[string]any{"sid": asked.Body["sid"], "client_secret": "3f9c0a6e-7e5c-4b6e-9d2c-2f1f6f0c0f3a"}})
	first := h.do(t, "POST", path, stage)
	require.Equal(t, http.StatusUnauthorized, first.Status)
	require.Empty(t, first.Body["errcode"])
	require.Equal(t, []string{"ann@example.org"}, box.addresses())
	last := h.do(t, "POST", path, stage)
	require.Equal(t, http.StatusOK, last.Status, "%v", last.Body)
	require.Equal(t, "@ann:localhost", last.Body["user_id"])
}
