package hs

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// reauth is a homeserver with alice, who has the devices A and B, and bob.
type reauth struct {
	*Server
	t          *testing.T
	alice, bob string // access tokens
}

func newReauth(t *testing.T) *reauth {
	s, alice := newServer(t, nil)
	made, err := s.makeAccount(t.Context(), "bob", "builder", false)
	require.NoError(t, err)
	for _, id := range []string{"A", "B"} {
		_, err := s.openDevice(t.Context(), Device{Localpart: "alice", ID: id, Name: "Phone " + id})
		require.NoError(t, err)
	}
	for _, user := range []string{"alice", "bob"} {
		require.NoError(t, s.accounts.SetSigningKeys(t.Context(), user, SigningKeys{Master: json.RawMessage(`{"usage":"old"}`)}))
	}
	return &reauth{s, t, alice, made.(session).AccessToken}
}

// send sends parameters, with auth data unless that is nil.
func (r *reauth) send(token string, e endpoint, params, auth map[string]any) (int, map[string]any) {
	r.t.Helper()
	body := maps.Clone(params)
	if auth != nil {
		if body == nil {
			body = map[string]any{}
		}
		body["auth"] = auth
	}
	var encoded []byte
	if body != nil {
		encoded, _ = json.Marshal(body)
	}
	status, _, got := call(r.t, r.Server, e.method, "/_matrix/client/v3"+e.path, token, string(encoded))
	return status, got
}

// devices returns the IDs of alice's devices but for the one that she made her
// account with.
func (r *reauth) devices() (ids string) {
	all, err := r.accounts.Devices(r.t.Context(), "alice")
	require.NoError(r.t, err)
	for _, d := range all {
		if len(d.ID) == 1 {
			ids += d.ID
		}
	}
	return ids
}

type endpoint struct{ method, path string }

type guardedCase struct {
	endpoint
	params, changed map[string]any // nil: none
	undone          func(*reauth) bool
	done            func(*reauth) bool
	// final says that the access token is gone once it is done, so that nothing can
	// be repeated with it.
	final  bool
	answer map[string]any // nil: {}
}

func passwordIs(password string) func(*reauth) bool {
	return func(r *reauth) bool {
		user, err := r.verifyUser(r.t.Context(), "alice", password)
		require.NoError(r.t, err)
		return user.Localpart == "alice"
	}
}

func devicesAre(ids string) func(*reauth) bool {
	return func(r *reauth) bool { return r.devices() == ids }
}

func masterKey(want string) func(*reauth) bool {
	return func(r *reauth) bool {
		user, err := r.accounts.User(r.t.Context(), "alice")
		require.NoError(r.t, err)
		return string(user.SigningKeys.Master) == want
	}
}

var guardedCases = []guardedCase{
	{endpoint{"DELETE", "/devices/A"}, nil, map[string]any{"extra": 1}, devicesAre("AB"), devicesAre("B"), false, nil},
	{endpoint{"POST", "/delete_devices"}, map[string]any{"devices": []string{"B"}}, map[string]any{"devices": []string{"A"}},
		devicesAre("AB"), devicesAre("A"), false, nil},
	{endpoint{"POST", "/account/password"}, map[string]any{"new_password": "new", "logout_devices": false}, map[string]any{"new_password": "evil", "logout_devices": false},
		passwordIs("wonderland"), passwordIs("new"), false, nil},
	{endpoint{"POST", "/account/deactivate"}, map[string]any{"erase": false}, map[string]any{"erase": true},
		devicesAre("AB"), func(r *reauth) bool { return r.devices() == "" && !passwordIs("wonderland")(r) && !passwordIs("")(r) }, true,
		map[string]any{"id_server_unbind_result": "success"}},
	{endpoint{"POST", "/keys/device_signing/upload"}, map[string]any{"master_key": map[string]any{"usage": "master"}}, map[string]any{"master_key": map[string]any{"usage": "evil"}},
		masterKey(`{"usage":"old"}`), masterKey(`{"usage":"master"}`), false, nil},
}

func password(session any, user, password string) map[string]any {
	return map[string]any{"type": "m.login.password", "session": session, "password": password,
		"identifier": map[string]any{"type": "m.id.user", "user": user}}
}

