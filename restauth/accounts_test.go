package restauth_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/stages"
)

func weak(text string) spec.MatrixError { return spec.WeakPassword(text) }

func (w *world) token(value string, uses int64) {
	w.t.Helper()
	require.NoError(w.t, w.tokens.CreateTokens(w.t.Context(), uia.Token{Value: value, UsesAllowed: &uses, Created: time.Now()}))
}

// register registers in one request after the one that opens the session.
func (w *world) register(token string, params dict) (int, dict) {
	w.t.Helper()
	status, first := w.post("/register", "", params)
	if status != 401 {
		return status, first
	}
	return w.post("/register", "", with(params, dict{"type": uia.TokenType, "token": token, "session": first["session"]}))
}

func with(params, auth dict) dict {
	out := maps.Clone(params)
	out["auth"] = auth
	return out
}

func (w *world) login(name, password string) (int, dict) {
	w.t.Helper()
	return w.post("/login", "", dict{"type": "m.login.password", "password": password, "device_id": "D" + password,
		"identifier": dict{"type": "m.id.user", "user": name}})
}

// guarded asks for something that needs the password, and gives it.
func (w *world) guarded(path, token, user, password string, params dict) (int, dict) {
	w.t.Helper()
	status, first := w.post(path, token, params)
	if status != 401 || first["session"] == nil {
		return status, first
	}
	return w.post(path, token, with(params, dict{"type": "m.login.password", "session": first["session"], "password": password,
		"identifier": dict{"type": "m.id.user", "user": user}}))
}

// spent returns how many uses of a token are spent, and set aside.
func (w *world) spent(value string) [2]int64 {
	w.t.Helper()
	token, err := w.tokens.Token(w.t.Context(), value, time.Now())
	require.NoError(w.t, err)
	return [2]int64{token.Completed, token.Pending}
}

var alicesParams = dict{"username": "alice", "password": "wonderland"}

func TestRegisterAndLogIn(t *testing.T) {
	w := newWorld(t, nil)
	w.token("abc", 2)
	status, body := w.register("abc", with(alicesParams, nil))
	require.Equal(t, 200, status, "%v", body)
	assert.Equal(t, "@alice:example.org", body["user_id"])
	assert.NotEmpty(t, body["access_token"])
	assert.Equal(t, [2]int64{1, 0}, w.spent("abc"))
	status, _ = w.post("/account/whoami", body["access_token"].(string), dict{})
	assert.Equal(t, 200, status)

	status, _ = w.login("alice", "wonderland")
	assert.Equal(t, 200, status)
	for _, wrong := range []string{"Wonderland", "wonderland\x00", strings.Repeat("x", 1000)} {
		status, _ = w.login("alice", wrong)
		assert.Equal(t, 403, status)
	}
	status, body = w.register("abc", alicesParams)
	assert.Equal(t, 400, status)
	assert.Equal(t, "M_USER_IN_USE", body["errcode"])
	for password, code := range map[string]string{"short": "M_WEAK_PASSWORD", "wonder\x00land": "M_INVALID_PARAM", strings.Repeat("x", 513): "M_INVALID_PARAM"} {
		status, body = w.register("abc", dict{"username": "bob", "password": password})
		assert.Equal(t, 400, status)
		assert.Equal(t, code, body["errcode"])
	}
	status, body = w.register("abc", dict{"username": "bob", "password": "built it himself", "inhibit_login": true})
	require.Equal(t, 200, status, "%v", body)
	assert.NotContains(t, body, "access_token")
	assert.Equal(t, [2]int64{2, 0}, w.spent("abc"))
	for typed, want := range map[string]string{"alice": "@alice:example.org", " Alice": "@alice:example.org", "@ALICE:example.org": "@alice:example.org",
		"@alice:elsewhere.org": "", "@alice": "", "@:example.org": "", "alice:example.org": ""} {
		got, err := w.accounts.Verify(t.Context(), stages.Identifier{User: typed}, "wonderland")
		require.NoError(t, err)
		assert.Equal(t, want, got, typed)
	}
	found, err := w.store.Find(t.Context(), "bob")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(found.Hash, "$argon2id$"))
	assert.NotContains(t, w.log.String(), "wonderland")
}

