package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
)

// post sends a registration to a gateway that listens.
func (f *front) post(path string, body any) answer {
	f.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(f.t, err)
	res, out := f.raw("POST", path, "\n"+string(text))
	a := answer{Status: res.StatusCode, Header: res.Header, Body: out}
	require.NoError(f.t, json.Unmarshal([]byte(out), &a.JSON), out)
	return a
}

const registerPath = "/_matrix/client/v3/register"

// register goes all the way.
func (f *front) register(params dict, token string) answer {
	f.t.Helper()
	first := f.post(registerPath, params)
	if first.Status != 401 {
		return first
	}
	second := f.post(registerPath, with(params, dict{"type": uia.TokenType, "token": token, "session": first.session()}))
	if second.errcode() != "" {
		return second
	}
	return f.post(registerPath, with(params, dict{"type": "m.login.dummy", "session": first.session()}))
}

func (f *front) token(value string, uses int64) {
	f.t.Helper()
	require.NoError(f.t, f.store.CreateTokens(f.t.Context(), uia.Token{Value: value, UsesAllowed: &uses}))
}

func TestRegister(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			up := newFake(dialectOf(w.dialect), w.private)
			f := newFront(t, serve(t, up), frontOptions{way: w})
			f.token("fifty", 50)

			a := f.register(params("alice", "wonderland"), "fifty")
			require.Equal(t, 200, a.Status, a.Body)
			assert.Equal(t, "@alice:"+fakeServer, a.JSON["user_id"])
			assert.Equal(t, "PHONE", a.JSON["device_id"])
			assert.Equal(t, "alice/PHONE", up.logins[str(a.JSON["access_token"])])
			assert.Len(t, up.users["alice"].devices, 1)

			a = f.register(dict{"username": "bob", "password": "builder", "inhibit_login": true}, "fifty")
			require.Equal(t, 200, a.Status, a.Body)
			assert.Nil(t, a.JSON["access_token"])
			assert.Empty(t, up.users["bob"].devices)

			a = f.register(dict{"password": "p"}, "fifty") // a name is made up
			require.Equal(t, 200, a.Status, a.Body)
			assert.NotEmpty(t, a.JSON["access_token"])

			assert.Equal(t, "M_USER_IN_USE", f.register(params("alice", "x"), "fifty").errcode())
			assert.Equal(t, "M_UNAUTHORIZED", f.register(params("carol", "x"), "wrong").errcode())
			assert.Len(t, up.names(), 3)
			token, err := f.store.Token(t.Context(), "fifty", time.Now())
			require.NoError(t, err)
			assert.EqualValues(t, 3, token.Completed)
			assert.Zero(t, token.Pending)
			for _, secret := range []string{"wonderland", "builder", "fifty", fakeSecret, fakeToken, str(a.JSON["access_token"])} {
				assert.NotContains(t, f.log.String(), secret)
			}
		})
	}
}

// Twenty people at once: one account for a single-use token, one account for a name.
func TestRegisterAtOnce(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			up := newFake(dialectOf(w.dialect), w.private)
			f := newFront(t, serve(t, up), frontOptions{way: w})
			f.token("once", 1)
			f.token("fifty", 50)
			for _, c := range []struct {
				token, user string
				other       string // errcode of those who get nothing
			}{{"once", "user%d", "M_UNAUTHORIZED"}, {"fifty", "same", "M_USER_IN_USE"}} {
				before := len(up.names())
				var mu sync.Mutex
				got := map[string]int{}
				var wg sync.WaitGroup
				for i := range 20 {
					wg.Go(func() {
						user := c.user
						if strings.Contains(user, "%") {
							user = fmt.Sprintf(user, i)
						}
						a := f.register(params(user, fmt.Sprint("password ", i)), c.token)
						mu.Lock()
						defer mu.Unlock()
						got[fmt.Sprint(a.Status, a.errcode())]++
					})
				}
				wg.Wait()
				assert.Equal(t, 1, got["200"], got)
				assert.Len(t, up.names(), before+1)
				for answer := range got {
					assert.True(t, answer == "200" || strings.HasSuffix(answer, c.other), answer)
				}
			}
		})
	}
}

