package hs

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLogin(t *testing.T) {
	s, first := newServer(t, nil)
	const path = "/_matrix/client/v3/login"
	_, _, body := call(t, s, "GET", path, "", "")
	require.Equal(t, map[string]any{"flows": []any{map[string]any{"type": "m.login.password"}}}, body)

	for _, right := range []string{
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"alice"},"password":"wonderland"}`,
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"@alice:example.org"},"password":"wonderland"}`,
		`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"Alice"},"password":"wonderland"}`,
		`{"type":"m.login.password","user":"alice","password":"wonderland"}`,
		`{"type":"m.login.password","user":"@alice:example.org","password":"wonderland","device_id":"PHONE"}`,
	} {
		status, _, body := call(t, s, "POST", path, "", right)
		require.Equal(t, http.StatusOK, status, "%s: %v", right, body)
		require.Equal(t, "@alice:example.org", body["user_id"])
		require.Equal(t, "example.org", body["home_server"])
		if strings.Contains(right, "PHONE") {
			require.Equal(t, "PHONE", body["device_id"])
		}
		_, _, who := call(t, s, "GET", "/_matrix/client/v3/account/whoami", body["access_token"].(string), "")
		require.Equal(t, body["device_id"], who["device_id"])
	}
	for wrong, want := range map[string]string{
		`{"type":"m.login.password","user":"alice","password":"wrong"}`:                                                     "403 M_FORBIDDEN",
		`{"type":"m.login.password","user":"nobody","password":"wonderland"}`:                                               "403 M_FORBIDDEN",
		`{"type":"m.login.password","user":"@alice:elsewhere.org","password":"wonderland"}`:                                 "403 M_FORBIDDEN",
		`{"type":"m.login.password","user":"alice"}`:                                                                        "400 M_MISSING_PARAM",
		`{"type":"m.login.password","password":"wonderland"}`:                                                               "400 M_MISSING_PARAM",
		`{"type":"m.login.password","user":"alice","password":"wonderland","device_id":"` + strings.Repeat("x", 256) + `"}`: "400 M_INVALID_PARAM",
		`{"type":"m.login.token","token":"x"}`:                                                                              "400 M_UNKNOWN",
		`{"type":"m.login.password","identifier":{"type":"m.id.phone","phone":"1"},"password":"wonderland"}`:                "400 M_UNKNOWN",
		`{"type":"m.login.password","user":["alice"],"password":"wonderland"}`:                                              "400 M_BAD_JSON",
		`[]`:                                "400 M_BAD_JSON",
		``:                                  "400 M_NOT_JSON",
		"{\"user\":\"\xff\"}":               "400 M_NOT_JSON",
		strings.Repeat(" ", maxBody) + "{}": "413 M_TOO_LARGE",
	} {
		status, _, body := call(t, s, "POST", path, "", wrong)
		require.Equal(t, want, fmt.Sprint(status, " ", body["errcode"]), "%.80s", wrong)
	}

	// A second login on the same device replaces the first one's access token.
	again := `{"type":"m.login.password","user":"alice","password":"wonderland","device_id":"PHONE"}`
	_, _, one := call(t, s, "POST", path, "", again)
	_, _, two := call(t, s, "POST", path, "", again)
	status, _, _ := call(t, s, "GET", "/_matrix/client/v3/account/whoami", one["access_token"].(string), "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _, _ = call(t, s, "POST", "/_matrix/client/v3/logout/all", two["access_token"].(string), "")
	require.Equal(t, http.StatusOK, status)
	status, _, _ = call(t, s, "GET", "/_matrix/client/v3/account/whoami", first, "")
	require.Equal(t, http.StatusUnauthorized, status)
}

func TestLoginIsLimited(t *testing.T) {
	s, _ := newServer(t, func(o *Options) { o.Failures = 3 })
	guess := func(password string) int {
		status, _, _ := call(t, s, "POST", "/_matrix/client/v3/login", "",
			`{"type":"m.login.password","user":"alice","password":"`+password+`"}`)
		return status
	}
	for range 10 {
		require.Equal(t, http.StatusOK, guess("wonderland"))
	}
	require.Equal(t, http.StatusForbidden, guess("a"))
	require.Equal(t, http.StatusForbidden, guess("b"))
	status, _, body := call(t, s, "POST", "/_matrix/client/v3/register", "",
		`{"username":"bob","password":"x","auth":{"type":"m.login.registration_token","token":"wrong"}}`)
	require.Equal(t, http.StatusUnauthorized, status, "%v", body)
	require.Equal(t, http.StatusTooManyRequests, guess("wonderland"))
}

// A request with text that PostgreSQL cannot store is refused in the same way
// whatever the storage.
func TestUnstorableText(t *testing.T) {
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		s := newServerOn(t, mustOpen(t, database(t)))
		made, err := s.makeAccount(t.Context(), "alice", "wonder\x00land", false)
		require.NoError(t, err)
		token := made.(session).AccessToken
		login := `{"type":"m.login.password","user":"alice","password":"wonder\u0000land"}`
		status, _, body := call(t, s, "POST", "/_matrix/client/v3/login", "", login)
		require.Equal(t, http.StatusOK, status, "%v", body)
		for _, wrong := range []string{
			strings.Replace(login, `{`, `{"device_id":"\u0000",`, 1),
			strings.Replace(login, `{`, `{"initial_device_display_name":"a\u0000b",`, 1),
		} {
			status, _, body = call(t, s, "POST", "/_matrix/client/v3/login", "", wrong)
			require.Equal(t, http.StatusBadRequest, status, "%v", body)
			require.Equal(t, "M_INVALID_PARAM", body["errcode"])
		}
		status, _, body = call(t, s, "POST", "/_matrix/client/v3/login", "", strings.Replace(login, "alice", `al\u0000ce`, 1))
		require.Equal(t, http.StatusForbidden, status, "%v", body)
		status, _, body = call(t, s, "POST", "/_matrix/client/v3/keys/upload", token, `{"one_time_keys":{"a:\u0000":{"key":"\u0000"}}}`)
		require.Equal(t, http.StatusOK, status, "%v", body)
		status, _, body = call(t, s, "POST", "/_matrix/client/v3/keys/query", token, `{"device_keys":{"@al\u0000ce:example.org":[]}}`)
		require.Equal(t, http.StatusOK, status, "%v", body)
		status, _, body = call(t, s, "POST", registerPath, "",
			`{"username":"bob","password":"x","device_id":"\u0000","auth":{"type":"m.login.registration_token","token":"fifty"}}`)
		require.Equal(t, http.StatusBadRequest, status, "%v", body)
		require.Equal(t, "M_INVALID_PARAM", body["errcode"])
		_, err = s.accounts.User(t.Context(), "bob")
		require.ErrorIs(t, err, ErrNotFound, "there is no user without the device")
	})
}