// A user of the homeserver is not taken over by an account of the same name, even if the
// user was made between the first request and the last.
func TestTakeover(t *testing.T) {
	w := newWorld(t, nil)
	w.token("abc", 1)
	w.hs.users["@alice:example.org"] = &hsUser{local: "hers"}
	status, body := w.register("abc", alicesParams)
	assert.Equal(t, 400, status)
	assert.Equal(t, "M_USER_IN_USE", body["errcode"])

	params := dict{"username": "bob", "password": "wonderland"}
	_, first := w.post("/register", "", params)
	w.hs.mu.Lock()
	w.hs.users["@bob:example.org"] = &hsUser{local: "his"}
	w.hs.mu.Unlock()
	status, body = w.post("/register", "", with(params, dict{"type": uia.TokenType, "token": "abc", "session": first["session"]}))
	assert.Equal(t, 400, status)
	assert.Equal(t, "M_USER_IN_USE", body["errcode"])

	// Directly, as if the first look had been too early.
	_, err := w.accounts.Create(t.Context(), register.Account{Key: "k", Localpart: "bob", Password: "wonderland"})
	e, refused := errors.AsType[*uia.Error](err)
	require.True(t, refused)
	assert.Equal(t, spec.ErrorUserInUse, e.ErrCode)
	for name, local := range map[string]string{"alice": "hers", "bob": "his"} {
		_, err := w.store.Find(t.Context(), name)
		require.ErrorIs(t, err, restauth.ErrNotFound)
		status, _ = w.login(name, "wonderland")
		assert.Equal(t, 403, status)
		status, _ = w.login(name, local)
		assert.Equal(t, 200, status)
	}
	assert.Equal(t, int64(0), w.spent("abc")[0])
}

// While the homeserver does not tell who exists there, nothing is made.
func TestNoAccountWithoutAnAnswer(t *testing.T) {
	w := newWorld(t, nil)
	w.token("abc", 1)
	_, first := w.post("/register", "", dict{})
	auth := dict{"type": uia.TokenType, "token": "abc", "session": first["session"]}
	for _, broken := range []int{500, 401, 302, 429} {
		w.hs.breaks("/profile/@alice:example.org", broken)
		_, err := w.accounts.Create(t.Context(), register.Account{Key: fmt.Sprint(broken), Localpart: "alice", Password: "wonderland"})
		require.Error(t, err)
		status, body := w.post("/register", "", with(alicesParams, auth))
		assert.GreaterOrEqual(t, status, 429, "%d: %v", broken, body)
	}
	_, err := w.store.Find(t.Context(), "alice")
	require.ErrorIs(t, err, restauth.ErrNotFound)
	w.hs.breaks("/profile/@alice:example.org", 0)
	status, body := w.post("/register", "", with(alicesParams, auth))
	assert.Equal(t, 200, status, "%v", body)
	assert.Equal(t, [2]int64{1, 0}, w.spent("abc"))
}

// An account that is made, and whose login fails, is the client's when it comes back: with
// the password that it sends then.
func TestTheLoginFails(t *testing.T) {
	for _, broken := range []int{500, 429, 403} {
		w := newWorld(t, nil)
		w.token("abc", 1)
		w.hs.breaks("/login", broken)
		_, first := w.post("/register", "", alicesParams)
		auth := dict{"type": uia.TokenType, "token": "abc", "session": first["session"]}
		status, body := w.post("/register", "", with(alicesParams, auth))
		want := 503
		if broken == 429 {
			want = 429
		}
		assert.Equal(t, want, status, "%v", body)
		assert.Equal(t, [2]int64{0, 1}, w.spent("abc"), "the use is in doubt")
		w.hs.breaks("/login", 0)
		status, body = w.post("/register", "", with(dict{"username": "alice", "password": "through the looking-glass"}, auth))
		require.Equal(t, 200, status, "%v", body)
		assert.Equal(t, [2]int64{1, 0}, w.spent("abc"))
		status, _ = w.login("alice", "through the looking-glass")
		assert.Equal(t, 200, status)
		status, _ = w.login("alice", "wonderland")
		assert.Equal(t, 403, status)
	}
}