func TestReauthentication(t *testing.T) {
	for _, c := range guardedCases {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			r := newReauth(t)
			refused := func(status int, code string) func(int, map[string]any) {
				return func(got int, body map[string]any) {
					t.Helper()
					require.Equal(t, status, got, body)
					require.Equal(t, code, body["errcode"], body)
					require.True(t, c.undone(r), "nothing has happened")
				}
			}
			refused(401, "M_MISSING_TOKEN")(r.send("", c.endpoint, c.params, nil))
			refused(401, "M_UNKNOWN_TOKEN")(r.send("forged", c.endpoint, c.params, nil))

			// No body at all opens a session, as {} does, and as the parameters do.
			var challenge map[string]any
			for _, params := range []map[string]any{nil, {}, c.params} {
				var status int
				status, challenge = r.send(r.alice, c.endpoint, params, nil)
				require.Equal(t, 401, status)
				require.Len(t, challenge, 3, "exactly flows, params and session")
				require.Equal(t, []any{map[string]any{"stages": []any{"m.login.password"}}}, challenge["flows"])
			}
			session := challenge["session"]
			_, other := r.send(r.bob, c.endpoint, c.params, nil)
			_, elsewhere := r.send(r.alice, endpoint{"DELETE", "/devices/elsewhere"}, nil, nil)

			status, wrong := r.send(r.alice, c.endpoint, c.params, password(session, "alice", "looking-glass"))
			refused(401, "M_FORBIDDEN")(status, wrong)
			require.Equal(t, session, wrong["session"])
			require.Equal(t, challenge["flows"], wrong["flows"])
			refused(403, "M_FORBIDDEN")(r.send(r.alice, c.endpoint, c.params, password(session, "bob", "builder")))
			refused(403, "M_FORBIDDEN")(r.send(r.alice, c.endpoint, c.params, password(session, "@bob:example.org", "builder")))
			refused(403, "M_FORBIDDEN")(r.send(r.bob, c.endpoint, c.params, password(session, "bob", "builder")))
			refused(403, "M_FORBIDDEN")(r.send(r.bob, c.endpoint, c.params, password(session, "alice", "wonderland")))
			refused(403, "M_FORBIDDEN")(r.send(r.alice, c.endpoint, c.params, password(other["session"], "alice", "wonderland")))
			refused(403, "M_FORBIDDEN")(r.send(r.alice, c.endpoint, c.params, password(elsewhere["session"], "alice", "wonderland")))
			refused(400, "M_UNKNOWN")(r.send(r.alice, c.endpoint, c.params, password("forged", "alice", "wonderland")))
			if c.params != nil {
				refused(403, "M_FORBIDDEN")(r.send(r.alice, c.endpoint, c.changed, password(session, "alice", "wonderland")))
			}

			right := password(session, "@alice:example.org", "wonderland")
			status, answer := r.send(r.alice, c.endpoint, c.params, right)
			require.Equal(t, 200, status, answer)
			if c.answer == nil {
				c.answer = map[string]any{}
			}
			require.Equal(t, c.answer, answer)
			require.True(t, c.done(r))
			if c.final {
				status, answer = r.send(r.alice, c.endpoint, c.params, right)
				require.Equal(t, 401, status)
				require.Equal(t, "M_UNKNOWN_TOKEN", answer["errcode"])
				return
			}
			status, again := r.send(r.alice, c.endpoint, c.params, right)
			require.Equal(t, 200, status, again)
			require.Equal(t, answer, again)
			for _, auth := range []map[string]any{password(session, "alice", "looking-glass"), {"session": session, "type": "m.login.password"}} {
				// The same user with the same parameters: a result, and nothing is done again.
				status, again = r.send(r.alice, c.endpoint, c.params, auth)
				require.Equal(t, 200, status, again)
				require.Equal(t, answer, again)
			}
			if c.changed != nil {
				status, again = r.send(r.alice, c.endpoint, c.changed, right)
				require.Equal(t, 401, status, again)
				require.Equal(t, []any{"m.login.password"}, again["completed"])
			}
			require.True(t, c.done(r))
		})
	}
}

// A session for one device is not good for another one, and one that was opened
// without parameters takes those that come first, and no others after them.
func TestReauthenticationIsForOneTarget(t *testing.T) {
	r := newReauth(t)
	_, c := r.send(r.alice, endpoint{"DELETE", "/devices/A"}, nil, nil)
	status, _ := r.send(r.alice, endpoint{"DELETE", "/devices/B"}, nil, password(c["session"], "alice", "wonderland"))
	require.Equal(t, 403, status)
	require.Equal(t, "AB", r.devices())
	_, c = r.send(r.alice, endpoint{"POST", "/delete_devices"}, nil, nil)
	status, body := r.send(r.alice, endpoint{"POST", "/delete_devices"}, map[string]any{"devices": []string{"A"}}, password(c["session"], "alice", "wonderland"))
	require.Equal(t, 200, status, body)
	require.Equal(t, "B", r.devices())
	status, body = r.send(r.alice, endpoint{"POST", "/delete_devices"}, map[string]any{"devices": []string{"B"}}, password(c["session"], "alice", "wonderland"))
	require.Equal(t, 401, status, body)
	require.Equal(t, "B", r.devices())
}

// The operation acts once, however often the final request is sent at the same time.
func TestReauthenticationActsOnce(t *testing.T) {
	r := newReauth(t)
	params := map[string]any{"new_password": "new", "logout_devices": false}
	e := endpoint{"POST", "/account/password"}
	_, c := r.send(r.alice, e, params, nil)
	var group sync.WaitGroup
	statuses := make(chan int, 8)
	for range cap(statuses) {
		group.Go(func() {
			status, _ := r.send(r.alice, e, params, password(c["session"], "alice", "wonderland"))
			statuses <- status
		})
	}
	group.Wait()
	close(statuses)
	for status := range statuses {
		require.Equal(t, 200, status)
	}
	user, err := r.accounts.User(t.Context(), "alice")
	require.NoError(t, err)
	status, _ := r.send(r.alice, e, params, password(c["session"], "alice", "wonderland"))
	require.Equal(t, 200, status)
	after, err := r.accounts.User(t.Context(), "alice")
	require.NoError(t, err)
	require.Equal(t, user.PasswordHash, after.PasswordHash, "it was hashed once, with one salt")
}

