package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
)

// at returns an upstream of this way on a handler.
func (w way) at(h http.Handler) gateway.Upstream {
	return w.upstream(&gateway.Client{URL: "http://upstream", Transport: transport{&line{}, h}, Timeout: timeout})
}

func order(name string) gateway.Order {
	return gateway.Order{Localpart: name, Password: "wonderland", DeviceID: "PHONE", DeviceName: "phone"}
}

// told returns what a client is told: "" for success, "status errcode", or "unknown".
func toldOf(err error) string {
	if e, ok := errors.AsType[*uia.Error](err); ok {
		return fmt.Sprint(e.Status, " ", e.ErrCode)
	}
	switch {
	case err == nil:
		return ""
	case errors.Is(err, gateway.ErrStale):
		return "stale"
	case errors.Is(err, gateway.ErrWrongPassword):
		return "wrong password"
	}
	return "unknown"
}

// TestWays makes an account at each homeserver by each way.
func TestWays(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			f := newFake(dialectOf(w.dialect), w.private)
			u := w.at(f)
			ctx := t.Context()
			require.NoError(t, u.Available(ctx, "alice"))
			resume, err := u.Begin(ctx, order("alice"))
			require.NoError(t, err)
			assert.Empty(t, f.names(), "Begin makes nothing")
			login, err := u.Make(ctx, order("alice"), resume)
			require.NoError(t, err)
			assert.Equal(t, "400 M_USER_IN_USE", toldOf(u.Available(ctx, "alice")), "what was free is not any more")
			assert.True(t, f.canLogIn("alice", "wonderland"))
			if login == nil { // another device than the one asked for was logged in, and is gone
				assert.Empty(t, f.users["alice"].devices)
				login, err = u.Login(ctx, order("alice"))
				require.NoError(t, err)
			}
			assert.Equal(t, "PHONE", login.DeviceID)
			assert.Equal(t, "alice/PHONE", f.logins[login.AccessToken])
			assert.Len(t, f.users["alice"].devices, 1)

			made, err := u.Settle(ctx, gateway.Pending{Localpart: "alice", Resume: resume, Since: time.Now()})
			require.NoError(t, err)
			assert.True(t, made)

			// Without a device nothing is logged in.
			quiet := gateway.Order{Localpart: "bob", Password: "builder"}
			resume, err = u.Begin(ctx, quiet)
			require.NoError(t, err)
			login, err = u.Make(ctx, quiet, resume)
			require.NoError(t, err)
			assert.Nil(t, login)
			assert.Empty(t, f.users["bob"].devices)
			login, err = u.Login(ctx, quiet)
			require.NoError(t, err)
			assert.Nil(t, login)
			assert.Empty(t, f.users["bob"].devices, "to find out whether the password is right, and no more")
			quiet.Password = "wrong"
			_, err = u.Login(ctx, quiet)
			assert.ErrorIs(t, err, gateway.ErrWrongPassword)

			_, err = u.Begin(ctx, order("alice"))
			if w.private && err == nil { // some say so only at the end
				resume, err = u.Begin(ctx, order("alice"))
				require.NoError(t, err)
				_, err = u.Make(ctx, order("alice"), resume)
			}
			assert.Equal(t, "400 M_USER_IN_USE", toldOf(err))
			if w.private || f.tellsWhenClosed { // else it says so when the account is made
				assert.Error(t, u.Available(ctx, exclusive+"x"), "a name that is kept for a bridge")
			}
			if !w.private && f.sharedAnyName {
				_, err = u.Begin(ctx, order(exclusive+"x"))
				assert.Equal(t, "400 M_USER_IN_USE", toldOf(err), "this upstream would make it")
			}
		})
	}
}

// What has been begun is not good for ever, and a restart may end it.
func TestStale(t *testing.T) {
	for _, w := range ways() {
		t.Run(w.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(dialectOf(w.dialect), w.private)
				u := w.at(f)
				resume, err := u.Begin(t.Context(), order("alice"))
				require.NoError(t, err)
				<-time.After(6 * time.Minute)
				f.restart()
				_, err = u.Make(t.Context(), order("alice"), resume)
				if f.keepsSessions && w.private {
					assert.NoError(t, err)
					return
				}
				assert.ErrorIs(t, err, gateway.ErrStale)
				assert.Empty(t, f.names())
			})
		})
	}
}

