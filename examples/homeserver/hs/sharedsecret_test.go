package hs

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSharedSecret(t *testing.T) {
	s, _ := newServer(t, nil)
	now := time.Now()
	s.shared.now = func() time.Time { return now }
	const path = "/_synapse/admin/v1/register"
	nonce := func() string {
		_, _, body := call(t, s, "GET", path, "", "")
		return body["nonce"].(string)
	}
	post := func(nonce, user, password, secret string, admin bool) string {
		mac := hmac.New(sha1.New, []byte(secret))
		fmt.Fprintf(mac, "%s\x00%s\x00%s\x00%s", nonce, user, password, map[bool]string{true: "admin", false: "notadmin"}[admin])
		body, err := json.Marshal(map[string]any{"nonce": nonce, "username": user, "password": password, "admin": admin,
			"mac": hex.EncodeToString(mac.Sum(nil))})
		require.NoError(t, err)
		status, _, got := call(t, s, "POST", path, "", string(body))
		if status == http.StatusOK {
			require.Equal(t, "@"+user+":example.org", got["user_id"])
			require.NotEmpty(t, got["access_token"])
		}
		return strings.TrimSpace(fmt.Sprint(status, " ", got["errcode"]))
	}
	n := nonce()
	require.Equal(t, "403 M_UNKNOWN", post(n, "bob", "pw", "wrong secret", false))
	require.Equal(t, "200 <nil>", post(n, "bob", "pw", "shared secret", true))
	bob, err := s.accounts.User(t.Context(), "bob")
	require.NoError(t, err)
	require.True(t, bob.Admin)
	require.Equal(t, "400 M_UNKNOWN", post(n, "carol", "pw", "shared secret", false), "a nonce is used once")
	require.Equal(t, "400 M_USER_IN_USE", post(nonce(), "bob", "pw", "shared secret", false))
	require.Equal(t, "400 M_INVALID_USERNAME", post(nonce(), "b b", "pw", "shared secret", false))
	require.Equal(t, "400 M_UNKNOWN", post(nonce(), "dave", "", "shared secret", false))
	require.Equal(t, "400 M_UNKNOWN", post("made up", "dave", "pw", "shared secret", false))
	n = nonce()
	now = now.Add(nonceTTL)
	require.Equal(t, "400 M_UNKNOWN", post(n, "dave", "pw", "shared secret", false), "a nonce expires")
	require.Equal(t, "200 <nil>", post(nonce(), "dave", "pw", "shared secret", false))
	require.Len(t, s.shared.used, 1, "expired ones are forgotten")
}
