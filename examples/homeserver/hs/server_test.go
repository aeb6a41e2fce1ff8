package hs

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// newServer makes a homeserver with one user, alice, and returns her access token.
func newServer(t *testing.T, change func(*Options)) (*Server, string) {
	t.Helper()
	opts := Options{ServerName: "example.org", Storage: mustOpen(t, "memory"), SharedSecret: "shared secret"}
	if change != nil {
		change(&opts)
	}
	s, err := New(t.Context(), opts)
	require.NoError(t, err)
	made, err := s.makeAccount(t.Context(), "alice", "wonderland", false)
	require.NoError(t, err)
	return s, made.(session).AccessToken
}

// newServerOn makes a homeserver on a storage, which may have users, with the
// token "fifty".
func newServerOn(t *testing.T, storage *Storage) *Server {
	t.Helper()
	s, err := New(t.Context(), Options{ServerName: "example.org", Storage: storage, Failures: -1,
		Tokens: []uia.Token{{Value: "fifty", UsesAllowed: new(int64(50)), Created: time.Now()}}})
	require.NoError(t, err)
	return s
}

// call sends a request to s; a token that is not empty is the access token.
func call(t *testing.T, s *Server, method, path, token, body string) (int, http.Header, map[string]any) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	var got map[string]any
	if w.Body.Len() > 0 {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got), "%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Code, w.Header(), got
}

// surface is every endpoint, with the methods it has.
var surface = map[string]string{
	"/.well-known/matrix/client":                                      "GET",
	"/_matrix/client/versions":                                        "GET",
	"/_synapse/admin/v1/register":                                     "GET POST",
	"/_synapse/admin/v1/server_version":                               "GET",
	"/_synapse/admin/v2/users":                                        "GET",
	"/_synapse/admin/v3/users":                                        "GET",
	"/_matrix/client/V/profile/x":                                     "GET",
	"/_matrix/client/V/login":                                         "GET POST",
	"/_matrix/client/V/logout":                                        "POST",
	"/_matrix/client/V/logout/all":                                    "POST",
	"/_matrix/client/V/account/whoami":                                "GET",
	"/_matrix/client/V/capabilities":                                  "GET",
	"/_matrix/client/V/sync":                                          "GET",
	"/_matrix/client/V/user/x/filter":                                 "POST",
	"/_matrix/client/V/user/x/filter/y":                               "GET",
	"/_matrix/client/V/pushrules":                                     "GET",
	"/_matrix/client/V/pushrules/":                                    "GET",
	"/_matrix/client/V/keys/upload":                                   "POST",
	"/_matrix/client/V/keys/query":                                    "POST",
	"/_matrix/client/V/devices":                                       "GET",
	"/_matrix/client/V/devices/x":                                     "GET PUT DELETE",
	"/_matrix/client/V/delete_devices":                                "POST",
	"/_matrix/client/V/account/password":                              "POST",
	"/_matrix/client/V/account/deactivate":                            "POST",
	"/_matrix/client/V/keys/device_signing/upload":                    "POST",
	"/_matrix/client/V/register":                                      "POST",
	"/_matrix/client/V/register/available":                            "GET",
	"/_matrix/client/v1/register/m.login.registration_token/validity": "GET",
	"/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity": "GET",
}

func TestSurface(t *testing.T) {
	s, _ := newServer(t, nil)
	requireCORS := func(t *testing.T, h http.Header) {
		t.Helper()
		require.Equal(t, []string{"*"}, h["Access-Control-Allow-Origin"])
		require.Equal(t, []string{"GET, POST, PUT, DELETE, OPTIONS"}, h["Access-Control-Allow-Methods"])
		require.Equal(t, []string{"X-Requested-With, Content-Type, Authorization"}, h["Access-Control-Allow-Headers"])
	}
	for path, methods := range surface {
		for _, version := range []string{"v3", "r0"} {
			path := strings.Replace(path, "/V/", "/"+version+"/", 1)
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
				status, header, body := call(t, s, method, path, "", "")
				requireCORS(t, header)
				require.Equal(t, "application/json", header.Get("Content-Type"), "%s %s", method, path)
				if strings.Contains(methods, method) {
					require.NotEqual(t, http.StatusMethodNotAllowed, status, "%s %s", method, path)
					require.NotEqual(t, "M_UNRECOGNIZED", body["errcode"], "%s %s", method, path)
					require.Less(t, status, 500, "%s %s: %v", method, path, body)
					continue
				}
				require.Equal(t, http.StatusMethodNotAllowed, status, "%s %s", method, path)
				require.Equal(t, "M_UNRECOGNIZED", body["errcode"])
				for allowed := range strings.FieldsSeq(methods) {
					require.Contains(t, header.Get("Allow"), allowed)
				}
			}
			status, header, _ := call(t, s, "OPTIONS", path, "", "")
			require.Less(t, status, 300)
			requireCORS(t, header)
		}
	}
	for _, path := range []string{"/_matrix", "/_matrix/client/v3/rooms", "/_matrix/client/v3//login", "/_matrix/client/v3/login/",
		"/_matrix/client/v3/./login", "/_matrix/client/v1/login", "/_matrix/client/v3/profile/@alice:example.org/displayname", "/favicon.ico",
		"/_matrix/client/v3/pushrules/global/", "/_matrix/client/v3/user/a%2Fb/nothing"} {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "BREW"} {
			status, header, body := call(t, s, method, path, "", "")
			require.Equal(t, http.StatusNotFound, status, "%s %s", method, path)
			require.Equal(t, "M_UNRECOGNIZED", body["errcode"])
			require.Equal(t, "application/json", header.Get("Content-Type"))
			requireCORS(t, header)
		}
	}
}

func TestNoSharedSecret(t *testing.T) {
	s, err := New(t.Context(), Options{ServerName: "example.org", Storage: mustOpen(t, "memory")})
	require.NoError(t, err)
	status, _, _ := call(t, s, "GET", "/_synapse/admin/v1/register", "", "")
	require.Equal(t, http.StatusNotFound, status)
}

// Every endpoint that needs an access token says so in the same way.
func TestAccessTokens(t *testing.T) {
	s, token := newServer(t, nil)
	endpoints := map[string]string{
		"/logout": "POST", "/logout/all": "POST", "/account/whoami": "GET", "/capabilities": "GET", "/sync": "GET",
		"/user/x/filter": "POST", "/user/x/filter/y": "GET", "/pushrules/": "GET", "/keys/upload": "POST", "/keys/query": "POST",
	}
	for path, method := range endpoints {
		path = "/_matrix/client/v3" + path
		status, _, body := call(t, s, method, path, "", "{}")
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Equal(t, "M_MISSING_TOKEN", body["errcode"], path)
		status, _, body = call(t, s, method, path, "wrong", "{}")
		require.Equal(t, http.StatusUnauthorized, status, path)
		require.Equal(t, "M_UNKNOWN_TOKEN", body["errcode"], path)
	}
	status, _, body := call(t, s, "GET", "/_matrix/client/v3/account/whoami?access_token="+token, "", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "@alice:example.org", body["user_id"])
	status, _, _ = call(t, s, "GET", "/_matrix/client/r0/capabilities", token, "")
	require.Equal(t, http.StatusOK, status)
	status, _, body = call(t, s, "POST", "/_matrix/client/v3/logout", token, "")
	require.Equal(t, http.StatusOK, status)
	require.Empty(t, body)
	_, _, body = call(t, s, "GET", "/_matrix/client/v3/account/whoami", token, "")
	require.Equal(t, "M_UNKNOWN_TOKEN", body["errcode"])
}
