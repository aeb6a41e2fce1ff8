package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/forwarded"
)

// NewTransport returns a transport for what is passed on: it uses no proxy of the
// environment, changes no encoding, and keeps connections for many clients. It waits
// for an answer for as long as the client does.
func NewTransport() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConns:        1024,
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     90 * time.Second,
		DisableCompression:  true, // the answer's encoding is the client's business
		ReadBufferSize:      4 << 10,
		WriteBufferSize:     4 << 10,
	}
}

// newProxy returns what passes requests on.
func newProxy(o Options, client func(*http.Request) netip.Addr, log *slog.Logger) *httputil.ReverseProxy {
	transport := o.Transport
	if transport == nil {
		transport = NewTransport()
	}
	proxies := forwarded.PrefixesOf(o.TrustedProxies)
	return &httputil.ReverseProxy{
		Transport:     transport,
		FlushInterval: -1, // a long answer is passed on as it comes
		BufferPool:    bufferPool{},
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(o.Upstream)
			// As it was sent: net/http leaves out what it cannot read, but signatures cover it.
			p.Out.URL.RawQuery = p.In.URL.RawQuery
			p.Out.Host = p.In.Host
			forward(p, proxies, client(p.In))
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil { // else the client has gone
				log.WarnContext(r.Context(), "gateway: the upstream cannot be reached", "method", r.Method, "error", err)
			}
			answerUnreachable(w, r, err)
		},
	}
}

// answerUnreachable answers for an upstream that does not.
func answerUnreachable(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusBadGateway
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusGatewayTimeout
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		status = http.StatusRequestEntityTooLarge
	}
	uia.WriteError(w, r, nil, uia.NewError(status, spec.Unknown("The homeserver cannot be reached.")))
}

// bufferPool saves 16 KiB of garbage for each answer.
type bufferPool struct{}

var buffers = sync.Pool{New: func() any { return new([16 << 10]byte) }}

// Get implements [httputil.BufferPool].
func (bufferPool) Get() []byte { return buffers.Get().(*[16 << 10]byte)[:] }

// Put implements [httputil.BufferPool].
func (bufferPool) Put(b []byte) { buffers.Put((*[16 << 10]byte)(b)) }
