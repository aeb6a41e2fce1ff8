package uiatest

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
)

// origin is one client of the homeserver. Each case is a client of its own. Where that can
// be done it has an address of its own, because homeservers limit what an address may do.
type origin struct {
	address string // "" if it is the same for all
	client  *http.Client
	waiting func() (resume func()) // called when the client has to wait; may be nil
	known   map[string]bool        // the endpoints that have answered; guarded by gates.mu
}

func (o *origin) close() { o.client.CloseIdleConnections() }

// origins makes clients.
type origins struct {
	server *Server
	dial   string       // the homeserver's address on the loopback interface, or ""
	common *http.Client // where all clients have one address; nil otherwise
	made   atomic.Uint32
}

// newOrigins finds out whether clients can have addresses of their own. They can in
// this process, and on the loopback interface of systems that have all of 127.0.0.0/8
// there.
func newOrigins(ctx context.Context, s *Server) *origins {
	o := &origins{server: s}
	if s.Handler == nil {
		o.dial = loopback(ctx, s.URL)
		if o.dial == "" {
			o.common = newClient(newTransport())
		}
	}
	return o
}

// newClient returns a client that follows no redirect: it sends to the homeserver and
// to nobody else.
func newClient(t http.RoundTripper) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// newTransport returns a transport that uses no proxy.
func newTransport() *http.Transport {
	return &http.Transport{
		DisableCompression:  true, // a short answer cannot become a long one
		MaxIdleConnsPerHost: 16,
		ForceAttemptHTTP2:   true,
	}
}

// next returns a new client.
func (o *origins) next() *origin {
	n := o.made.Add(1)
	// 198.18.0.0/15 is for benchmarks, 127.64.0.0/10 on the loopback interface.
	address := fmt.Sprintf("198.%d.%d.%d", 18+n>>16&1, n>>8&255, n&255)
	switch {
	case o.server.Handler != nil:
		return &origin{address: address, client: newClient(inProcess{o.server.Handler, address})}
	case o.common != nil:
		return &origin{client: o.common}
	}
	address = fmt.Sprintf("127.%d.%d.%d", 64+n>>16&63, n>>8&255, n&255)
	t := newTransport()
	dialer := from(address)
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, o.dial)
	}
	return &origin{address: address, client: newClient(t)}
}

func from(address string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
}

// loopback returns the address to dial if the homeserver listens on the loopback
// interface and answers other addresses of it, and "" otherwise.
func loopback(ctx context.Context, base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", u.Hostname())
	if err != nil || len(addresses) == 0 || !addresses[0].IsLoopback() {
		return ""
	}
	dial := net.JoinHostPort(addresses[0].String(), port)
	conn, err := from("127.64.0.0").DialContext(ctx, "tcp4", dial)
	if err != nil {
		return ""
	}
	conn.Close()
	return dial
}
