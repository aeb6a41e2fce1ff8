package restauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/passwords"
	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/stages"
)

const (
	serverName = "example.org"
	secret     = "what-the-homeserver-and-we-share"
)

// dict is an object of JSON.
type dict = map[string]any

// alice is a Verify that knows one user, and counts how often it is asked.
type alice struct{ asked atomic.Int64 }

func (a *alice) verify(_ context.Context, id stages.Identifier, password string) (string, error) {
	a.asked.Add(1)
	if strings.EqualFold(id.User, "@alice:example.org") && password == "wonderland" {
		return "@alice:example.org", nil
	}
	return "", nil
}

func newHandler(t testing.TB, verify restauth.Verify, change func(*restauth.HandlerOptions)) http.Handler {
	t.Helper()
	o := restauth.HandlerOptions{ServerName: serverName, Secret: secret, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if change != nil {
		change(&o)
	}
	h, err := restauth.NewHandler(verify, o)
	require.NoError(t, err)
	return h
}

// ask sends a body to the handler, as the homeserver does.
func ask(t testing.TB, h http.Handler, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, restauth.Path, strings.NewReader(body))
	r.SetBasicAuth("synapse", secret)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
	assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	return w
}

func question(id, password string) string {
	text, _ := json.Marshal(dict{"user": dict{"id": id, "password": password}})
	return string(text)
}

const (
	yes = `{"auth":{"success":true,"mxid":"@alice:example.org","profile":{}}}`
	no  = `{"auth":{"success":false,"profile":{}}}`
)

// The protocol's table: what homeservers send, and what they get.
func TestProtocol(t *testing.T) {
	long := strings.Repeat("x", 513)
	for _, c := range []struct {
		name, body string
		status     int
		answer     string // the whole of it, or an errcode
	}{
		{"the Synapse module", `{"user":{"id":"@alice:example.org","password":"wonderland"}}`, 200, yes},
		{"ma1sd", `{"user":{"mxid":"@alice:example.org","password":"wonderland"}}`, 200, yes},
		{"a localpart", `{"user":{"localpart":"alice","password":"wonderland"}}`, 200, yes},
		{"all of them", `{"user":{"id":"@alice:example.org","mxid":"@alice:example.org","localpart":"alice","domain":"example.org","password":"wonderland"}}`, 200, yes},
		{"further members", `{"auth":{"x":1},"user":{"id":"@alice:example.org","password":"wonderland","device":null}}`, 200, yes},
		{"a wrong password", question("@alice:example.org", "Wonderland"), 200, no},
		{"an unknown user", question("@nobody:example.org", "wonderland"), 200, no},
		{"another server's user", question("@alice:elsewhere.org", "wonderland"), 200, no},
		{"another spelling of the server", question("@alice:EXAMPLE.org", "wonderland"), 200, no},
		{"another spelling of the user", question("@Alice:example.org", "wonderland"), 200, no}, // the homeserver would make another user
		{"no server", question("@alice", "wonderland"), 200, no},
		{"no sigil", question("alice:example.org", "wonderland"), 200, no},
		{"no name", question("@:example.org", "wonderland"), 200, no},
		{"a room", question("!alice:example.org", "wonderland"), 200, no},
		{"a port", question("@alice:example.org:8448", "wonderland"), 200, no},
		{"an endless name", question("@"+long+":example.org", "wonderland"), 200, no},
		{"a NUL in the name", question("@alice\x00:example.org", "wonderland"), 200, no},
		{"a NUL in the password", question("@alice:example.org", "wonderland\x00"), 200, no},
		{"a password that is too long", question("@alice:example.org", long), 200, no},
		{"an empty password", question("@alice:example.org", ""), 400, "M_MISSING_PARAM"},
		{"no password", `{"user":{"id":"@alice:example.org"}}`, 400, "M_MISSING_PARAM"},
		{"no user", `{"user":{"password":"wonderland"}}`, 400, "M_MISSING_PARAM"},
		{"nothing", `{}`, 400, "M_MISSING_PARAM"},
		{"null", `{"user":null}`, 400, "M_MISSING_PARAM"},
		{"two users", `{"user":{"id":"@alice:example.org","localpart":"bob","password":"wonderland"}}`, 400, "M_INVALID_PARAM"},
		{"two users, otherwise", `{"user":{"id":"@bob:example.org","mxid":"@alice:example.org","password":"wonderland"}}`, 400, "M_INVALID_PARAM"},
		{"a member twice", `{"user":{"id":"@bob:example.org","id":"@alice:example.org","password":"wonderland"}}`, 400, "M_BAD_JSON"},
		{"a user twice", `{"user":{"id":"@bob:example.org","password":"x"},"user":{"id":"@alice:example.org","password":"wonderland"}}`, 400, "M_BAD_JSON"},
		{"a number", `{"user":{"id":"@alice:example.org","password":5}}`, 400, "M_BAD_JSON"},
		{"a list", `{"user":["@alice:example.org","wonderland"]}`, 400, "M_BAD_JSON"},
		{"no object", `["user"]`, 400, "M_BAD_JSON"},
		{"no JSON", `user=alice`, 400, "M_NOT_JSON"},
		{"no UTF-8", "{\"user\":{\"id\":\"@alice:example.org\",\"password\":\"\xff\"}}", 400, "M_NOT_JSON"},
		{"an empty body", ``, 400, "M_MISSING_PARAM"},
		{"an endless body", `{"user":{"id":"@alice:example.org","password":"` + strings.Repeat("x", 16<<10) + `"}}`, 413, "M_TOO_LARGE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(t, newHandler(t, (&alice{}).verify, nil), c.body, nil)
			assert.Equal(t, c.status, w.Code, "%s", w.Body)
			if c.status == 200 {
				assert.JSONEq(t, c.answer, w.Body.String())
				return
			}
			var e struct{ Errcode, Error string }
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &e))
			assert.Equal(t, c.answer, e.Errcode, "%s", w.Body)
			assert.NotContains(t, w.Body.String(), "wonderland")
		})
	}
}

