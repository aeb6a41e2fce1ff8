package dendritetest_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/dendritetest"
)

const (
	registerPath = "/_matrix/client/v3/register"
	secretPath   = "/_synapse/admin/v1/register"
)

// call sends a request and returns what the homeserver answers.
func call(t *testing.T, d *dendritetest.Dendrite, method, path, body string) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, d.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	var object map[string]any
	require.NoError(t, json.NewDecoder(response.Body).Decode(&object))
	return response.StatusCode, object
}

// Anybody registers, and what was registered outlives a kill.
func TestStart(t *testing.T) {
	d := dendritetest.Start(t, dendritetest.Options{ServerName: "example.org", Guests: true})
	const account = `{"username":"alice","password":"correct horse battery","auth":{"type":"m.login.dummy"}}`
	status, answer := call(t, d, "POST", registerPath, account)
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "@alice:example.org", answer["user_id"])
	status, _ = call(t, d, "POST", secretPath, "{}")
	require.NotEqual(t, http.StatusOK, status, "there is no shared secret")
	status, answer = call(t, d, "POST", registerPath+"?kind=guest", "{}")
	require.Equal(t, http.StatusOK, status, answer)

	d.Kill()
	d.Kill()
	_, err := http.Get(d.URL)
	require.Error(t, err)
	before := d.URL
	d.Restart(t)
	require.Equal(t, before, d.URL)
	status, answer = call(t, d, "POST", registerPath, account)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, "M_USER_IN_USE", answer["errcode"])
}

// A closed homeserver registers those who know the secret, and application services.
func TestClosed(t *testing.T) {
	d := dendritetest.Start(t, dendritetest.Options{Closed: true, SharedSecret: `a "secret"`, AppServices: []string{
		`{id: bridge, url: null, as_token: as, hs_token: hs, sender_localpart: bridge, namespaces: {users: [{exclusive: true, regex: "@bridge_.*"}]}}`,
	}})
	status, answer := call(t, d, "POST", registerPath, `{"username":"alice","password":"correct horse battery","auth":{"type":"m.login.dummy"}}`)
	require.Equal(t, http.StatusForbidden, status, answer)
	status, answer = call(t, d, "POST", registerPath+"?kind=guest", "{}")
	require.Equal(t, http.StatusForbidden, status, answer)

	_, answer = call(t, d, "GET", secretPath, "")
	mac := hmac.New(sha1.New, []byte(`a "secret"`))
	fmt.Fprintf(mac, "%s\x00alice\x00correct horse battery\x00notadmin", answer["nonce"])
	status, answer = call(t, d, "POST", secretPath, fmt.Sprintf(`{"nonce":%q,"username":"alice","password":"correct horse battery","mac":%q}`,
		answer["nonce"], hex.EncodeToString(mac.Sum(nil))))
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "@alice:localhost", answer["user_id"])

	status, answer = call(t, d, "POST", registerPath+"?access_token=as", `{"type":"m.login.application_service","username":"bridge_bob"}`)
	require.Equal(t, http.StatusOK, status, answer)
	require.Equal(t, "@bridge_bob:localhost", answer["user_id"])
}
