package hs

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, token := newServer(t, nil)
		sync := func(query string) (time.Duration, int, map[string]any) {
			start := time.Now()
			status, _, body := call(t, s, "GET", "/_matrix/client/v3/sync"+query, token, "")
			return time.Since(start), status, body
		}
		took, status, body := sync("?timeout=30000")
		require.Equal(t, http.StatusOK, status)
		require.Zero(t, took, "the first sync has something to tell")
		since := "?since=" + body["next_batch"].(string)
		took, _, _ = sync(since)
		require.Zero(t, took)
		took, _, _ = sync(since + "&timeout=5000")
		require.Equal(t, 5*time.Second, took)
		took, _, _ = sync(since + "&timeout=999999999999")
		require.Equal(t, maxPoll, took)
		took, _, _ = sync(since + "&timeout=-1")
		require.Zero(t, took)

		done := make(chan int)
		go func() {
			_, status, _ := sync(since + "&timeout=30000")
			done <- status
		}()
		synctest.Wait()
		require.NoError(t, s.accounts.DeleteAllDevices(t.Context(), "alice"))
		s.Close()
		require.Equal(t, http.StatusUnauthorized, <-done, "logged out while waiting")
	})
}

func TestFilters(t *testing.T) {
	s, token := newServer(t, nil)
	const path = "/_matrix/client/v3/user/%40alice%3Aexample.org/filter"
	status, _, body := call(t, s, "POST", path, token, `{"room": {"timeline": {"limit": 8}}}`)
	require.Equal(t, http.StatusOK, status)
	id := body["filter_id"].(string)
	require.NotEqual(t, byte('{'), id[0])
	status, _, body = call(t, s, "GET", path+"/"+id, token, "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"room": map[string]any{"timeline": map[string]any{"limit": 8.0}}}, body)
	status, _, body = call(t, s, "GET", path+"/nope", token, "")
	require.Equal(t, "404 M_NOT_FOUND", fmt.Sprint(status, " ", body["errcode"]))
	status, _, body = call(t, s, "POST", path, token, `[]`)
	require.Equal(t, "400 M_BAD_JSON", fmt.Sprint(status, " ", body["errcode"]))
	status, _, body = call(t, s, "POST", path, token, `{"x":"`+strings.Repeat("x", maxFilter)+`"}`)
	require.Equal(t, "413 M_TOO_LARGE", fmt.Sprint(status, " ", body["errcode"]))
	status, _, body = call(t, s, "POST", "/_matrix/client/v3/user/@bob:example.org/filter", token, `{}`)
	require.Equal(t, "403 M_FORBIDDEN", fmt.Sprint(status, " ", body["errcode"]))
}

func TestKeys(t *testing.T) {
	s, token := newServer(t, nil)
	const upload, query = "/_matrix/client/v3/keys/upload", "/_matrix/client/v3/keys/query"
	_, _, who := call(t, s, "GET", "/_matrix/client/v3/account/whoami", token, "")
	device := who["device_id"].(string)
	status, _, body := call(t, s, "POST", upload, token, `{"one_time_keys":{"signed_curve25519:AA":{"key":"x"},"signed_curve25519:AB":{}}}`)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"signed_curve25519": 2.0}, body["one_time_key_counts"])
	_, _, body = call(t, s, "POST", query, token, `{"device_keys":{"@alice:example.org":[]}}`)
	require.Equal(t, map[string]any{"@alice:example.org": map[string]any{}}, body["device_keys"])

	status, _, body = call(t, s, "POST", upload, token, fmt.Sprintf(
		`{"device_keys":{"user_id":"@alice:example.org","device_id":%q,"keys":{"ed25519:X":"k"}},"one_time_keys":{"signed_curve25519:AA":{}}}`, device))
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]any{"signed_curve25519": 2.0}, body["one_time_key_counts"])
	for _, wanted := range []string{`[]`, `["` + device + `"]`} {
		_, _, body = call(t, s, "POST", query, token, `{"device_keys":{"@alice:example.org":`+wanted+`,"@nobody:example.org":[]}}`)
		keys := body["device_keys"].(map[string]any)
		require.Len(t, keys, 1)
		got := keys["@alice:example.org"].(map[string]any)[device].(map[string]any)
		require.Equal(t, map[string]any{"ed25519:X": "k"}, got["keys"])
	}
	_, _, body = call(t, s, "POST", query, token, `{"device_keys":{"@alice:example.org":["OTHER"]}}`)
	require.Equal(t, map[string]any{"@alice:example.org": map[string]any{}}, body["device_keys"])
	_, _, sync := call(t, s, "GET", "/_matrix/client/v3/sync", token, "")
	require.Equal(t, map[string]any{"signed_curve25519": 2.0}, sync["device_one_time_keys_count"])

	for _, wrong := range []string{
		`{"device_keys":{"user_id":"@bob:example.org","device_id":"` + device + `"}}`,
		`{"device_keys":{"user_id":"@alice:example.org","device_id":"OTHER"}}`,
		`{"device_keys":[]}`, `{"one_time_keys":[]}`,
	} {
		status, _, _ = call(t, s, "POST", upload, token, wrong)
		require.Equal(t, http.StatusBadRequest, status, wrong)
	}
}
