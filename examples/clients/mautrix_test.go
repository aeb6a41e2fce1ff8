package clients

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	"github.com/matrix-uia/uia"
)

// mautrixAuth is the auth member of a registration-token stage.
type mautrixAuth struct {
	mautrix.BaseAuthData
	Token string `json:"token,omitempty"`
}

// registerMautrix registers as a program on mautrix-go would: it asks for the
// flows, tries the tokens in turn in one session, and completes the dummy stage
// if the server wants it. It returns the error of the last token if none is right.
func registerMautrix(t *testing.T, client *mautrix.Client, username string, tokens ...string) (*mautrix.RespRegister, error) {
	t.Helper()
	req := &mautrix.ReqRegister[any]{Username: username, Password: "wonderland", InitialDeviceDisplayName: "mautrix"}
	res, uia, err := client.Register(t.Context(), req)
	require.Nil(t, res)
	require.NoError(t, err, "the first 401 is no error")
	require.NotNil(t, uia)
	session := uia.Session
	stages := uia.Flows[0].Stages
	require.Equal(t, mautrix.AuthType("m.login.registration_token"), stages[0])

	for i, token := range tokens {
		req.Auth = mautrixAuth{mautrix.BaseAuthData{Type: stages[0], Session: session}, token}
		res, uia, err = client.Register(t.Context(), req)
		if err == nil {
			break
		}
		httpErr, ok := errors.AsType[mautrix.HTTPError](err)
		require.True(t, ok && httpErr.RespError != nil, "%v", err)
		require.Equal(t, session, httpErr.RespError.ExtraData["session"], "the session goes on")
		if i == len(tokens)-1 {
			return nil, err
		}
	}
	if res == nil {
		require.Equal(t, []string{"m.login.registration_token"}, uia.Completed)
		req.Auth = mautrix.BaseAuthData{Type: stages[len(uia.Completed)], Session: session}
		res, _, err = client.Register(t.Context(), req)
	}
	return res, err
}

func TestMautrix(t *testing.T) {
	for name, flow := range map[string]uia.Flow{"T": flowT, "TD": flowTD} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, database string) {
				testMautrix(t, newHomeserverOn(t, database, flow, map[string]int64{"once": 1, "twice": 2}))
			})
		})
	}
}

func testMautrix(t *testing.T, h *homeserver) {
	newClient := func() *mautrix.Client {
		client, err := mautrix.NewClient(h.URL, "", "")
		require.NoError(t, err)
		return client
	}

	t.Run("right token", func(t *testing.T) {
		client := newClient()
		available, err := client.RegisterAvailable(t.Context(), "alice")
		require.NoError(t, err)
		require.True(t, available.Available)
		res, err := registerMautrix(t, client, "alice", "once")
		require.NoError(t, err)
		require.Equal(t, "@alice:localhost", res.UserID.String())
		client, err = mautrix.NewClient(h.URL, res.UserID, res.AccessToken)
		require.NoError(t, err)
		who, err := client.Whoami(t.Context())
		require.NoError(t, err)
		require.Equal(t, res.UserID, who.UserID)
		require.Equal(t, res.DeviceID, who.DeviceID)
		_, err = client.RegisterAvailable(t.Context(), "alice")
		require.ErrorIs(t, err, mautrix.MUserInUse)
	})
	t.Run("used-up token", func(t *testing.T) {
		_, err := registerMautrix(t, newClient(), "mallory", "once")
		require.ErrorContains(t, err, "M_UNAUTHORIZED")
		pending, completed := h.uses(t, "once")
		require.Equal(t, []int64{0, 1}, []int64{pending, completed})
	})
	t.Run("wrong then right token", func(t *testing.T) {
		res, err := registerMautrix(t, newClient(), "bob", "wrong", "once", "twice")
		require.NoError(t, err)
		require.Equal(t, "@bob:localhost", res.UserID.String())
		pending, completed := h.uses(t, "twice")
		require.Equal(t, []int64{0, 1}, []int64{pending, completed})
	})
	t.Run("username in use", func(t *testing.T) {
		req := &mautrix.ReqRegister[any]{Username: "bob", Password: "wonderland"}
		_, _, err := newClient().Register(t.Context(), req)
		require.ErrorIs(t, err, mautrix.MUserInUse)
	})
	t.Run("logs in", func(t *testing.T) {
		client := newClient()
		versions, err := client.Versions(t.Context())
		require.NoError(t, err)
		require.True(t, versions.ContainsGreaterOrEqual(mautrix.SpecV11))
		login := &mautrix.ReqLogin{
			Type:             mautrix.AuthTypePassword,
			Identifier:       mautrix.UserIdentifier{Type: mautrix.IdentifierTypeUser, User: "bob"},
			Password:         "wonderland",
			StoreCredentials: true,
		}
		_, err = client.Login(t.Context(), login)
		require.NoError(t, err)
		sync, err := client.SyncRequest(t.Context(), 0, "", "", true, "")
		require.NoError(t, err)
		require.NotEmpty(t, sync.NextBatch)
		_, err = client.LogoutAll(t.Context())
		require.NoError(t, err)
		_, err = client.Whoami(t.Context())
		require.ErrorIs(t, err, mautrix.MUnknownToken)
		login.Password = "wrong"
		_, err = newClient().Login(t.Context(), login)
		require.ErrorIs(t, err, mautrix.MForbidden)
	})
}
