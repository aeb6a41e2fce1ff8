package clients

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"maunium.net/go/mautrix"

	"github.com/matrix-uia/uia"
)

// takeName registers a name for somebody else.
func takeName(t *testing.T, h *homeserver, username string) {
	t.Helper()
	params := []any{"username", username, "password", "another's"}
	r := h.do(t, "POST", registerV3, object(t, append(params, "auth", tokenAuth("thief", ""))...))
	r = h.do(t, "POST", registerV3, object(t, append(params, "auth", dummyAuth(r.session(t)))...))
	requireRegistered(t, h, r, username)
}

// requireRefused asserts that r is a standard error that stops matrix-js-sdk, and nobody else.
func requireRefused(t *testing.T, r reply, status int, errcode string) {
	t.Helper()
	require.Equal(t, status, r.Status, "%v", r.Body)
	require.Equal(t, errcode, r.Body["errcode"])
	require.NotEmpty(t, r.Body["error"])
	require.Equal(t, []any{}, r.Body["flows"])
	require.NotContains(t, r.Body, "session", "mtxclient takes it for a challenge")
}

// The last leg is refused because the name was taken meanwhile. Cinny mends the name
// and sends every stage again in the same session; matrix-nio and others begin a new one.
func TestLastLegRefusedAndMended(t *testing.T) {
	for _, again := range []string{"in the same session", "in a new session"} {
		t.Run(again, func(t *testing.T) {
			h := newHomeserver(t, flowTD, map[string]int64{"once": 1, "thief": 1})
			send := func(username string, auth map[string]any) reply {
				return h.do(t, "POST", registerV3, object(t, "username", username, "password", "wonderland", "auth", auth))
			}
			session := h.do(t, "POST", registerV3, `{}`).session(t)
			requireChallenge(t, send("carol", tokenAuth("once", session)), "m.login.registration_token")
			takeName(t, h, "carol")
			requireRefused(t, send("carol", dummyAuth(session)), http.StatusBadRequest, "M_USER_IN_USE")

			if again == "in a new session" {
				session = h.do(t, "POST", registerV3, `{}`).session(t)
			}
			requireChallenge(t, send("caroline", tokenAuth("once", session)), "m.login.registration_token")
			requireRegistered(t, h, send("caroline", dummyAuth(session)), "caroline")
		})
	}
}

func TestMautrixMendsTheName(t *testing.T) {
	h := newHomeserver(t, flowTD, map[string]int64{"once": 1, "thief": 1})
	client, err := mautrix.NewClient(h.URL, "", "")
	require.NoError(t, err)
	req := &mautrix.ReqRegister[any]{Username: "carol", Password: "wonderland"}
	_, challenge, err := client.Register(t.Context(), req)
	require.NoError(t, err)
	req.Auth = mautrixAuth{mautrix.BaseAuthData{Type: uia.TokenType, Session: challenge.Session}, "once"}
	_, _, err = client.Register(t.Context(), req)
	require.NoError(t, err, "progress is no error")
	takeName(t, h, "carol")
	req.Auth = mautrix.BaseAuthData{Type: "m.login.dummy", Session: challenge.Session}
	_, _, err = client.Register(t.Context(), req)
	require.ErrorIs(t, err, mautrix.MUserInUse)
	res, err := registerMautrix(t, client, "caroline", "once")
	require.NoError(t, err, "the token can be used again at once")
	require.Equal(t, "@caroline:localhost", res.UserID.String())
}

// A token that is pinned to another name is refused at its own leg, with nothing held:
// Cinny shows the server's text for 409 and lets the name be mended.
func TestPinnedTokenRefusedAtItsLeg(t *testing.T) {
	for name, flow := range map[string]uia.Flow{"T": flowT, "TD": flowTD} {
		t.Run(name, func(t *testing.T) {
			h := newHomeserver(t, flow, nil)
			require.NoError(t, h.store.CreateTokens(t.Context(), uia.Token{Value: "pinned", UsesAllowed: new(int64(1)), Meta: json.RawMessage(`{"username":"bob"}`)}))
			send := func(username string, auth map[string]any) reply {
				return h.do(t, "POST", registerV3, object(t, "username", username, "password", "wonderland", "auth", auth))
			}
			session := h.do(t, "POST", registerV3, `{}`).session(t)
			r := send("charlie", tokenAuth("pinned", session))
			requireRefused(t, r, http.StatusConflict, "M_FORBIDDEN")
			require.Contains(t, r.Body["error"], "bob")
			pending, completed := h.uses(t, "pinned")
			require.Equal(t, []int64{0, 0}, []int64{pending, completed})
			r = send("bob", tokenAuth("pinned", session))
			if len(flow) == 2 {
				requireChallenge(t, r, "m.login.registration_token")
				r = send("bob", dummyAuth(session))
			}
			requireRegistered(t, h, r, "bob")
		})
	}
}