// hooked is a handler in front of an upstream.
type hooked struct {
	http.Handler
	hook func(w http.ResponseWriter, r *http.Request) (answered bool)
}

func (h hooked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.hook == nil || !h.hook(w, r) {
		h.Handler.ServeHTTP(w, r)
	}
}

func isMake(r *http.Request, body string) bool {
	return r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/register") &&
		(strings.Contains(body, `"mac"`) || strings.Contains(body, `"m.login.dummy"`))
}

// TestAnswers is what the client is told of each answer to the request that makes an
// account. "Unknown" leaves the use of the token in doubt.
func TestAnswers(t *testing.T) {
	matrix := func(status int, code string) string {
		return fmt.Sprintf(`%d {"errcode":%q,"error":"text","retry_after_ms":2500}`, status, code)
	}
	for _, w := range []way{{"synapse", false}, {"synapse", true}} {
		for answer, want := range map[string]string{
			matrix(400, "M_USER_IN_USE"):        "400 M_USER_IN_USE",
			matrix(400, "M_EXCLUSIVE"):          "400 M_EXCLUSIVE",
			matrix(400, "M_INVALID_USERNAME"):   "400 M_INVALID_USERNAME",
			matrix(400, "M_PASSWORD_TOO_SHORT"): "400 M_PASSWORD_TOO_SHORT",
			matrix(400, "M_WEAK_PASSWORD"):      "400 M_WEAK_PASSWORD",
			matrix(429, "M_LIMIT_EXCEEDED"):     "429 M_LIMIT_EXCEEDED",
			matrix(500, "M_UNKNOWN"):            "unknown",
			matrix(502, "M_USER_IN_USE"):        "unknown",
			`500 <html>oops`:                    "unknown",
			`200 <html>welcome`:                 "unknown",
			`200 [`:                             "unknown",
			`302 `:                              "unknown",
			`204 `:                              "unknown",
			`200 {"user_id":"` + strings.Repeat("x", 3<<20) + `"}`: "unknown",
		} {
			f := newFake(dialectOf(w.dialect), w.private)
			u := w.at(hooked{f, func(rw http.ResponseWriter, r *http.Request) bool {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				if !isMake(r, string(body)) {
					return false
				}
				var status int
				fmt.Sscan(answer, &status)
				_, text, _ := strings.Cut(answer, " ")
				rw.WriteHeader(status)
				_, _ = io.WriteString(rw, text)
				return true
			}})
			resume, err := u.Begin(t.Context(), order("alice"))
			require.NoError(t, err)
			_, err = u.Make(t.Context(), order("alice"), resume)
			assert.Equal(t, want, toldOf(err), "%v: %.60s: %v", w, answer, err)
			if e, ok := errors.AsType[*uia.Error](err); ok && e.Status == 429 {
				assert.Equal(t, 2500*time.Millisecond, e.RetryAfter)
			}
			assert.NotContains(t, fmt.Sprint(err), "wonderland")
			assert.Less(t, len(fmt.Sprint(err)), 2000)
		}
	}
	// A secret that is wrong is the operator's affair, and nothing was made.
	f := newFake(dialectOf("synapse"), false)
	u := &gateway.SharedSecret{Client: &gateway.Client{URL: "http://x", Transport: transport{&line{}, f}}, ServerName: fakeServer, Secret: "wrong"}
	resume, err := u.Begin(t.Context(), order("alice"))
	require.NoError(t, err)
	_, err = u.Make(t.Context(), order("alice"), resume)
	assert.Equal(t, "502 M_UNKNOWN", toldOf(err))
	p := &gateway.PrivateRegistration{Client: &gateway.Client{URL: "http://x", Transport: transport{&line{}, newFake(dialectOf("synapse"), true)}}, Token: "wrong"}
	_, err = p.Begin(t.Context(), order("alice"))
	assert.Equal(t, "502 M_UNKNOWN", toldOf(err))
}