// The client of such an account is gone: Resolve knows that it is there.
func TestResolve(t *testing.T) {
	w := newWorld(t, nil)
	_, err := w.accounts.Create(t.Context(), register.Account{Key: "a", Localpart: "alice", Password: "wonderland", InhibitLogin: true})
	require.NoError(t, err)
	got, err := w.accounts.Resolve(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, uia.Outcome{Done: true, UserID: "@alice:example.org", Again: true}, got)
	got, err = w.accounts.Resolve(t.Context(), "b")
	require.NoError(t, err)
	assert.False(t, got.Done)
	_, err = w.accounts.Create(t.Context(), register.Account{Key: "b", Localpart: "bob", Password: "wonderland", InhibitLogin: true})
	require.Error(t, err)
	_, err = w.store.Find(t.Context(), "bob")
	require.ErrorIs(t, err, restauth.ErrNotFound)
}

func TestOneTokenOneAccount(t *testing.T) {
	w := newWorld(t, nil)
	w.token("abc", 1)
	var all sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for i := range 10 {
		all.Go(func() {
			status, _ := w.register("abc", dict{"username": fmt.Sprint("user", i), "password": "wonderland"})
			mu.Lock()
			defer mu.Unlock()
			if status == 200 {
				made++
			}
		})
	}
	all.Wait()
	assert.Equal(t, 1, made)
	assert.Equal(t, [2]int64{1, 0}, w.spent("abc"))
}

// registered makes a world with alice in it, and returns her access token.
func registered(t testing.TB) (*world, string) {
	w := newWorld(t, nil)
	w.token("abc", 1)
	status, body := w.register("abc", with(dict{"username": "alice", "password": "wonderland", "device_id": "PHONE"}, nil))
	require.Equal(t, 200, status, "%v", body)
	return w, body["access_token"].(string)
}

func TestChangePassword(t *testing.T) {
	w, token := registered(t)
	_, _ = w.login("alice", "wonderland") // another device
	params := dict{"new_password": "looking-glass"}
	for wrong, code := range map[string]string{"short": "M_WEAK_PASSWORD", "looking\x00glass": "M_INVALID_PARAM", strings.Repeat("x", 513): "M_INVALID_PARAM"} {
		status, body := w.post("/account/password", token, dict{"new_password": wrong})
		assert.Equal(t, 400, status)
		assert.Equal(t, code, body["errcode"])
	}
	status, body := w.guarded("/account/password", token, "alice", "wrong", params)
	assert.Equal(t, 401, status)
	assert.Equal(t, "M_FORBIDDEN", body["errcode"])
	status, body = w.guarded("/account/password", token, "bob", "wonderland", params)
	assert.Equal(t, 403, status, "%v", body)
	status, body = w.guarded("/account/password", token, "alice", "wonderland", dict{})
	assert.Equal(t, 400, status)
	assert.Equal(t, "M_MISSING_PARAM", body["errcode"])

	status, body = w.guarded("/account/password", token, "alice", "wonderland", params)
	require.Equal(t, 200, status, "%v", body)
	assert.Empty(t, body)
	status, _ = w.login("alice", "wonderland")
	assert.Equal(t, 403, status, "the old password still works")
	u, _ := w.hs.user("@alice:example.org")
	assert.Equal(t, []string{"PHONE"}, u.devices, "other devices are signed out, and this one is not")
	assert.Empty(t, u.local, "the homeserver has a password of its own")
	status, _ = w.login("alice", "looking-glass")
	assert.Equal(t, 200, status)
	status, _ = w.guarded("/account/password", token, "alice", "looking-glass", dict{"new_password": "white rabbit", "logout_devices": false})
	assert.Equal(t, 200, status)
	u, _ = w.hs.user("@alice:example.org")
	assert.Len(t, u.devices, 2)
	for _, password := range []string{"wonderland", "looking-glass", "white rabbit"} {
		assert.NotContains(t, w.log.String(), password)
	}
}

