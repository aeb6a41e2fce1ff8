package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

// fault is what happens to a process at one of its operations: a call of a store, or
// a request to the upstream.
type fault int

const (
	noFault     fault = iota
	killBefore        // the process dies
	killAfter         // the operation has taken effect, and the process dies before it knows
	failBefore        // the operation fails
	failAfter         // it takes effect, and its answer is lost
	stallBefore       // the process stands still for longer than a lease
	stallAfter
	late       // the upstream takes the request up only after its sender has given up
	muchLater  // and only after it has come back
	veryLate   // and only after everything else, though within the fence
	afterFence // and even after that: no promise
)

var faultNames = []string{
	"no fault", "kill before", "kill after", "fail before", "fail after", "stall before", "stall after",
	"late", "much later", "very late", "after the fence",
}

// delay is how late the upstream takes a request up.
func (f fault) delay() time.Duration {
	return map[fault]time.Duration{
		late: timeout + 2*time.Second, muchLater: time.Minute, veryLate: 4*time.Minute + 30*time.Second, afterFence: 7 * time.Minute,
	}[f]
}

// timeout is the gateways' for one request.
const timeout = 5 * time.Second

var (
	errLost   = errors.New("the connection is gone")
	errKilled = errors.New("the process is dead")
)

// line is where all operations of a process pass.
type line struct {
	over <-chan struct{} // closed when the test ends

	mu    sync.Mutex
	on    bool // operations count
	n     int
	at    int // the operation that has the fault
	fault fault
	dead  bool
	hit   string // the operation that had it
}

// start makes the operations from here on count.
func (l *line) start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.on = true
}

// hadFault returns the operation that had the fault, or "".
func (l *line) hadFault() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hit
}

func (l *line) isDead() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dead
}

// stall is longer than a lease.
const stall = 50 * time.Second

func (l *line) do(ctx context.Context, what string, op func(context.Context) error) error {
	l.mu.Lock()
	f := noFault
	if l.on {
		if l.n++; l.n == l.at {
			f, l.hit = l.fault, what
		}
	}
	if f == killBefore {
		l.dead = true
	}
	dead := l.dead
	l.mu.Unlock()
	if dead {
		<-l.over
		return errKilled
	}
	switch f {
	case failBefore:
		return errLost
	case late, muchLater, veryLate, afterFence:
		if strings.HasPrefix(what, "GET ") || strings.HasPrefix(what, "POST ") {
			go func() {
				<-time.After(f.delay())
				_ = op(context.WithoutCancel(ctx))
			}()
			<-time.After(timeout)
			return errLost
		}
	case stallBefore:
		<-time.After(stall)
		ctx = context.WithoutCancel(ctx) // it stood still just before the operation left the process
	}
	err := op(ctx)
	switch f {
	case killAfter:
		l.mu.Lock()
		l.dead = true
		l.mu.Unlock()
	case failAfter:
		return errLost
	case stallAfter:
		<-time.After(stall)
	}
	l.mu.Lock()
	dead = l.dead
	l.mu.Unlock()
	if dead {
		<-l.over
		return errKilled
	}
	return err
}

// transport is the way to a fake, by a line. A request goes on at the fake though its
// sender is gone.
type transport struct {
	*line
	upstream http.Handler
}

// changed is a transport that a test changes while it is used.
type changed struct{ *process }

func (c changed) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.drop != nil && r.Body != nil {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if c.drop(r, string(body)) {
			return nil, errLost
		}
	}
	return transport{c.line, c.upstream}.RoundTrip(r)
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	err := t.do(r.Context(), r.Method+" "+r.URL.Path, func(context.Context) error {
		in := r.Clone(context.WithoutCancel(r.Context()))
		if in.Body == nil {
			in.Body = http.NoBody
		}
		t.upstream.ServeHTTP(w, in)
		return r.Context().Err()
	})
	if err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// linedTransport is the way to a real homeserver, by a line.
type linedTransport struct{ *line }