func TestMethods(t *testing.T) {
	h := newHandler(t, (&alice{}).verify, nil)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE"} {
		w := ask(t, h, question("@alice:example.org", "wonderland"), func(r *http.Request) { r.Method = method })
		assert.Equal(t, 405, w.Code)
		assert.Equal(t, "POST, OPTIONS", w.Header().Get("Allow"))
	}
}

// Whoever is not the homeserver learns nothing, and costs nothing.
func TestCallers(t *testing.T) {
	loopback := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	mapped := []netip.Prefix{netip.MustParsePrefix("::ffff:127.0.0.0/104")}
	from := func(addr string, then ...func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = addr
			r.Header.Del("Authorization")
			for _, f := range then {
				f(r)
			}
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	right := func(r *http.Request) { r.SetBasicAuth("synapse", secret) }
	for _, c := range []struct {
		name     string
		secret   string
		networks []netip.Prefix
		change   func(*http.Request)
		status   int
	}{
		{"basic", secret, nil, from("192.0.2.1:1", right), 200},
		{"basic, any user", secret, nil, from("192.0.2.1:1", func(r *http.Request) { r.SetBasicAuth("", secret) }), 200},
		{"bearer", secret, nil, from("192.0.2.1:1", header("Authorization", "bearer "+secret)), 200},
		{"through a proxy", secret, nil, from("192.0.2.1:1", right, header("X-Forwarded-For", "192.0.2.7")), 200},
		{"nothing", secret, nil, from("127.0.0.1:1"), 401},
		{"another secret", secret, nil, from("127.0.0.1:1", header("Authorization", "Bearer "+secret+"x")), 401},
		{"a part of it", secret, nil, from("127.0.0.1:1", header("Authorization", "Bearer "+secret[:20])), 401},
		{"as the user", secret, nil, from("127.0.0.1:1", func(r *http.Request) { r.SetBasicAuth(secret, "") }), 401},
		{"another scheme", secret, nil, from("127.0.0.1:1", header("Authorization", "Digest "+secret)), 401},
		{"in the query", secret, nil, from("127.0.0.1:1", func(r *http.Request) { r.URL.RawQuery = "access_token=" + secret }), 401},
		{"an empty secret", secret, nil, from("127.0.0.1:1", header("Authorization", "Bearer ")), 401},
		{"from inside", "", loopback, from("127.0.0.9:1"), 200},
		{"from inside, IPv6", "", loopback, from("[::1]:1"), 200},
		{"from inside, mapped", "", loopback, from("[::ffff:127.0.0.1]:1"), 200},
		{"a mapped network", "", mapped, from("127.0.0.1:1"), 200},
		{"from outside", "", loopback, from("192.0.2.1:1"), 403},
		{"from outside, with a claim", "", loopback, from("192.0.2.1:1", header("X-Forwarded-For", "127.0.0.1")), 403},
		{"passed on", "", loopback, from("127.0.0.1:1", header("X-Forwarded-For", "192.0.2.7")), 403},
		{"passed on, nobody named", "", loopback, from("127.0.0.1:1", header("X-Forwarded-For", "")), 403},
		{"passed on, as RFC 7239 has it", "", loopback, from("127.0.0.1:1", header("Forwarded", "for=127.0.0.1")), 403},
		{"passed on by a cache", "", loopback, from("127.0.0.1:1", header("Via", "1.1 cache")), 403},
		{"both", secret, loopback, from("127.0.0.1:1", right), 200},
		{"both, no secret", secret, loopback, from("127.0.0.1:1"), 401},
		{"both, from outside", secret, loopback, from("192.0.2.1:1", right), 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &alice{}
			h := newHandler(t, a.verify, func(o *restauth.HandlerOptions) { o.Secret, o.Networks = c.secret, c.networks })
			w := ask(t, h, question("@alice:example.org", "wonderland"), c.change)
			assert.Equal(t, c.status, w.Code, "%s", w.Body)
			if c.status == 200 {
				assert.JSONEq(t, yes, w.Body.String())
				return
			}
			assert.Zero(t, a.asked.Load(), "a stranger's password was looked at")
			assert.Equal(t, c.status == 401, w.Header().Get("WWW-Authenticate") != "")
			assert.NotContains(t, w.Body.String(), secret)
		})
	}
}