// Where the homeserver fails between the two steps, the client's next request does the
// rest, without the password.
func TestChangePasswordInTwo(t *testing.T) {
	w, token := registered(t)
	w.hs.breaks("/delete_devices", 500)
	params := dict{"new_password": "looking-glass"}
	_, first := w.post("/account/password", token, params)
	auth := dict{"type": "m.login.password", "session": first["session"], "password": "wonderland", "identifier": dict{"type": "m.id.user", "user": "alice"}}
	status, _ := w.post("/account/password", token, with(params, auth))
	assert.Equal(t, 503, status)
	u, _ := w.hs.user("@alice:example.org")
	assert.Len(t, u.devices, 2)
	w.hs.breaks("/delete_devices", 0)
	status, body := w.post("/account/password", token, with(params, auth))
	assert.Equal(t, 200, status, "%v", body)
	u, _ = w.hs.user("@alice:example.org")
	assert.Equal(t, []string{"PHONE"}, u.devices)
	status, _ = w.login("alice", "looking-glass")
	assert.Equal(t, 200, status)
}

func TestDeactivate(t *testing.T) {
	w, token := registered(t)
	status, _ := w.guarded("/account/deactivate", token, "alice", "wrong", dict{})
	assert.Equal(t, 401, status)
	w.hs.breaks("/account/deactivate", 500)
	status, _ = w.guarded("/account/deactivate", token, "alice", "wonderland", dict{})
	assert.Equal(t, 503, status)
	status, _ = w.login("alice", "wonderland")
	assert.Equal(t, 200, status, "a failure of the homeserver has locked the user out")
	w.hs.breaks("/account/deactivate", 0)
	status, body := w.guarded("/account/deactivate", token, "alice", "wonderland", dict{"erase": true})
	require.Equal(t, 200, status, "%v", body)
	assert.Equal(t, dict{"id_server_unbind_result": "no-support"}, body)
	assert.Equal(t, 1, w.hs.guarded["/account/deactivate"])
	found, err := w.store.Find(t.Context(), "alice")
	require.NoError(t, err)
	assert.Equal(t, restauth.Deactivated, found.State)
	got, err := w.accounts.Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
	require.NoError(t, err)
	assert.Empty(t, got)
	status, _ = w.login("alice", "wonderland")
	assert.Equal(t, 403, status)
	w.token("more", 1)
	status, body = w.register("more", alicesParams)
	assert.Equal(t, 400, status, "%v", body)
	assert.Equal(t, "M_USER_IN_USE", body["errcode"])
}

// Who is not ours is the homeserver's; who is nobody gets nothing.
func TestGuardIsForOurUsers(t *testing.T) {
	w, _ := registered(t)
	w.hs.users["@olduser:example.org"] = &hsUser{local: "local"}
	_, body := w.login("olduser", "local")
	token := body["access_token"].(string)
	status, _ := w.guarded("/account/password", token, "@olduser:example.org", "local", dict{"new_password": "changed there"})
	assert.Equal(t, 200, status)
	u, _ := w.hs.user("@olduser:example.org")
	assert.Equal(t, "changed there", u.local)

	before := w.hs.guarded["/account/password"]
	for token, code := range map[string]string{"": "M_MISSING_TOKEN", "unknown": "M_UNKNOWN_TOKEN"} {
		status, body := w.post("/account/password", token, dict{"new_password": "wonderland", "auth": dict{"type": "m.login.email.identity"}})
		assert.Equal(t, 401, status)
		assert.Equal(t, code, body["errcode"])
	}
	for _, path := range []string{"/account/password/email/requestToken", "/account/password/msisdn/requestToken"} {
		status, body := w.post(path, "", dict{})
		assert.Equal(t, 404, status)
		assert.Equal(t, "M_UNRECOGNIZED", body["errcode"])
	}
	assert.Equal(t, before, w.hs.guarded["/account/password"])
	for _, path := range w.hs.passed {
		assert.NotContains(t, path, "requestToken")
	}
	w.hs.breaks("/account/whoami", 500)
	status, _ = w.post("/account/password", token, dict{})
	assert.Equal(t, 503, status)
}

