package restauth_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/stages"
)

// roundTrip is a service without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers returns a service that answers every question so.
func answers(status int, body string, header ...string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return w.Result(), nil
	}
}

func newClient(t testing.TB, service string, transport http.RoundTripper) *restauth.Client {
	t.Helper()
	c, err := restauth.NewClient(service, serverName, &restauth.ClientOptions{Transport: transport})
	require.NoError(t, err)
	return c
}

// Both sides together: the client asks what the handler answers.
func TestClientAndHandler(t *testing.T) {
	srv := httptest.NewServer(newHandler(t, (&alice{}).verify, nil))
	defer srv.Close()
	c, err := restauth.NewClient(strings.Replace(srv.URL, "http://", "http://hs:"+secret+"@", 1)+"/", serverName, nil)
	require.NoError(t, err)
	for _, q := range []struct{ user, password, want string }{
		{"alice", "wonderland", "@alice:example.org"},
		{"@alice:example.org", "wonderland", "@alice:example.org"},
		{" Alice ", "wonderland", "@alice:example.org"},
		{"@ALICE:Example.org", "wonderland", "@alice:example.org"},
		{"alice", "wrong", ""}, {"bob", "wonderland", ""}, {"@alice:elsewhere.org", "wonderland", ""},
		{"alice", "wonderland\x00", ""}, {"alice", strings.Repeat("x", 513), ""}, {"@", "x", ""}, {" ", "x", ""}, {"alice", "", ""},
	} {
		if q.password == "" { // nobody asks with an empty password: the stage and the login refuse it
			continue
		}
		got, err := c.Verify(t.Context(), stages.Identifier{User: q.user}, q.password)
		require.NoError(t, err, "%q", q)
		assert.Equal(t, q.want, got, "%q", q)
	}
	_, err = c.Verify(t.Context(), stages.Identifier{Medium: "email", Address: "alice@example.org"}, "wonderland")
	require.ErrorIs(t, err, stages.ErrUnknownAddress)

	wrong := newClient(t, strings.Replace(srv.URL, "http://", "http://hs:another-secret-is-wrong@", 1), nil)
	_, err = wrong.Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
	unavailable(t, err)
	assert.ErrorContains(t, err, "401")
}

// unavailable asserts that an error is one that a client is told as "try again", and that
// it repeats neither the password nor the secret.
func unavailable(t testing.TB, err error) {
	t.Helper()
	e, ok := errors.AsType[*uia.Error](err)
	require.True(t, ok, "%v", err)
	assert.Equal(t, 503, e.Status, "%v", err)
	assert.Positive(t, e.RetryAfter)
	for _, text := range []string{err.Error(), fmt.Sprintf("%+v %v", e, e.Cause)} {
		assert.NotContains(t, text, "wonderland")
		assert.NotContains(t, text, secret)
	}
	_, _, body := uia.Answer(t.Context(), nil, err)
	told, _ := json.Marshal(body)
	assert.NotContains(t, string(told), "wonderland")
}

// What is asked is what the Synapse module asks.
func TestWhatTheClientSends(t *testing.T) {
	var method, path, body, auth string
	c := newClient(t, "https://hs:"+secret+"@accounts.example.org/sub", roundTrip(func(r *http.Request) (*http.Response, error) {
		text, _ := io.ReadAll(r.Body)
		method, path, body, auth = r.Method, r.URL.String(), string(text), r.Header.Get("Authorization")
		return answers(200, yes)(r)
	}))
	got, err := c.Verify(t.Context(), stages.Identifier{User: "alice"}, `wonder"land`)
	require.NoError(t, err)
	assert.Equal(t, "@alice:example.org", got)
	assert.Equal(t, "POST", method)
	assert.Equal(t, "https://accounts.example.org/sub/_matrix-internal/identity/v1/check_credentials", path)
	assert.JSONEq(t, `{"user":{"id":"@alice:example.org","password":"wonder\"land"}}`, body)
	assert.True(t, strings.HasPrefix(auth, "Basic "))
}

