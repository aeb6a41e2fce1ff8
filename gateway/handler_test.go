package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/internal/testenv"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

// front is a gateway that listens, in front of an upstream that does.
type front struct {
	*httptest.Server
	t        testing.TB
	store    *memstore.Store
	client   *gateway.Client
	accounts *gateway.Accounts
	log      *testenv.Log
}

// frontOptions are what a test changes.
type frontOptions struct {
	way      way                                    // by which accounts are made at a fake
	upstream func(*gateway.Client) gateway.Upstream // in its place; may be nil
	limiter  uia.Limiter
	trusted  []netip.Prefix
	change   func(*gateway.Options, *register.Registration)
}

// newFront starts a gateway in front of an upstream.
func newFront(t testing.TB, upstream string, o frontOptions) *front {
	t.Helper()
	f := &front{t: t, store: memstore.New(nil), client: &gateway.Client{URL: upstream}, log: &testenv.Log{}}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(f.log, t.Output()), nil))
	secrets := uia.FixedSecrets([]byte(strings.Repeat("s", 32)))
	if o.way == (way{}) {
		o.way = way{"hs", false}
	}
	if o.upstream == nil {
		o.upstream = o.way.upstream
	}
	var err error
	f.accounts, err = gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: o.upstream(f.client), Claims: &gateway.MemoryClaims{}, ServerName: fakeServer, Secrets: secrets, Logger: log,
	})
	require.NoError(t, err)
	reg := &register.Registration{
		Accounts: f.accounts, Resolve: f.accounts.Resolve, ServerName: fakeServer, Flows: []uia.Flow{{uia.TokenType, "m.login.dummy"}},
	}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: f.store, Stages: []uia.Stage{&uia.TokenStage{Store: f.store}, uia.DummyStage{}},
		Operations: []uia.Operation{reg.Operation()}, Client: uia.ClientBehind(o.trusted...), Limiter: o.limiter, Logger: log,
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, nil)
	require.NoError(t, err)
	u, err := url.Parse(upstream)
	require.NoError(t, err)
	opts := gateway.Options{
		Upstream: u, Engine: engine, Registration: reg, Tokens: f.store, Fallback: pages, TrustedProxies: o.trusted, Logger: log,
	}
	if o.change != nil {
		o.change(&opts, reg)
	}
	h, err := gateway.New(opts)
	require.NoError(t, err)
	f.Server = httptest.NewUnstartedServer(h)
	f.Config.Protocols = new(http.Protocols)
	f.Config.Protocols.SetHTTP1(true)
	f.Config.Protocols.SetUnencryptedHTTP2(true)
	f.Start()
	t.Cleanup(f.Close)
	return f
}

// raw sends a request as it is written, so that nothing cleans its path, and returns
// the answer with its body.
func (f *front) raw(method, target string, lines ...string) (*http.Response, string) {
	f.t.Helper()
	body := ""
	if n := len(lines); n > 0 && strings.HasPrefix(lines[n-1], "\n") {
		body = lines[n-1][1:]
		lines = append(lines[:n-1:n-1], fmt.Sprintf("Content-Length: %d", len(body)))
	}
	c, err := net.Dial("tcp", f.Listener.Addr().String())
	require.NoError(f.t, err)
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: matrix.example.org\r\n%s\r\n\r\n%s", method, target, strings.Join(append(lines, "Connection: close"), "\r\n"), body)
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	require.NoError(f.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(f.t, err)
	return res, string(text)
}