func (l linedTransport) RoundTrip(r *http.Request) (res *http.Response, err error) {
	err = l.do(r.Context(), r.Method+" "+r.URL.Path, func(context.Context) error {
		res, err = http.DefaultTransport.RoundTrip(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// linedStore is a store behind a line.
type linedStore struct {
	*line
	uia.Store
}

func (s linedStore) Token(ctx context.Context, value string, now time.Time) (t uia.Token, err error) {
	err = s.do(ctx, "Token", func(ctx context.Context) error { t, err = s.Store.Token(ctx, value, now); return err })
	return t, err
}
func (s linedStore) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	return s.do(ctx, "Reserve", func(ctx context.Context) error { return s.Store.Reserve(ctx, h, now) })
}
func (s linedStore) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	return s.do(ctx, "Pin", func(ctx context.Context) error { return s.Store.Pin(ctx, c, now) })
}
func (s linedStore) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	return s.do(ctx, "Unpin", func(ctx context.Context) error { return s.Store.Unpin(ctx, c, until, now) })
}
func (s linedStore) Commit(ctx context.Context, c uia.Claim, user string, now time.Time) error {
	return s.do(ctx, "Commit", func(ctx context.Context) error { return s.Store.Commit(ctx, c, user, now) })
}
func (s linedStore) Release(ctx context.Context, c uia.Claim) error {
	return s.do(ctx, "Release", func(ctx context.Context) error { return s.Store.Release(ctx, c) })
}
func (s linedStore) LoadSession(ctx context.Context, key string, now time.Time) (r uia.Record, err error) {
	err = s.do(ctx, "LoadSession", func(ctx context.Context) error { r, err = s.Store.LoadSession(ctx, key, now); return err })
	return r, err
}
func (s linedStore) SaveSession(ctx context.Context, in uia.Record, now time.Time) (r uia.Record, err error) {
	err = s.do(ctx, "SaveSession", func(ctx context.Context) error { r, err = s.Store.SaveSession(ctx, in, now); return err })
	return r, err
}

// linedClaims are claims behind a line.
type linedClaims struct {
	*line
	gateway.ClaimStore
}

func (s linedClaims) Reserve(ctx context.Context, in gateway.Claim, now time.Time) (c gateway.Claim, err error) {
	err = s.do(ctx, "claims.Reserve", func(ctx context.Context) error { c, err = s.ClaimStore.Reserve(ctx, in, now); return err })
	return c, err
}
func (s linedClaims) Save(ctx context.Context, in gateway.Claim, now time.Time) (c gateway.Claim, err error) {
	err = s.do(ctx, "claims.Save", func(ctx context.Context) error { c, err = s.ClaimStore.Save(ctx, in, now); return err })
	return c, err
}
func (s linedClaims) Bury(ctx context.Context, key string, now time.Time) (c gateway.Claim, err error) {
	err = s.do(ctx, "claims.Bury", func(ctx context.Context) error { c, err = s.ClaimStore.Bury(ctx, key, now); return err })
	return c, err
}

// way is a homeserver and how accounts are made there.
type way struct {
	dialect string
	private bool
}

func (w way) String() string {
	if w.private {
		return w.dialect + "-private"
	}
	return w.dialect + "-shared"
}

func ways() []way {
	return []way{
		{"synapse", false}, {"synapse", true}, {"dendrite", false}, {"dendrite", true}, {"conduit", true}, {"hs", false}, {"hs", true},
	}
}

func (w way) upstream(c *gateway.Client) gateway.Upstream {
	if w.private {
		return &gateway.PrivateRegistration{Client: c, ServerName: fakeServer, Token: fakeToken, Repeats: dialectOf(w.dialect).keepsSessions}
	}
	return &gateway.SharedSecret{Client: c, ServerName: fakeServer, Secret: fakeSecret}
}

// world is a homeserver, a database, and any number of gateways.
type world struct {
	t      *testing.T
	way    way
	fake   *fake
	store  *memstore.Store
	claims *gateway.MemoryClaims
	over   chan struct{}
	// Of a world with a real homeserver: its URL, and a shorter lease.
	target string
	lease  time.Duration
}

func newWorld(t *testing.T, w way) *world {
	out := &world{
		t: t, way: w, fake: newFake(dialectOf(w.dialect), w.private),
		store: memstore.New(nil), claims: &gateway.MemoryClaims{}, over: make(chan struct{}), lease: lease,
	}
	t.Cleanup(func() { close(out.over) })
	return out
}

func (w *world) token(value string, uses int64) {
	require.NoError(w.t, w.store.CreateTokens(w.t.Context(), uia.Token{Value: value, UsesAllowed: &uses}))
}

// process is a gateway.
type process struct {
	*line
	w        *world
	client   *gateway.Client
	upstream http.Handler                            // the world's fake, unless a test changes it
	drop     func(r *http.Request, body string) bool // a request that does not arrive; nil for none
	engine   *uia.Engine
	accounts *gateway.Accounts
	handler  http.Handler
}

// lease is short, as a gateway wants it.
const lease = 20 * time.Second

// start starts a gateway with a fault at one operation.
func (w *world) start(f fault, at int) *process {
	p := &process{w: w, upstream: w.fake, line: &line{over: w.over, fault: f, at: at}}
	p.client = &gateway.Client{URL: "http://upstream", Transport: changed{p}, Timeout: timeout}
	upstream := w.way.upstream(p.client)
	if w.target != "" {
		p.client.URL, p.client.Transport = w.target, linedTransport{p.line}
		if private, ok := upstream.(*gateway.PrivateRegistration); ok {
			private.Token = "" // it is open to whoever reaches it
		}
	}
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelError + 1}))
	var err error
	secrets := uia.FixedSecrets([]byte(strings.Repeat("s", 32)))
	p.accounts, err = gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: upstream, Claims: linedClaims{p.line, w.claims}, ServerName: fakeServer, Secrets: secrets, Logger: log,
	})
	require.NoError(w.t, err)
	reg := &register.Registration{
		Accounts: p.accounts, Resolve: p.accounts.Resolve, ServerName: fakeServer,
		Flows: []uia.Flow{{uia.TokenType, "m.login.dummy"}},
	}
	store := linedStore{p.line, w.store}
	p.engine, err = uia.New(uia.Config{
		Secrets: secrets, Sessions: store, Stages: []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{reg.Operation()}, LeaseTTL: w.lease, Logger: log,
	})
	require.NoError(w.t, err)
	p.handler, err = reg.Handler(p.engine)
	require.NoError(w.t, err)
	return p
}