func TestReauthenticationParameters(t *testing.T) {
	for _, c := range []struct {
		endpoint
		params  map[string]any
		errcode string
	}{
		{endpoint{"POST", "/delete_devices"}, map[string]any{"devices": "A"}, "M_BAD_JSON"},
		{endpoint{"POST", "/delete_devices"}, map[string]any{"other": "A"}, "M_MISSING_PARAM"},
		{endpoint{"POST", "/account/password"}, map[string]any{"new_password": 1}, "M_BAD_JSON"},
		{endpoint{"POST", "/account/password"}, map[string]any{"logout_devices": true}, "M_MISSING_PARAM"},
	} {
		r := newReauth(t)
		status, body := r.send(r.alice, c.endpoint, c.params, nil)
		if status == 401 {
			status, body = r.send(r.alice, c.endpoint, c.params, password(body["session"], "alice", "wonderland"))
		}
		require.Equal(t, 400, status, body)
		require.Equal(t, c.errcode, body["errcode"])
		require.Equal(t, "AB", r.devices())
		require.True(t, passwordIs("wonderland")(r))
	}
}

func TestChangedPasswordSignsOthersOut(t *testing.T) {
	r := newReauth(t)
	e := endpoint{"POST", "/account/password"}
	_, c := r.send(r.alice, e, map[string]any{"new_password": "new"}, nil)
	status, _ := r.send(r.alice, e, map[string]any{"new_password": "new"}, password(c["session"], "alice", "wonderland"))
	require.Equal(t, 200, status)
	require.Empty(t, r.devices())
	status, _, _ = call(t, r.Server, "GET", "/_matrix/client/v3/account/whoami", r.alice, "")
	require.Equal(t, 200, status, "the device that asked for it stays")
}

func TestDevices(t *testing.T) {
	r := newReauth(t)
	status, _, body := call(t, r.Server, "GET", "/_matrix/client/v3/devices", r.alice, "")
	require.Equal(t, 200, status)
	require.Len(t, body["devices"], 3)
	status, _, body = call(t, r.Server, "GET", "/_matrix/client/v3/devices/A", r.alice, "")
	require.Equal(t, 200, status)
	require.Equal(t, map[string]any{"device_id": "A", "display_name": "Phone A"}, body)
	status, _, body = call(t, r.Server, "GET", "/_matrix/client/v3/devices/A", r.bob, "")
	require.Equal(t, 404, status)
	require.Equal(t, "M_NOT_FOUND", body["errcode"])
}

func TestSigningKeysAreShown(t *testing.T) {
	r := newReauth(t)
	keys := map[string]any{"master_key": map[string]any{"k": 1}, "user_signing_key": map[string]any{"k": 2}}
	e := endpoint{"POST", "/keys/device_signing/upload"}
	_, c := r.send(r.alice, e, keys, nil)
	status, _ := r.send(r.alice, e, keys, password(c["session"], "alice", "wonderland"))
	require.Equal(t, 200, status)
	for token, own := range map[string]int{r.alice: 1, r.bob: 0} {
		_, _, body := call(t, r.Server, "POST", "/_matrix/client/v3/keys/query", token, `{"device_keys":{"@alice:example.org":[]}}`)
		require.Len(t, body["master_keys"], 1)
		require.Len(t, body["user_signing_keys"], own, "whom a user has verified is the user's own business")
	}
}

// The page does for a guarded operation what it does for registration.
func TestReauthenticationOnThePage(t *testing.T) {
	r := newReauth(t)
	e := endpoint{"DELETE", "/devices/A"}
	_, c := r.send(r.alice, e, nil, nil)
	session := c["session"].(string)
	for _, version := range []string{"v3", "r0"} {
		w := r.page(version, session, "")
		require.Equal(t, 200, w.Code)
		require.Contains(t, w.Body.String(), "sign @alice:example.org out on the device A")
	}
	require.Equal(t, 401, r.page("r0", session, "password=looking-glass").Code)
	w := r.page("r0", session, "password=wonderland")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Body.String(), "window.onAuthDone()")
	require.Equal(t, "AB", r.devices(), "the page proves who is there, and the client does the rest")
	status, body := r.send(r.alice, e, nil, map[string]any{"session": session})
	require.Equal(t, 200, status, body)
	require.Equal(t, "B", r.devices())
}

func (r *reauth) page(version, session, form string) *httptest.ResponseRecorder {
	method := http.MethodGet
	if form != "" {
		method = http.MethodPost
	}
	path := "/_matrix/client/" + version + "/auth/m.login.password/fallback/web?session=" + url.QueryEscape(session)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(form)))
	return w
}
