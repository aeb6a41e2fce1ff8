package gateway_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
)

// echo answers with what it got.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.Header().Set("X-Upstream", "echo")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"method": r.Method, "uri": r.RequestURI, "host": r.Host, "headers": r.Header, "body": string(body), "length": r.ContentLength,
	})
})

// echoed is what the upstream got.
type echoed struct {
	Method, URI, Host, Body string
	Headers                 http.Header
	Length                  int64
}

func (f *front) echoed(method, target string, lines ...string) echoed {
	f.t.Helper()
	res, body := f.raw(method, target, lines...)
	require.Equal(f.t, "echo", res.Header.Get("X-Upstream"), "%s: %d %s", target, res.StatusCode, body)
	var e echoed
	require.NoError(f.t, json.Unmarshal([]byte(body), &e), body)
	return e
}

func serve(t testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// What is passed on arrives as it was sent.
func TestProxyURIs(t *testing.T) {
	f := newFront(t, serve(t, echo), frontOptions{})
	for _, uri := range []string{
		"/", "/_matrix/client/versions", "/_matrix/client/v3/rooms/%21a%2Fb:x/send/m.room.message/1", "/_matrix/client/v3/directory/room/%23a%25b:x",
		"/_matrix/client/v3/x//y", "/_matrix/client/v3/a/../b", "/_matrix/client/v3/a/./b", "/%5Fmatrix/x", "/_matrix/client/v3/a;b/c", "/_matrix/client/v3/%00",
		"/_matrix/client/v3/sync2?filter=%7B%22a%22:1%7D&x=a;b", "/_matrix/client/v3/x?a=%zz&b=1", "/_matrix/client/v3/x?", "/_matrix/client/v3/x?a=1&a=2&&=",
		"/_matrix/client/v3/x?q=a+b%20c%2B", "/_matrix/client/v3/x?q='\"<>|^`{}", "/_matrix/federation/v1/send/1?a=%7e", "/.well-known/matrix/client",
	} {
		got := f.echoed("GET", uri)
		assert.Equal(t, uri, got.URI)
		assert.Equal(t, "matrix.example.org", got.Host)
	}
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "REPORT"} {
		res, body := f.raw(method, "/_matrix/client/v3/sync2")
		assert.Equal(t, 200, res.StatusCode)
		assert.Equal(t, []string{"*"}, res.Header["Access-Control-Allow-Origin"], "the upstream's, once")
		if method != "HEAD" {
			assert.Contains(t, body, `"method":"`+method+`"`)
		}
	}
	got := f.echoed("PUT", "/_matrix/x", "Content-Type: text/x", "\nhello")
	assert.Equal(t, "hello", got.Body)
	assert.EqualValues(t, 5, got.Length)
	assert.Equal(t, "text/x", got.Headers.Get("Content-Type"))
}

// Below a path the upstream gets that in front.
func TestProxyBelowAPath(t *testing.T) {
	f := newFront(t, serve(t, echo)+"/below/it", frontOptions{})
	assert.Equal(t, "/below/it/_matrix/a%2Fb?x=a;b", f.echoed("GET", "/_matrix/a%2Fb?x=a;b").URI)
}

// Who asks is told by the gateway, and by the proxies that it trusts.
func TestProxyForwarded(t *testing.T) {
	up := serve(t, echo)
	plain := newFront(t, up, frontOptions{})
	spoofed := []string{
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: gopher", "X-Forwarded-Host: evil", "X-Real-IP: 1.2.3.4", "Forwarded: for=1.2.3.4",
		"True-Client-IP: 1.2.3.4", "CF-Connecting-IP: 1.2.3.4", "X-Client-IP: 1.2.3.4", "X-Original-Forwarded-For: 1.2.3.4",
	}
	got := plain.echoed("GET", "/a", spoofed...)
	for name, values := range got.Headers {
		for _, v := range values {
			assert.NotContains(t, v, "1.2.3.4", name)
			assert.NotContains(t, v, "evil", name)
			assert.NotContains(t, v, "gopher", name)
		}
	}
	assert.Equal(t, []string{"127.0.0.1"}, got.Headers["X-Forwarded-For"])
	assert.Equal(t, []string{"127.0.0.1"}, got.Headers["X-Real-Ip"])
	assert.Equal(t, []string{"http"}, got.Headers["X-Forwarded-Proto"])

	for _, trusted := range []string{"127.0.0.0/8", "::ffff:127.0.0.0/104"} {
		trusting := newFront(t, up, frontOptions{trusted: []netip.Prefix{netip.MustParsePrefix(trusted)}})
		got = trusting.echoed("GET", "/a", "X-Forwarded-For: 6.6.6.6, 1.2.3.4", "X-Forwarded-Proto: https")
		assert.Equal(t, []string{"6.6.6.6, 1.2.3.4, 127.0.0.1"}, got.Headers["X-Forwarded-For"], trusted)
		assert.Equal(t, []string{"1.2.3.4"}, got.Headers["X-Real-Ip"], trusted)
		assert.Equal(t, []string{"https"}, got.Headers["X-Forwarded-Proto"], trusted)
	}
}