// answer is what a client gets; Status 0 means nothing.
type answer struct {
	Status int
	Header http.Header
	Body   string
	JSON   dict
}

func (a answer) session() string { return str(a.JSON["session"]) }
func (a answer) errcode() string { return str(a.JSON["errcode"]) }

// post sends a registration. A client hangs up after a minute and a half.
func (p *process) post(body dict) answer { return p.postFor(body, 90*time.Second) }

// postFor is post for a client that hangs up after this time.
func (p *process) postFor(body dict, patience time.Duration) answer {
	text, err := json.Marshal(body)
	require.NoError(p.w.t, err)
	ctx, cancel := context.WithTimeout(p.w.t.Context(), patience)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, "POST", "/_matrix/client/v3/register", bytes.NewReader(text))
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.handler.ServeHTTP(w, r)
	}()
	select {
	case <-ctx.Done():
		return answer{}
	case <-done:
	}
	a := answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	require.NoError(p.w.t, json.Unmarshal(w.Body.Bytes(), &a.JSON), a.Body)
	return a
}

// params are what somebody registers with.
func params(user, password string) dict {
	return dict{"username": user, "password": password, "device_id": "PHONE", "initial_device_display_name": "phone"}
}

func with(params dict, auth dict) dict {
	out := dict{"auth": auth}
	maps.Copy(out, params)
	return out
}

// upToTheLast registers as far as the last request, which it returns.
func (p *process) upToTheLast(params dict, token string) dict {
	first := p.post(params)
	require.Equal(p.w.t, 401, first.Status, first.Body)
	second := p.post(with(params, dict{"type": uia.TokenType, "token": token, "session": first.session()}))
	require.Equal(p.w.t, 401, second.Status, second.Body)
	require.Empty(p.w.t, second.errcode(), second.Body)
	return with(params, dict{"type": "m.login.dummy", "session": first.session()})
}

// comeBack repeats a request for as long as it is told to, and the process answers.
func (p *process) comeBack(body dict) answer {
	for range 60 {
		a := p.post(body)
		if p.isDead() {
			return answer{}
		}
		if a.Status != 0 && a.Status < 500 && a.Status != 429 {
			return a
		}
		<-time.After(5 * time.Second)
	}
	return answer{}
}

// settle lets time pass, and everything be decided.
func (p *process) settle() {
	for range 4 {
		select {
		case <-time.After(4 * time.Minute):
		case <-p.w.over:
			return
		}
		_, err := p.engine.Recover(p.w.t.Context())
		if err != nil {
			p.w.t.Log("recover:", err)
		}
	}
}