// What no upstream takes is refused before anything is sent.
func TestRegisterPasswords(t *testing.T) {
	up := newFake(dialectOf("dendrite"), false)
	f := newFront(t, serve(t, up), frontOptions{way: way{"dendrite", false}})
	f.token("fifty", 50)
	for _, password := range []string{"nul\x00", strings.Repeat("x", 513), ""} {
		a := f.register(params("alice", password), "fifty")
		assert.Equal(t, 400, a.Status, "%q: %s", password, a.Body)
	}
	for _, password := range []string{strings.Repeat("é", 256), "\u2028\"\\", " "} {
		a := f.register(params(fmt.Sprint("user", len(password)), password), "fifty")
		require.Equal(t, 200, a.Status, a.Body)
		assert.True(t, up.canLogIn(fmt.Sprint("user", len(password)), password))
	}
	assert.NotContains(t, strings.Join(up.log(), "\n"), "500")
}

// The upstream is told on whose behalf it is asked.
func TestRegisterTellsWhoAsks(t *testing.T) {
	up := newFake(dialectOf("synapse"), true)
	var mu sync.Mutex
	asked := map[string][]string{}
	f := newFront(t, serve(t, hooked{up, func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		asked[r.URL.Path] = append(asked[r.URL.Path], r.Header.Get("X-Forwarded-For"))
		return false
	}}), frontOptions{way: way{"synapse", true}})
	f.token("once", 1)
	require.Equal(t, 200, f.register(params("alice", "p"), "once").Status)
	assert.NotEmpty(t, asked[registerPath])
	assert.NotEmpty(t, asked[registerPath+"/available"])
	for path, clients := range asked {
		for _, client := range clients {
			assert.Equal(t, "127.0.0.1", client, path)
		}
	}
}

// A flood of names does not reach the upstream at more than a few at once.
func TestAvailableIsBounded(t *testing.T) {
	started, release := make(chan struct{}, 100), make(chan struct{})
	up := newFake(dialectOf("dendrite"), false)
	u := way{"dendrite", false}.at(hooked{up, func(_ http.ResponseWriter, r *http.Request) bool {
		started <- struct{}{}
		<-release
		return false
	}})
	a, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: u, Claims: &gateway.MemoryClaims{}, ServerName: fakeServer, Secrets: uia.FixedSecrets(make([]byte, 32)), Asking: 3,
	})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			assert.NoError(t, a.Available(t.Context(), register.UsernameRequest{Localpart: fmt.Sprint("user", i)}))
		})
	}
	for range 3 {
		<-started
	}
	for i := range 50 {
		assert.NoError(t, a.Available(t.Context(), register.UsernameRequest{Localpart: fmt.Sprint("flood", i)}), "who is not asked about goes on")
	}
	assert.Empty(t, started)
	close(release)
	wg.Wait()
	assert.Equal(t, "400 M_USER_IN_USE", toldOf(func() error {
		up.users["taken"] = &fakeUser{}
		return a.Available(t.Context(), register.UsernameRequest{Localpart: "taken"})
	}()))
}

// Available goes on where the upstream does not tell, and says so where it is down.
func TestAvailableWithoutUpstream(t *testing.T) {
	status := 429
	u := way{"dendrite", false}.at(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, `{"errcode":"M_LIMIT_EXCEEDED"}`)
	}))
	a, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: u, Claims: &gateway.MemoryClaims{}, ServerName: fakeServer, Secrets: uia.FixedSecrets(make([]byte, 32)),
	})
	require.NoError(t, err)
	assert.NoError(t, a.Available(t.Context(), register.UsernameRequest{Localpart: "alice"}))
	for _, status = range []int{500, 302, 204} {
		err := a.Available(t.Context(), register.UsernameRequest{Localpart: "alice"})
		if status == 204 {
			assert.NoError(t, err)
			continue
		}
		assert.Equal(t, "503 M_UNKNOWN", toldOf(err))
	}
}