// Nobody can have a header removed or smuggled by naming it in Connection.
func TestProxyHopByHop(t *testing.T) {
	f := newFront(t, serve(t, echo), frontOptions{})
	got := f.echoed("GET", "/a", "Connection: X-Foo, X-Forwarded-For, X-Real-Ip, X-Forwarded-Proto", "X-Foo: 1", "Keep-Alive: 5", "Proxy-Authorization: x", "Te: gzip", "Authorization: Bearer x")
	for _, name := range []string{"X-Foo", "Keep-Alive", "Proxy-Authorization", "Te", "Connection"} {
		assert.Empty(t, got.Headers[name], name)
	}
	assert.Equal(t, []string{"127.0.0.1"}, got.Headers["X-Forwarded-For"])
	assert.Equal(t, []string{"Bearer x"}, got.Headers["Authorization"])
}

// A request has one length, whatever it says: what is unclear is refused, and the
// upstream sees the requests that the gateway sees.
func TestProxySmuggling(t *testing.T) {
	seen := make(chan string, 10)
	f := newFront(t, serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- r.RequestURI + " " + string(body)
	})), frontOptions{})
	const next = "POST /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
	for name, request := range map[string]struct {
		text string
		want []string
	}{
		"both lengths":  {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + next, []string{"/a hi", "/next ok"}},
		"pipelined":     {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" + next, []string{"/a hi", "/next ok"}},
		"two lengths":   {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 4\r\n\r\nabcd" + next, nil},
		"odd encoding":  {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + next, nil},
		"two encodings": {"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + next, nil},
		"signed length": {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd" + next, nil},
		"space before":  {"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\nabcd" + next, nil},
		"no host":       {"POST /a HTTP/1.1\r\n\r\n" + next, nil},
		"two hosts":     {"POST /a HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n" + next, nil},
		"odd URI":       {"POST /a\n/b HTTP/1.1\r\nHost: x\r\n\r\n" + next, nil},
	} {
		c, err := net.Dial("tcp", f.Listener.Addr().String())
		require.NoError(t, err)
		fmt.Fprint(c, request.text)
		all, _ := io.ReadAll(c) // it may be reset
		c.Close()
		var got []string
		for len(seen) > 0 {
			got = append(got, <-seen)
		}
		assert.Equal(t, request.want, got, "%s: %s", name, all)
	}
}

// Long answers and long requests are passed on as they come.
func TestProxyStreams(t *testing.T) {
	gone, first := make(chan struct{}), make(chan string, 1)
	mux := http.NewServeMux()
	mux.HandleFunc("/_matrix/client/v3/sync", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "part")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		close(gone)
	})
	mux.HandleFunc("/_matrix/media/v3/upload", func(w http.ResponseWriter, r *http.Request) {
		body := bufio.NewReader(r.Body)
		line, _ := body.ReadString('\n')
		first <- line
		n, _ := io.Copy(io.Discard, body)
		fmt.Fprint(w, n)
	})
	f := newFront(t, serve(t, mux), frontOptions{})

	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", f.URL+"/_matrix/client/v3/sync", nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "part\n", line, "before the end")
	cancel()
	<-gone // the client's hanging up reaches the upstream

	in, out := io.Pipe()
	answered := make(chan string)
	go func() {
		defer close(answered)
		res, err := http.Post(f.URL+"/_matrix/media/v3/upload", "application/octet-stream", in)
		if err == nil {
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			answered <- string(body)
		}
	}()
	fmt.Fprintln(out, "first")
	assert.Equal(t, "first\n", <-first, "while the rest is on its way")
	_, err = out.Write(make([]byte, 3<<20))
	require.NoError(t, err)
	require.NoError(t, out.Close())
	assert.Equal(t, fmt.Sprint(3<<20), <-answered)
}

func TestProxyUpgrades(t *testing.T) {
	f := newFront(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		rw.Flush()
		line, _ := rw.ReadString('\n')
		fmt.Fprint(rw, "echo "+line)
		rw.Flush()
	})), frontOptions{})
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	fmt.Fprint(c, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	assert.Equal(t, 101, res.StatusCode)
	fmt.Fprintln(c, "hello")
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "echo hello\n", line)
}

