package hs

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// MSC3967, in the specification since Matrix 1.11, which /versions lists.
func TestFirstSigningKeysNeedNoPassword(t *testing.T) {
	const path = "/_matrix/client/v3/keys/device_signing/upload"
	keys := func(master, self string) string {
		return `{"master_key":{"keys":{"ed25519:M":"` + master + `"}},"self_signing_key":{"keys":{"ed25519:S":"` + self + `"}}}`
	}
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		s := newServerOn(t, mustOpen(t, database(t)))
		made, err := s.makeAccount(t.Context(), "alice", "wonderland", false)
		require.NoError(t, err)
		alice := made.(session).AccessToken
		upload := func(token, body string) int {
			status, _, _ := call(t, s, "POST", path, token, body)
			return status
		}
		require.Equal(t, http.StatusUnauthorized, upload("", keys("a", "b")))
		require.Equal(t, http.StatusUnauthorized, upload("forged", keys("a", "b")))
		for _, nothing := range []string{"", "{}", `{"master_key":null}`, `{"self_signing_key":{}}`} {
			require.Equal(t, http.StatusUnauthorized, upload(alice, nothing), nothing)
		}
		require.Equal(t, http.StatusBadRequest, upload(alice, `{"master_key":`))
		require.Equal(t, http.StatusOK, upload(alice, keys("a", "b")))
		user, err := s.accounts.User(t.Context(), "alice")
		require.NoError(t, err)
		require.JSONEq(t, `{"keys":{"ed25519:M":"a"}}`, string(user.SigningKeys.Master))
		require.Equal(t, http.StatusOK, upload(alice, keys("a", "b")), "the same keys")
		require.Equal(t, http.StatusOK, upload(alice, `{"self_signing_key":{"keys":{"ed25519:S": "b"}}}`), "one of them")
		for _, others := range []string{keys("x", "b"), keys("a", "x"), `{"user_signing_key":{}}`} {
			require.Equal(t, http.StatusUnauthorized, upload(alice, others), others)
		}
		_, _, challenge := call(t, s, "POST", path, alice, keys("x", "y"))
		require.NotEmpty(t, challenge["session"])
		after, err := s.accounts.User(t.Context(), "alice")
		require.NoError(t, err)
		require.Equal(t, user.SigningKeys.Master, after.SigningKeys.Master)
	})
}

func TestRenamedDevice(t *testing.T) {
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		s := newServerOn(t, mustOpen(t, database(t)))
		made, err := s.makeAccount(t.Context(), "alice", "wonderland", false)
		require.NoError(t, err)
		alice, device := made.(session).AccessToken, "/_matrix/client/v3/devices/"+made.(session).DeviceID
		put := func(path, body string) (int, any) {
			status, _, answer := call(t, s, "PUT", path, alice, body)
			return status, answer["errcode"]
		}
		name := func() any {
			_, _, got := call(t, s, "GET", device, alice, "")
			return got["display_name"]
		}
		status, code := put(device, `{"display_name":"My phone"}`)
		require.Equal(t, []any{200, nil}, []any{status, code})
		require.Equal(t, "My phone", name())
		status, _ = put(device, `{}`)
		require.Equal(t, 200, status)
		for body, want := range map[string]string{
			`{"display_name":7}`: "M_BAD_JSON", `{"display_name":"a\u0000"}`: "M_INVALID_PARAM", `{"display_name":"` + strings.Repeat("x", 256) + `"}`: "M_INVALID_PARAM", `{`: "M_NOT_JSON",
		} {
			status, code = put(device, body)
			require.Equal(t, []any{400, want}, []any{status, code}, body)
		}
		for _, path := range []string{"/_matrix/client/v3/devices/OTHER", "/_matrix/client/v3/devices/%00"} {
			for _, body := range []string{`{"display_name":"x"}`, `{}`} {
				status, code = put(path, body)
				require.Equal(t, []any{404, "M_NOT_FOUND"}, []any{status, code}, path)
			}
		}
		require.Equal(t, "My phone", name())
		_, _, whoami := call(t, s, "GET", "/_matrix/client/v3/account/whoami", alice, "")
		require.Equal(t, "@alice:example.org", whoami["user_id"], "it stays logged in")
	})
}