// What could make an account, or send a mail, does not reach the upstream.
func TestRefused(t *testing.T) {
	f := newFront(t, serve(t, echo), frontOptions{})
	for _, request := range []string{
		"GET /_synapse/admin/v1/register", "POST /_synapse/admin/v1/register", "POST /_matrix/client/v3/register/email/requestToken",
		"POST /_matrix/client/unstable/org.example/register", "PUT /_matrix/client/v3/register/x", "GET /_synapse/admin/v1/registration_tokens",
	} {
		method, path, _ := strings.Cut(request, " ")
		res, body := f.raw(method, path)
		assert.Equal(t, 404, res.StatusCode, request)
		assert.Contains(t, body, `"errcode":"M_UNRECOGNIZED"`, request)
		assert.Empty(t, res.Header.Get("X-Upstream"), request)
		assert.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"))
		res, _ = f.raw("OPTIONS", path)
		assert.Equal(t, 204, res.StatusCode, "a browser asks before: %s", request)
	}
	a := f.post(registerPath+"?kind=guest", dict{})
	assert.Equal(t, "M_GUEST_ACCESS_FORBIDDEN", a.errcode())
	for _, path := range []string{"/_matrix/client/r0/register", "/_matrix/client/unstable/register", "/_matrix/client/v3//register", "/_matrix/client/v3/%72egister"} {
		a := f.post(path, dict{})
		assert.Equal(t, 401, a.Status, path)
		assert.Empty(t, a.Header.Get("X-Upstream"), path)
	}
}

// An application service registers at the upstream, with what it needs for that and
// no more.
func TestApplicationServices(t *testing.T) {
	f := newFront(t, serve(t, echo), frontOptions{})
	body := "\n" + `{"type":"m.login.application_service","username":"_bridge_x","password":"p","auth":{"type":"m.login.dummy"},"Type":"x","inhibit_login":true}`
	res, text := f.raw("POST", registerPath+"?kind=guest", body)
	assert.Equal(t, 401, res.StatusCode)
	assert.Contains(t, text, "M_MISSING_TOKEN")

	for _, c := range []struct{ target, header, uri string }{
		{registerPath, "Authorization: Bearer as_token", registerPath},
		{"/_matrix/client/r0/register?kind=guest&access_token=a+b&x=1", "X: y", registerPath + "?access_token=a+b"},
		{registerPath + "?user_id=@a:b&kind=guest", "Authorization: Bearer as_token", registerPath + "?" + url.Values{"user_id": {"@a:b"}}.Encode()},
	} {
		got := f.echoed("POST", c.target, c.header, body)
		assert.Equal(t, c.uri, got.URI)
		assert.JSONEq(t, `{"type":"m.login.application_service","username":"_bridge_x","inhibit_login":true}`, got.Body)
		assert.EqualValues(t, len(got.Body), got.Length)
	}
}

// A fallback page is the gateway's if its session or its stage is, and otherwise the
// upstream's, which guards other endpoints.
func TestFallbackPages(t *testing.T) {
	up := newFake(dialectOf("synapse"), true)
	f := newFront(t, serve(t, hooked{up, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/fallback/") {
			w.Header().Set("X-Upstream", "page")
			fmt.Fprint(w, "the upstream's page")
			return true
		}
		return false
	}}), frontOptions{way: way{"synapse", true}})
	session := f.post(registerPath, params("alice", "p")).session()
	page := func(typ, session string) string {
		res, _ := f.raw("GET", "/_matrix/client/v3/auth/"+typ+"/fallback/web?session="+url.QueryEscape(session))
		return fmt.Sprint(res.StatusCode, res.Header.Get("X-Upstream"))
	}
	assert.Equal(t, "200", page(uia.TokenType, session))
	assert.Equal(t, "400", page(uia.TokenType, "made-up"))
	assert.Equal(t, "400", page(uia.TokenType, ""))
	assert.Equal(t, "200page", page("m.login.sso", "made-up"))
	assert.Equal(t, "200page", page("m.login.dummy", "made-up"))
	assert.Equal(t, "404", page("m.login.sso", session), "ours, and it has no such stage")
}