// An upstream that stands still costs no more than the timeout.
func TestUpstreamStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		still := make(chan struct{})
		c := &gateway.Client{URL: "http://x", Timeout: timeout, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-still:
				return nil, errLost
			}
		})}
		u := &gateway.SharedSecret{Client: c, ServerName: fakeServer, Secret: fakeSecret}
		start := time.Now()
		assert.ErrorIs(t, u.Available(t.Context(), "alice"), context.DeadlineExceeded)
		assert.Equal(t, timeout, time.Since(start))
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Settle says "no" only when nothing can come any more.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		settle := func(w way, f http.Handler, resume string, ago time.Duration) string {
			made, err := w.at(f).Settle(t.Context(), gateway.Pending{Localpart: "alice", Resume: resume, Since: time.Now().Add(-ago)})
			if err != nil {
				return "open"
			}
			return fmt.Sprint(made)
		}
		shared, private, repeating := way{"dendrite", false}, way{"conduit", true}, way{"synapse", true}
		f := newFake(dialectOf("dendrite"), false)
		assert.Equal(t, "open", settle(shared, f, "nonce", 5*time.Minute-time.Millisecond))
		assert.Equal(t, "false", settle(shared, f, "nonce", 5*time.Minute))
		f.users["alice"] = &fakeUser{}
		assert.Equal(t, "true", settle(shared, f, "nonce", 0))

		// A private session that the upstream does not know any more has made its account,
		// or may be recording it just now.
		f = newFake(dialectOf("conduit"), true)
		assert.Equal(t, "open", settle(private, f, "m.login.dummy gone", 30*time.Second-time.Millisecond))
		assert.Equal(t, "false", settle(private, f, "m.login.dummy gone", 30*time.Second))
		assert.Equal(t, "false", settle(private, f, "", time.Hour), "what was kept cannot be read any more")
		f.users["alice"] = &fakeUser{}
		assert.Equal(t, "true", settle(private, f, "m.login.dummy gone", time.Hour))
		assert.Equal(t, "true", settle(private, f, "", time.Hour))

		// Somebody else has the name: an upstream that repeats its answers tells.
		for w, want := range map[way]string{repeating: "false", {"hs", true}: "true"} {
			f = newFake(dialectOf(w.dialect), true)
			resume, err := w.at(f).Begin(t.Context(), order("alice"))
			require.NoError(t, err)
			f.users["alice"] = &fakeUser{password: "another"}
			assert.Equal(t, want, settle(w, f, resume, 0))
		}
		// Unless it is just recording it: then the second look says so.
		f = newFake(dialectOf("synapse"), true)
		resume, err := repeating.at(f).Begin(t.Context(), order("alice"))
		require.NoError(t, err)
		tries := 0
		assert.Equal(t, "true", settle(repeating, hooked{f, func(rw http.ResponseWriter, r *http.Request) bool {
			if tries++; tries > 2 {
				return false
			}
			rw.WriteHeader(400)
			fmt.Fprint(rw, `{"errcode":"M_USER_IN_USE","error":"taken"}`)
			return true
		}}, resume, 0))

		for _, w := range []way{shared, private, repeating} {
			for _, status := range []int{429, 500, 503, 301} {
				broken := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
					rw.WriteHeader(status)
					fmt.Fprint(rw, `{"errcode":"M_UNKNOWN"}`)
				})
				assert.Equal(t, "open", settle(w, broken, "m.login.dummy x", time.Hour), "%v %d", w, status)
			}
		}
	})
}

// An upstream that asks for more than a token and the dummy stage is no use.
func TestPrivateFlows(t *testing.T) {
	w := way{"synapse", true}
	f := newFake(dialectOf("synapse"), true)
	for _, c := range []struct {
		flows [][]string
		want  string
	}{
		{[][]string{{"m.login.registration_token"}}, ""},
		{[][]string{{"m.login.dummy"}}, ""},
		{[][]string{{"m.login.recaptcha", "m.login.dummy"}, {"m.login.registration_token", "m.login.dummy"}}, ""},
		{[][]string{{"org.matrix.msc3231.login.registration_token", "m.login.dummy"}}, "502 M_UNKNOWN"}, // the fake knows the stable name alone
		{[][]string{{"m.login.registration_token", "m.login.terms"}}, "502 M_UNKNOWN"},
		{[][]string{{"m.login.sso"}}, "502 M_UNKNOWN"},
		{[][]string{}, "502 M_UNKNOWN"},
		{nil, "502 M_UNKNOWN"}, // off
	} {
		f.flows = c.flows
		_, err := w.at(f).Begin(t.Context(), order("alice"))
		if strings.HasPrefix(fmt.Sprint(c.flows), "[[org") && err == nil {
			continue
		}
		assert.Equal(t, c.want, toldOf(err), "%v", c.flows)
		assert.Empty(t, f.names())
	}
}