// Verify does the same work for a wrong password and for a user who does not exist or has
// been deactivated, and none for a password that no account can have.
func TestVerifyCosts(t *testing.T) {
	w, _ := registered(t)
	_, err := w.accounts.Create(t.Context(), register.Account{Key: "gone", Localpart: "gone", Password: "wonderland", InhibitLogin: true})
	require.NoError(t, err)
	require.NoError(t, w.store.Deactivate(t.Context(), "gone"))
	for user, hashed := range map[string]bool{"alice": true, "nobody": true, "gone": true, "@alice:elsewhere.org": false} {
		assert.Equal(t, hashed, hashes(t, w, user, "wrong"), user)
		assert.False(t, hashes(t, w, user, "wonderland\x00"), user)
		assert.False(t, hashes(t, w, user, strings.Repeat("x", 513)), user)
	}
}

// hashes reports whether verifying a password needs a turn of the hasher, which is all that
// waits for the context's end.
func hashes(t testing.TB, w *world, user, password string) bool {
	t.Helper()
	ctx := &endsLate{Context: t.Context()}
	got, err := w.accounts.Verify(ctx, stages.Identifier{User: user}, password)
	require.NoError(t, err)
	require.Empty(t, got)
	return ctx.waited
}

// endsLate is a context that notes whether somebody waits for its end.
type endsLate struct {
	context.Context
	waited bool
}

func (c *endsLate) Done() <-chan struct{} {
	c.waited = true
	return c.Context.Done()
}

// A ticket is good for its user, for a minute, and where the secrets are the same.
func TestTickets(t *testing.T) {
	var seen string
	w := newWorld(t, nil)
	inner := w.hs.verify
	w.hs.verify = func(ctx context.Context, id stages.Identifier, password string) (string, error) {
		if strings.HasPrefix(password, "restauth-ticket.") {
			seen = password
		}
		return inner(ctx, id, password)
	}
	w.token("abc", 2)
	status, _ := w.register("abc", with(alicesParams, nil))
	require.Equal(t, 200, status)
	require.NotEmpty(t, seen)
	status, _ = w.register("abc", dict{"username": "bob", "password": "wonderland"})
	require.Equal(t, 200, status)
	bobs := seen
	good := func(a *restauth.Accounts, user, ticket string) bool {
		got, err := a.Verify(t.Context(), stages.Identifier{User: user}, ticket)
		require.NoError(t, err)
		return got != ""
	}
	assert.True(t, good(w.accounts, "bob", bobs))
	assert.False(t, good(w.accounts, "alice", bobs))
	assert.False(t, good(w.accounts, "nobody", bobs))
	for _, forged := range []string{bobs + "A", bobs[:len(bobs)-1], "restauth-ticket.", "restauth-ticket.zzzzzzzz.", strings.Replace(bobs, "ticket.m", "ticket.n", 1), "restauth-ticket.zzzzzzzzzzzzzzzzzzzzzzz.AA"} {
		assert.False(t, good(w.accounts, "bob", forged), forged)
	}
	other := func(secret string, now time.Time) *restauth.Accounts {
		a, err := restauth.NewAccounts(restauth.Options{
			Store: w.store, Homeserver: &gateway.Client{URL: "http://x"}, ServerName: serverName,
			Secrets: uia.FixedSecrets([]byte(strings.Repeat(secret, 32))), Now: func() time.Time { return now },
		})
		require.NoError(t, err)
		return a
	}
	assert.True(t, good(other("s", time.Now()), "bob", bobs), "another process")
	assert.False(t, good(other("t", time.Now()), "bob", bobs), "another secret")
	assert.False(t, good(other("s", time.Now().Add(time.Minute)), "bob", bobs), "later")
	require.NoError(t, w.store.Deactivate(t.Context(), "bob"))
	assert.False(t, good(w.accounts, "bob", bobs), "deactivated")
}

func TestWhatIsMissing(t *testing.T) {
	_, err := restauth.NewAccounts(restauth.Options{})
	for _, name := range []string{"Store", "Homeserver", "ServerName", "Secrets"} {
		assert.ErrorContains(t, err, "Options."+name+" is required")
	}
	w := newWorld(t, nil)
	_, err = w.accounts.Guard(nil)
	assert.Error(t, err)
}