// TestAdministration goes through the gateway as tools do.
func TestAdministration(t *testing.T) {
	up := admined("dendrite")
	f := newFront(t, serve(t, up), frontOptions{way: way{"dendrite", false}, change: func(o *gateway.Options, _ *register.Registration) {
		admins := &gateway.Admins{Client: &gateway.Client{URL: o.Upstream.String()}, Probe: gateway.DendriteAdmins}
		o.Authorize, o.ServerVersion = admins.Authorize, "1.2.3"
	}})
	ask := func(method, path, token, body string) (int, dict) {
		lines := []string{"Authorization: Bearer " + token}
		if body != "" {
			lines = append(lines, "\n"+body)
		}
		res, text := f.raw(method, path, lines...)
		out := dict{}
		require.NoError(t, json.Unmarshal([]byte(text), &out), text)
		return res.StatusCode, out
	}
	const tokens = "/_synapse/admin/v1/registration_tokens"
	for token, want := range map[string]int{"root": 200, "alice": 403, "nobody": 401} {
		status, _ := ask("GET", tokens, token, "")
		assert.Equal(t, want, status, token)
		status, _ = ask("POST", tokens+"/new", token, `{"token":"`+token+`-made"}`)
		assert.Equal(t, want, status, token)
		status, version := ask("GET", "/_synapse/admin/v1/server_version", token, "")
		assert.Equal(t, want, status, token)
		if want == 200 {
			assert.Equal(t, dict{"server_version": "1.2.3"}, version)
		}
	}
	made, err := f.store.Token(t.Context(), "root-made", time.Now())
	require.NoError(t, err)
	assert.Equal(t, "@root:"+fakeServer, made.CreatedBy)
	_, err = f.store.Token(t.Context(), "alice-made", time.Now())
	assert.ErrorIs(t, err, uia.ErrNotFound)
	status, _ := ask("POST", "/_synapse/admin/v1/server_version", "root", "")
	assert.Equal(t, 405, status)
	require.Equal(t, 200, f.register(params("carol", "p"), "root-made").Status)
}

func TestSignupAndDisabled(t *testing.T) {
	off := false
	f := newFront(t, serve(t, echo), frontOptions{change: func(o *gateway.Options, r *register.Registration) {
		o.Signup = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "the page") })
		r.Disabled = func(*http.Request) bool { return off }
	}})
	_, body := f.raw("GET", "/register?token=x")
	assert.Equal(t, "the page", body)
	res, _ := f.raw("GET", uia.ValidityPath+"?token=x")
	assert.Equal(t, 200, res.StatusCode)
	off = true
	res, _ = f.raw("GET", uia.ValidityPath+"?token=x")
	assert.Equal(t, 403, res.StatusCode)
	assert.Equal(t, "M_FORBIDDEN", f.post(registerPath, dict{}).errcode())
	plain := newFront(t, serve(t, echo), frontOptions{})
	assert.Equal(t, "/register?token=x", plain.echoed("GET", "/register?token=x").URI)
	assert.Equal(t, "/_synapse/admin/v1/server_version", plain.echoed("GET", "/_synapse/admin/v1/server_version").URI)
}

// Every mistake is reported at once.
func TestMistakes(t *testing.T) {
	_, err := gateway.New(gateway.Options{})
	for _, name := range []string{"Upstream", "Engine", "Registration", "Tokens", "Fallback"} {
		assert.ErrorContains(t, err, "gateway: Options."+name+" is required")
	}
	_, err = gateway.NewAccounts(gateway.AccountsOptions{Asking: -1})
	for _, name := range []string{"Upstream is", "Claims is", "ServerName is", "Secrets is", "Asking is negative"} {
		assert.ErrorContains(t, err, "gateway: AccountsOptions."+name)
	}
	_, err = register.NewUsernames(gateway.DefaultUsernames())
	assert.NoError(t, err)
}
