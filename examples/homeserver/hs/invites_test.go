package hs

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMembersInvite has a member invite somebody, who registers and invites the next. An
// admin sees who came through whom, and revokes what is left.
func TestMembersInvite(t *testing.T) {
	onEach(t, func(t *testing.T, database func(*testing.T) string) {
		s, err := New(t.Context(), Options{ServerName: "example.org", Storage: mustOpen(t, database(t)), Invites: 1, BaseURL: "https://hs.example"})
		require.NoError(t, err)
		made, err := s.makeAccount(t.Context(), "root", "password of root", true)
		require.NoError(t, err)
		admin := made.(session).AccessToken
		invite := func(as string) string {
			status, _, body := call(t, s, "POST", "/_uia/v1/invites", as, `{}`)
			require.Equal(t, 200, status, "%v", body)
			assert.Equal(t, "https://hs.example/register?token="+body["token"].(string), body["invite_url"])
			return body["token"].(string)
		}
		join := func(name, token string) string {
			status, _, body := call(t, s, "POST", registerPath, "", `{"username":"`+name+`","password":"password of `+name+`","auth":{"type":"m.login.registration_token","token":"`+token+`"}}`)
			require.Equal(t, 401, status, "%v", body)
			status, _, body = call(t, s, "POST", registerPath, "", `{"auth":{"type":"m.login.dummy","session":"`+body["session"].(string)+`"}}`)
			require.Equal(t, 200, status, "%v", body)
			return body["access_token"].(string)
		}
		alice := join("alice", invite(admin))
		left := invite(alice)
		status, _, body := call(t, s, "POST", "/_uia/v1/invites", alice, `{}`)
		assert.Equal(t, []any{403, "M_RESOURCE_LIMIT_EXCEEDED"}, []any{status, body["errcode"]})
		bob := join("bob", left)
		invite(bob)
		status, _, _ = call(t, s, "POST", "/_uia/v1/invites", "", `{}`)
		assert.Equal(t, 401, status)

		const users = "/_synapse/admin/v1/registration_tokens/"
		status, _, body = call(t, s, "GET", users+"@root:example.org/tree", admin, "")
		require.Equal(t, 200, status, "%v", body)
		members := body["members"].([]any)
		require.Len(t, members, 2)
		for i, want := range [][]any{{"@alice:example.org", "@root:example.org", 1.0}, {"@bob:example.org", "@alice:example.org", 2.0}} {
			m := members[i].(map[string]any)
			assert.Equal(t, want, []any{m["user_id"], m["invited_by"], m["depth"]})
		}
		status, _, _ = call(t, s, "GET", users+"@root:example.org/tree", bob, "")
		assert.Equal(t, 403, status)
		_, _, body = call(t, s, "POST", users+"@alice:example.org/revoke", admin, `{"branch":true}`)
		assert.Equal(t, map[string]any{"revoked": 1.0, "members": 2.0}, body)
	})
}

// TestInvitePage opens the page with the name and the password that a browser sends.
func TestInvitePage(t *testing.T) {
	s, _ := newServer(t, func(o *Options) { o.Invites = 2; o.Failures = 3 })
	get := func(user, password string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/_uia/invites", nil)
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	w := get("", "")
	assert.Equal(t, 401, w.Code)
	assert.Contains(t, w.Header().Get("WWW-Authenticate"), "Basic")
	w = get("alice", "wonderland")
	assert.Equal(t, 200, w.Code, w.Body)
	assert.Contains(t, w.Body.String(), "Make an invitation")
	for range 3 {
		w = get("alice", "wrong")
		assert.Equal(t, 401, w.Code)
		assert.NotContains(t, w.Body.String(), "Make an invitation")
	}
	assert.Equal(t, 429, get("alice", "wonderland").Code, "guesses are limited")
}