func TestWhatIsMissingIsFoundAtTheStart(t *testing.T) {
	_, err := restauth.NewHandler(nil, restauth.HandlerOptions{})
	for _, want := range []string{"needs a Verify", "ServerName is required", "Secret or Networks is required"} {
		assert.ErrorContains(t, err, want)
	}
	_, err = restauth.NewHandler((&alice{}).verify, restauth.HandlerOptions{ServerName: serverName, Secret: "short"})
	assert.ErrorContains(t, err, "less than 16 bytes")
	assert.NotContains(t, err.Error(), "short ")
}

// Wrong passwords are limited for each name, however it is spelled, and no other name has
// to wait for that; the homeserver's address has nothing to do with it.
func TestWrongPasswordsAreLimited(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	limiter, err := limit.New(&limit.Options{Burst: 3, Refill: time.Minute, Now: func() time.Time { return now }})
	require.NoError(t, err)
	a := &alice{}
	h := newHandler(t, a.verify, func(o *restauth.HandlerOptions) { o.Limiter = limiter })
	for range 10 {
		assert.JSONEq(t, yes, ask(t, h, question("@alice:example.org", "wonderland"), nil).Body.String())
	}
	for _, name := range []string{"alice", "Alice", "ALICE"} {
		assert.JSONEq(t, no, ask(t, h, question("@"+name+":example.org", "wrong"), nil).Body.String())
	}
	asked := a.asked.Load()
	for _, name := range []string{"alice", "aLICE"} {
		w := ask(t, h, question("@"+name+":example.org", "wonderland"), nil)
		assert.Equal(t, 429, w.Code)
		assert.Contains(t, w.Body.String(), "M_LIMIT_EXCEEDED")
		assert.Equal(t, "60", w.Header().Get("Retry-After"))
	}
	assert.Equal(t, asked, a.asked.Load(), "a guess too many was looked at")
	for range 3 {
		assert.JSONEq(t, no, ask(t, h, question("@nobody:example.org", "x"), nil).Body.String())
	}
	assert.Equal(t, 429, ask(t, h, question("@nobody:example.org", "x"), nil).Code, "who is limited exists")
	now = now.Add(time.Minute)
	assert.JSONEq(t, yes, ask(t, h, question("@alice:example.org", "wonderland"), nil).Body.String())
}

// Guesses at once are no cheaper than guesses in a row.
func TestAFloodOfGuesses(t *testing.T) {
	a := &alice{}
	h := newHandler(t, a.verify, nil) // 60 at first
	var all sync.WaitGroup
	for range 500 {
		all.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, restauth.Path, strings.NewReader(question("@alice:example.org", "wrong")))
			r.SetBasicAuth("synapse", secret)
			h.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	all.Wait()
	assert.LessOrEqual(t, a.asked.Load(), int64(62))
	assert.GreaterOrEqual(t, a.asked.Load(), int64(60))
}

// What breaks is no wrong password: the homeserver is told so, and nobody pays for it.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{
		{errors.New("the database is down: wonderland"), 500},
		{passwords.ErrBusy, 503},
		{context.DeadlineExceeded, 503},
		{context.Canceled, 503},
	} {
		broken := c.err
		h := newHandler(t, func(ctx context.Context, id stages.Identifier, password string) (string, error) {
			if broken != nil {
				return "", broken
			}
			return (&alice{}).verify(ctx, id, password)
		}, func(o *restauth.HandlerOptions) {
			limiter, err := limit.New(&limit.Options{Burst: 1})
			require.NoError(t, err)
			o.Limiter = limiter
		})
		for range 3 {
			w := ask(t, h, question("@alice:example.org", "wonderland"), nil)
			assert.Equal(t, c.status, w.Code)
			assert.NotContains(t, w.Body.String(), "wonderland")
			assert.NotContains(t, w.Body.String(), "success")
		}
		broken = nil
		assert.JSONEq(t, yes, ask(t, h, question("@alice:example.org", "wonderland"), nil).Body.String())
	}
}

// A body that comes slowly, or never ends, holds nothing for long.
func TestEndlessBodies(t *testing.T) {
	srv := httptest.NewServer(newHandler(t, (&alice{}).verify, nil))
	defer srv.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+restauth.Path, io.LimitReader(neverEnding{}, 100<<20))
	require.NoError(t, err)
	r.SetBasicAuth("synapse", secret)
	res, err := http.DefaultClient.Do(r)
	if err == nil { // else the server has hung up while the body was still being sent
		assert.Equal(t, 413, res.StatusCode)
		res.Body.Close()
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

var _ uia.Limiter = (*limit.Limiter)(nil)
