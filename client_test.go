package uia_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

var proxies = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("::ffff:172.16.0.0/108"),
}

func TestClientBehindProxies(t *testing.T) {
	for name, c := range map[string]struct {
		remote string
		header []string // X-Forwarded-For, one line each
		want   string
	}{
		"no proxy":                     {"203.0.113.7:4711", nil, "203.0.113.7"},
		"no proxy, a forged header":    {"203.0.113.7:4711", []string{"198.51.100.1"}, "203.0.113.7"},
		"one proxy":                    {"10.1.2.3:80", []string{"198.51.100.1"}, "198.51.100.1"},
		"a forged beginning":           {"10.1.2.3:80", []string{"192.0.2.1, 10.0.0.1, 198.51.100.1"}, "198.51.100.1"},
		"a forged header before":       {"10.1.2.3:80", []string{"192.0.2.1", "198.51.100.1"}, "198.51.100.1"},
		"two proxies":                  {"10.1.2.3:80", []string{"192.0.2.1, 198.51.100.1, 10.0.0.9"}, "198.51.100.1"},
		"two proxies, two headers":     {"10.1.2.3:80", []string{"192.0.2.1,198.51.100.1", "10.0.0.9"}, "198.51.100.1"},
		"a proxy alone":                {"10.1.2.3:80", nil, "10.1.2.3"},
		"nothing but proxies":          {"10.1.2.3:80", []string{"10.0.0.8, 10.0.0.9"}, "10.0.0.8"},
		"an empty header":              {"10.1.2.3:80", []string{""}, "10.1.2.3"},
		"an empty element":             {"10.1.2.3:80", []string{"192.0.2.1, ,10.0.0.9"}, "10.0.0.9"},
		"a proxy that does not know":   {"10.1.2.3:80", []string{"192.0.2.1, unknown"}, "10.1.2.3"},
		"a stranger's nonsense":        {"10.1.2.3:80", []string{"<script>, 198.51.100.1"}, "198.51.100.1"},
		"ports":                        {"10.1.2.3:80", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"IPv6":                         {"[2001:db8:1::5]:80", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		"IPv6 in brackets":             {"[2001:db8:1::5]:80", []string{"[2001:db8:2::7]"}, "2001:db8:2::7"},
		"IPv6 with a port":             {"[2001:db8:1::5]:80", []string{"[2001:db8:2::7]:4711"}, "2001:db8:2::7"},
		"IPv6 with a zone":             {"[fe80::1%eth0]:80", nil, "fe80::1"},
		"IPv6, two proxies":            {"[2001:db8:1::5]:80", []string{"2001:db8:2::7, 2001:db8:1::6"}, "2001:db8:2::7"},
		"IPv4 in IPv6, the connection": {"[::ffff:10.1.2.3]:80", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"IPv4 in IPv6, the prefix":     {"172.16.9.9:80", []string{"198.51.100.1"}, "198.51.100.1"},
		"beside that prefix":           {"172.32.0.1:80", []string{"198.51.100.1"}, "172.32.0.1"},
		"a unix socket":                {"@", []string{"198.51.100.1"}, "::1"},
		"nothing that is an address":   {"pipe", []string{"198.51.100.1"}, "invalid IP"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.remote
		r.Header["X-Forwarded-For"] = c.header
		r.Header.Set("Forwarded", "for=192.0.2.99") // of the other kind: a stranger's
		assert.Equal(t, c.want, uia.ClientBehind(proxies...)(r).String(), name)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.1.2.3:80"
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	assert.Equal(t, "10.1.2.3", uia.ClientBehind()(r).String(), "nobody is trusted")
}

func TestClientForwarded(t *testing.T) {
	for header, want := range map[string]string{
		`for=198.51.100.1`: "198.51.100.1",
		`For="198.51.100.1:4711";proto=https;by=203.0.113.43`:      "198.51.100.1",
		`proto=https; for=198.51.100.1 ;host="a, b"`:               "198.51.100.1",
		`for="[2001:db8:2::7]:4711"`:                               "2001:db8:2::7",
		`for="[2001:db8:2::7]"`:                                    "2001:db8:2::7",
		`for=192.0.2.1, for=198.51.100.1`:                          "198.51.100.1",
		`for=192.0.2.1, for=198.51.100.1, for=10.0.0.9;proto=http`: "198.51.100.1",
		`for=", for=198.51.100.1`:                                  "198.51.100.1", // a stranger has opened a quotation
		`for="192.0.2.1, for=198.51.100.1`:                         "198.51.100.1",
		`for=192.0.2.1;for=198.51.100.1`:                           "10.1.2.3", // whom?
		`for=unknown`:                                              "10.1.2.3",
		`for="_hidden"`:                                            "10.1.2.3",
		`for=192.0.2.1, proto=https`:                               "10.1.2.3",
		``:                                                         "10.1.2.3",
		`for=192.0.2.1,` + strings.Repeat(`for=10.0.0.1,`, 9) + `for=`: "10.1.2.3",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.1.2.3:80"
		r.Header.Set("Forwarded", header)
		r.Header.Set("X-Forwarded-For", "192.0.2.99") // of the other kind: a stranger's
		assert.Equal(t, want, uia.ClientForwarded(proxies...)(r).String(), header)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.1.2.3:80"
	r.Header["Forwarded"] = []string{"for=192.0.2.1", "for=198.51.100.1", "for=10.0.0.9"}
	assert.Equal(t, "198.51.100.1", uia.ClientForwarded(proxies...)(r).String(), "several headers")
	r.RemoteAddr = "203.0.113.7:4711"
	assert.Equal(t, "203.0.113.7", uia.ClientForwarded(proxies...)(r).String(), "a stranger's header")
}

// Whatever is in a header, the address is the connection's or one that a proxy has
// written: what a stranger writes before it changes nothing.
func FuzzClientBehindStrangers(f *testing.F) {
	for _, seed := range []string{"", `"`, `for="`, "1.2.3.4", ",", `\"`, "for=1.2.3.4;for=1.2.3.4", "10.0.0.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, stranger string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.1.2.3:80"
		r.Header["X-Forwarded-For"] = []string{stranger + ", 198.51.100.1"}
		r.Header["Forwarded"] = []string{stranger + `, for="198.51.100.1:80";proto=https`}
		assert.Equal(t, "198.51.100.1", uia.ClientBehind(proxies...)(r).String())
		assert.Equal(t, "198.51.100.1", uia.ClientForwarded(proxies...)(r).String())
		r.RemoteAddr = "203.0.113.7:80"
		assert.Equal(t, "203.0.113.7", uia.ClientBehind(proxies...)(r).String())
		assert.Equal(t, "203.0.113.7", uia.ClientForwarded(proxies...)(r).String())
	})
}

// A proxy on this machine may come over a unix socket.
func TestClientBehindAUnixSocket(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	require.NoError(t, err)
	seen := make(chan netip.Addr, 2)
	alone, behind := uia.ClientBehind(), uia.ClientBehind(netip.MustParsePrefix("::1/128"))
	server := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- alone(r)
		seen <- behind(r)
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://homeserver/", nil)
	require.NoError(t, err)
	r.Header.Set("X-Forwarded-For", "198.51.100.1")
	answer, err := client.Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	assert.Equal(t, netip.IPv6Loopback(), <-seen)
	assert.Equal(t, netip.MustParseAddr("198.51.100.1"), <-seen)
}