// TestCheck is what the gateway finds out about its upstream.
func TestCheck(t *testing.T) {
	type checker interface {
		Check(context.Context) []gateway.Finding
	}
	for name, c := range map[string]struct {
		way    way
		change func(f *fake)
		wrong  bool // secret or token
		hook   func(http.ResponseWriter, *http.Request) bool
		want   []string
	}{
		"synapse, closed":   {way: way{"synapse", false}},
		"dendrite, closed":  {way: way{"dendrite", false}},
		"hs, closed":        {way: way{"hs", false}},
		"synapse, private":  {way: way{"synapse", true}},
		"conduit, private":  {way: way{"conduit", true}},
		"wrong secret":      {way: way{"dendrite", false}, wrong: true, want: []string{"refuses the registration shared secret"}},
		"no shared secret":  {way: way{"conduit", false}, want: []string{"has no registration by shared secret"}},
		"private, but off":  {way: way{"conduit", true}, change: func(f *fake) { f.flows = nil }, want: []string{"registration is off"}},
		"private, captcha":  {way: way{"conduit", true}, change: func(f *fake) { f.flows = [][]string{{"m.login.recaptcha", "m.login.registration_token"}} }, want: []string{"no flow that the gateway can pass"}},
		"open on three":     {way: way{"synapse", false}, change: func(f *fake) { f.flows = [][]string{{"m.login.dummy"}} }, want: []string{"v3/register offers", "r0/register offers", "unstable/register offers"}},
		"open besides":      {way: way{"dendrite", true}, change: func(f *fake) { f.flows = append(f.flows, []string{"m.login.recaptcha"}) }, want: []string{"v3/register offers", "r0/register offers"}},
		"invalid token":     {way: way{"synapse", true}, hook: answers("/validity", `{"valid":false}`), want: []string{"token is not valid"}},
		"valid token":       {way: way{"synapse", true}, hook: answers("/validity", `{"valid":true}`)},
		"no authentication": {way: way{"synapse", false}, hook: answers("/v3/register", `{"user_id":"@x:x"}`), want: []string{"without any authentication"}},
		"sso":               {way: way{"synapse", false}, hook: answers("/v3/login", `{"flows":[{"type":"m.login.password"},{"type":"m.login.sso"}]}`), want: []string{"m.login.sso"}},
		"jwt alone":         {way: way{"synapse", false}, hook: answers("/v3/login", `{"flows":[{"type":"org.matrix.login.jwt"}]}`), want: []string{"org.matrix.login.jwt", "no login by password"}},
		"oauth":             {way: way{"synapse", false}, hook: answers("/auth_metadata", `{"issuer":"x"}`), want: []string{"OAuth"}},
		"login is HTML":     {way: way{"synapse", false}, hook: answers("/v3/login", `<html>`), want: []string{"how users log in cannot be told"}},
	} {
		f := newFake(dialectOf(c.way.dialect), c.way.private)
		if c.change != nil {
			c.change(f)
		}
		client := &gateway.Client{URL: "http://x", Transport: transport{&line{}, hooked{f, c.hook}}}
		u := c.way.upstream(client)
		if c.wrong {
			u = &gateway.SharedSecret{Client: client, ServerName: fakeServer, Secret: "wrong"}
		}
		found := u.(checker).Check(t.Context())
		texts := []string{}
		for _, finding := range found {
			assert.True(t, finding.Severe)
			assert.NotContains(t, finding.Text, "\n")
			texts = append(texts, finding.Text)
		}
		if assert.Len(t, found, len(c.want), "%s: %q", name, texts) {
			for i, want := range c.want {
				assert.Contains(t, texts[i], want, name)
			}
		}
		assert.Empty(t, f.names(), "%s: a check makes no account", name)
	}
	down := &gateway.Client{URL: "http://x", Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, errLost })}
	found := (&gateway.SharedSecret{Client: down, ServerName: fakeServer, Secret: "x"}).Check(t.Context())
	assert.NotEmpty(t, found, "that nothing can be told is no good sign")
}

// answers makes a hook that answers what ends in this path.
func answers(path, body string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, path) {
			return false
		}
		fmt.Fprint(w, body)
		return true
	}
}
