package gateway

import (
	"net/url"
	"path"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRoute is the table of paths: whatever an upstream could understand as
// registration is not passed on, and nothing else is kept from it.
func TestRoute(t *testing.T) {
	names := map[destination]string{
		toUpstream: "upstream", toRegister: "register", toAvailable: "available", toValidity: "validity", toFallback: "fallback",
		toAdmin: "admin", toServerVersion: "version", toSignup: "signup",
		toAccount: "account", toPasswordMail: "password mail", refusedPath: "refused",
	}
	for want, paths := range map[destination][]string{
		toRegister: {
			"/_matrix/client/v3/register", "/_matrix/client/r0/register", "/_matrix/client/unstable/register",
			"/_matrix/client/v1/register", "/_matrix/client/v9/register", "/_matrix/client/api/v1/register", "/_matrix/client/api/v2_alpha/register",
			"/_matrix/client/v2_alpha/register", "/_matrix/client/v3/register/", "/_matrix/client/v3/register//", "//_matrix/client/v3/register",
			"/_matrix//client/v3/register", "/_matrix/client//v3///register", "/_matrix/client/v3/./register", "/_matrix/client/v3/x/../register",
			"/../_matrix/client/v3/register", "/_matrix/client/v3/%72egister", "/%5Fmatrix/client/v3/register", "/_matrix/client/v3%2fregister",
			"/_matrix%2Fclient%2Fv3%2Fregister", "/_matrix/client/v3/foo/%2e%2e/register", "/_matrix/client/x/../v3/register/.",
		},
		toAvailable: {"/_matrix/client/v3/register/available", "/_matrix/client/r0/register/available/", "/_matrix/client/v3//register//available"},
		toValidity: {
			"/_matrix/client/v1/register/m.login.registration_token/validity", "//_matrix/client/v1/register/m.login.registration_token/validity",
			"/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity",
		},
		refusedPath: {
			"/_matrix/client/v3/register/email/requestToken", "/_matrix/client/r0/register/msisdn/requestToken", "/_matrix/client/v3/register/x",
			"/_matrix/client/v3/register/m.login.registration_token/validity", "/_matrix/client/v3/register/available/x",
			"/_matrix/client/unstable/org.example.msc1234/register", "/_matrix/client/unstable/org.example/register/x",
			"/_matrix/client/v3/admin/register", "/_matrix/client/api/v1/admin/register",
			"/_synapse/admin/v1/register", "/_synapse//admin/v1/register", "/_synapse/admin/v1/register/", "/_synapse/admin/r0/register",
			"/_synapse/admin/v1/%72egister", "/_synapse/admin/v1/x/../register", "/_synapse/admin/v2/register/x",
		},
		toFallback: {
			"/_matrix/client/v3/auth/m.login.registration_token/fallback/web", "/_matrix/client/r0/auth/m.login.dummy/fallback/web",
			"/_matrix/client/v3/auth/m.login.sso/fallback/web/",
		},
		toAdmin: {
			"/_synapse/admin/v1/registration_tokens", "/_synapse/admin/v1/registration_tokens/", "/_synapse/admin/v1/registration_tokens/new",
			"/_synapse/admin/v1//registration_tokens/a%2Fb", "/_synapse/admin/v1/registration%5Ftokens",
		},
		toServerVersion: {"/_synapse/admin/v1/server_version"},
		toSignup:        {"/register", "/register/", "//register"},
		toAccount: {
			"/_matrix/client/v3/account/password", "/_matrix/client/r0/account/password", "/_matrix/client/unstable/account/password",
			"/_matrix/client/v3/account/deactivate", "/_matrix/client/api/v1/account/deactivate", "//_matrix/client/v3//account/password/",
			"/_matrix/client/v3/account/%70assword", "/_matrix/client/v3/account/x/../password", "/_matrix/client/v3/account%2Fdeactivate",
		},
		toPasswordMail: {
			"/_matrix/client/v3/account/password/email/requestToken", "/_matrix/client/r0/account/password/msisdn/requestToken",
			"/_matrix/client/unstable/account/password/email/submit_token", "/_matrix/client/v3/account/password/x",
		},
		toUpstream: {
			"/_matrix/client/v3/account/whoami", "/_matrix/client/v3/account/3pid", "/_matrix/client/v3/account/passwords",
			"/_matrix/client/account/password", "/_matrix/client/v3/account", "/_matrix/client/v3/user/@a:b/account_data/password",
			"/", "/_matrix/client/versions", "/_matrix/client/v3/sync", "/_matrix/client/v3/login", "/_matrix/client/register",
			"/_matrix/client/v3/registers", "/_matrix/client/v3/REGISTER", "/_matrix/client/v3/register;x=1", "/_matrix/client/v3/register%00",
			"/_matrix/client/v3/register%20", "/_matrix/client/v3/rooms/!a:b/send/m.room.message/register",
			"/_matrix/client/v3/rooms/!a:b/state/m.room.member/register", "/_matrix/client/v3/directory/room/%23register:x",
			"/_matrix/client/v3/user/@a:b/account_data/register", "/_matrix/client/v3/devices/register", "/_matrix/federation/v1/register",
			"/_synapse/admin/v1/registration_tokens_x", "/_synapse/admin/v1/users/register", "/_synapse/admin/v2/users/@register:x",
			"/_matrix/media/v3/upload", "/_matrix/client/v3/auth/m.login.sso/fallback", "/register.html", "/a/register",
			"/_matrix/client/v3/pushrules/global/content/register",
		},
	} {
		for _, p := range paths {
			u, err := url.Parse("http://x" + p)
			require.NoError(t, err)
			assert.Equal(t, names[want], names[route(u.Path)], p)
		}
	}
}

var anyRegister = regexp.MustCompile(`^/_matrix/client/(api/)?[^/]+/register(/|$)`)

// Whatever is passed on is no registration, by another way of looking.
func FuzzRoute(f *testing.F) {
	f.Add("/_matrix/client/v3/register")
	f.Add("/_matrix/client/api/v1/register/x/..")
	f.Add("")
	f.Fuzz(func(t *testing.T, p string) {
		if route(p) == toUpstream && anyRegister.MatchString(path.Clean("/"+p)) {
			t.Errorf("%q is passed on", p)
		}
	})
}