func TestProxyHTTP2(t *testing.T) {
	f := newFront(t, serve(t, echo), frontOptions{})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Get(f.URL + "/_matrix/a%2Fb?x=%zz")
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	assert.Equal(t, 2, res.ProtoMajor)
	assert.Contains(t, string(body), `"uri":"/_matrix/a%2Fb?x=%zz"`)
}

// An answer keeps its encoding, also for a client that did not ask for one.
func TestProxyEncodings(t *testing.T) {
	f := newFront(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Asked", r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, "text")
		z.Close()
	})), frontOptions{})
	for _, asked := range []string{"", "gzip", "br"} {
		lines := []string{}
		if asked != "" {
			lines = append(lines, "Accept-Encoding: "+asked)
		}
		res, body := f.raw("GET", "/_matrix/x", lines...)
		assert.Equal(t, asked, res.Header.Get("X-Asked"))
		assert.Equal(t, "gzip", res.Header.Get("Content-Encoding"))
		assert.True(t, strings.HasPrefix(body, "\x1f\x8b"))
	}
}

// An upstream that is not there, or not as it should be, is an answer in Matrix JSON
// where there is none.
func TestProxyUpstreamIsDown(t *testing.T) {
	down := httptest.NewServer(echo)
	down.Close()
	f := newFront(t, down.URL, frontOptions{})
	res, body := f.raw("GET", "/_matrix/client/v3/sync")
	assert.Equal(t, 502, res.StatusCode)
	assert.Contains(t, body, `"errcode":"M_UNKNOWN"`)
	assert.Equal(t, "*", res.Header.Get("Access-Control-Allow-Origin"))
	assert.NotContains(t, body, "127.0.0.1", "where it is is nobody's business")
	assert.Contains(t, f.log.String(), "cannot be reached")

	broken := newFront(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			fmt.Fprint(c, "HTTP/9 huh\r\n\r\n")
			c.Close()
		}
	})), frontOptions{})
	res, body = broken.raw("GET", "/_matrix/client/v3/sync")
	assert.Equal(t, 502, res.StatusCode)
	assert.Contains(t, body, `"errcode":"M_UNKNOWN"`)

	// Redirects and errors are the upstream's own.
	odd := newFront(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(http.StatusFound)
	})), frontOptions{})
	res, _ = odd.raw("GET", "/_matrix/x")
	assert.Equal(t, 302, res.StatusCode)
	assert.Equal(t, "https://elsewhere.example/", res.Header.Get("Location"))
}

func TestProxyTimeout(t *testing.T) {
	blocked := make(chan struct{})
	f := newFront(t, serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-blocked:
		case <-r.Context().Done():
		}
	})), frontOptions{change: func(o *gateway.Options, _ *register.Registration) {
		transport := gateway.NewTransport()
		transport.ResponseHeaderTimeout = 50 * time.Millisecond
		o.Transport = transport
	}})
	defer close(blocked)
	res, body := f.raw("GET", "/_matrix/x")
	assert.Equal(t, 504, res.StatusCode)
	assert.Contains(t, body, `"errcode":"M_UNKNOWN"`)
}