// Answers of services as they are, and as they are when they are broken.
func TestAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		right  bool
	}{
		"with a profile":   {200, `{"auth":{"success":true,"mxid":"@alice:example.org","profile":{"display_name":"A","three_pids":[]}}}`, true},
		"without the ID":   {200, `{"auth":{"success":true}}`, true},
		"capitals":         {200, `{"auth":{"success":true,"mxid":"@Alice:example.org"}}`, true},
		"no":               {200, `{"auth":{"success":false}}`, false},
		"no, with an ID":   {200, `{"auth":{"success":false,"mxid":"@alice:example.org"}}`, false},
		"further members":  {200, `{"x":1,"auth":{"success":true,"y":2}}`, true},
		"unicode in names": {200, `{"auth":{"success":true,"profile":{"display_name":"\u0000\uD800"}}}`, true},
	} {
		got, err := newClient(t, "http://x", answers(c.status, c.body)).Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
		require.NoError(t, err, name)
		assert.Equal(t, c.right, got == "@alice:example.org", name)
	}
	for name, transport := range map[string]roundTrip{
		"another user":         answers(200, `{"auth":{"success":true,"mxid":"@bob:example.org"}}`),
		"another server":       answers(200, `{"auth":{"success":true,"mxid":"@alice:elsewhere.org"}}`),
		"no verdict":           answers(200, `{"auth":{"mxid":"@alice:example.org"}}`),
		"a verdict in words":   answers(200, `{"auth":{"success":"true"}}`),
		"nothing":              answers(200, `{}`),
		"null":                 answers(200, `null`),
		"empty":                answers(200, ``),
		"HTML":                 answers(200, `<html>wonderland</html>`, "Content-Type", "text/html"),
		"the first protocol":   answers(200, `{"authentication":{"success":true}}`),
		"two answers":          answers(200, yes+yes),
		"500":                  answers(500, `{"errcode":"M_UNKNOWN","error":"wonderland"}`),
		"502 of a proxy":       answers(502, `<html>Bad Gateway</html>`),
		"404":                  answers(404, `not found`),
		"403":                  answers(403, no),
		"201":                  answers(201, yes),
		"204":                  answers(204, ``),
		"a redirect":           answers(302, yes, "Location", "http://elsewhere/"),
		"a permanent redirect": answers(308, yes, "Location", "http://elsewhere/"),
		"100 MB": func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.LimitReader(neverEnding{}, 100<<20))}, nil
		},
		"hangs up": func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF },
		"hangs up within the answer": func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(io.MultiReader(strings.NewReader(yes[:20]), broken{}))}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := newClient(t, "http://hs:"+secret+"@x", transport).Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
			assert.Empty(t, got)
			unavailable(t, err)
		})
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A redirect is not followed, neither with the password nor without.
func TestRedirectsAreRefused(t *testing.T) {
	var followed atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := httptest.NewServer(http.RedirectHandler(elsewhere.URL, status))
		_, err := newClient(t, srv.URL, nil).Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
		unavailable(t, err)
		srv.Close()
	}
	assert.False(t, followed.Load())
}

func TestTheServicesLimitIsPassedOn(t *testing.T) {
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "": time.Second, "soon": time.Second, "-5": time.Second, "999999999": time.Hour} {
		_, err := newClient(t, "http://x", answers(429, `{}`, "Retry-After", header)).Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
		e, ok := errors.AsType[*uia.Error](err)
		require.True(t, ok)
		assert.Equal(t, 429, e.Status)
		assert.Equal(t, want, e.RetryAfter)
	}
}

// A service that does not answer costs a client ten seconds, and no more than 64 requests
// at once wait for it.
func TestAServiceThatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var open, most atomic.Int64
		c := newClient(t, "http://x", roundTrip(func(r *http.Request) (*http.Response, error) {
			most.Store(max(most.Load(), open.Add(1)))
			defer open.Add(-1)
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		start := time.Now()
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				_, err := c.Verify(t.Context(), stages.Identifier{User: "alice"}, "wonderland")
				unavailable(t, err)
			})
		}
		all.Wait()
		assert.Equal(t, 10*time.Second, time.Since(start))
		assert.LessOrEqual(t, most.Load(), int64(64))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Verify(ctx, stages.Identifier{User: "alice"}, "wonderland")
		unavailable(t, err)
		assert.Equal(t, 11*time.Second, time.Since(start))
	})
}

func TestTheServicesURL(t *testing.T) {
	for _, bad := range []string{"", "accounts.example.org", "ftp://x", "http://", "http://u:" + secret + "@x/?a=b", "http://u:" + secret + "@x/#a", "http://u:" + secret + "@x:port", "unix:///run/x"} {
		_, err := restauth.NewClient(bad, serverName, nil)
		require.Error(t, err, bad)
		assert.NotContains(t, err.Error(), secret)
	}
	_, err := restauth.NewClient("http://x", "", nil)
	require.Error(t, err)
	_, err = restauth.NewClient("http://x", serverName, &restauth.ClientOptions{Timeout: -1})
	require.Error(t, err)
}
