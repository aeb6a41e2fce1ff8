package gateway

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/gateway/sqlclaims"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/sqlstore"
)

const (
	// asGateway is the environment variable that makes this program a gateway instead
	// of its tests. It holds the gateway's settings.
	asGateway = "UIA_TEST_AS_GATEWAY"

	serverName    = "localhost"
	sharedSecret  = "the shared secret"
	upstreamToken = "the-token-of-the-gateway"
)

func TestMain(m *testing.M) {
	if settings := os.Getenv(asGateway); settings != "" {
		if err := run(settings); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// open opens a gateway's database.
func open(ctx context.Context, file string) (*sqlstore.Store, error) {
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.New(db, sqlstore.SQLite)
	if err != nil {
		return nil, err
	}
	return store, store.Migrate(ctx)
}

// The leases of the tests that kill gateways, and of the others.
const (
	shortLease = 2 * time.Second
	longLease  = 40 * time.Second
)

// run is the gateway. The settings are a query: upstream, database, way, lease, and
// kill, the operation after which the process kills itself.
func run(settings string) error {
	q, err := url.ParseQuery(settings)
	if err != nil {
		return err
	}
	ctx := context.Background()
	store, err := open(ctx, q.Get("database"))
	if err != nil {
		return err
	}
	killer := &killer{}
	if _, err := fmt.Sscan(q.Get("kill"), &killer.at); err != nil {
		return err
	}
	lease, err := time.ParseDuration(q.Get("lease"))
	if err != nil {
		return err
	}
	client := &gateway.Client{URL: q.Get("upstream"), Transport: killer, Timeout: lease / 2}
	var upstream gateway.Upstream = &gateway.SharedSecret{Client: client, ServerName: serverName, Secret: sharedSecret, Fence: lease + time.Second}
	if q.Get("way") == "private" {
		upstream = &gateway.PrivateRegistration{Client: client, ServerName: serverName, Token: upstreamToken}
	}
	secrets := store.Secrets(24 * time.Hour)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	accounts, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: upstream, Claims: killingClaims{sqlclaims.New(store), killer}, ServerName: serverName, Secrets: secrets, Logger: logger,
	})
	if err != nil {
		return err
	}
	registration := &register.Registration{
		Accounts: accounts, Resolve: accounts.Resolve, ServerName: serverName, Flows: []uia.Flow{{uia.TokenType, "m.login.dummy"}},
	}
	tokens := killingStore{store, killer}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: tokens, Stages: []uia.Stage{&uia.TokenStage{Store: tokens}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()}, LeaseTTL: lease, Logger: logger,
	})
	if err != nil {
		return err
	}
	pages, err := fallback.New(engine, nil)
	if err != nil {
		return err
	}
	target, err := url.Parse(q.Get("upstream"))
	if err != nil {
		return err
	}
	handler, err := gateway.New(gateway.Options{
		Upstream: target, Engine: engine, Registration: registration, Tokens: store, Fallback: pages, Logger: logger,
	})
	if err != nil {
		return err
	}
	if killer.at != patient {
		go func() {
			for range time.Tick(time.Second) {
				if _, err := engine.Recover(ctx); err != nil {
					logger.Warn("recover", "error", err)
				}
			}
		}()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + l.Addr().String())
	return http.Serve(l, handler)
}

// patient, in place of the number of an operation, leaves it to the client that comes
// back to settle what a crash has left: Recover could be faster.
const patient = -1

// killer kills its own process when the operation with this number has taken effect,
// counted from the first that touches a claim; at zero or less it does not.
type killer struct {
	at int

	mu    sync.Mutex
	armed bool
	n     int
}

// done says that an operation has taken effect.
func (k *killer) done() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.armed {
		return
	}
	if k.n++; k.n == k.at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k *killer) arm() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed = true
}

// RoundTrip implements http.RoundTripper.
func (k *killer) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	k.done()
	return res, err
}

type killingClaims struct {
	gateway.ClaimStore
	k *killer
}

func (c killingClaims) Reserve(ctx context.Context, want gateway.Claim, now time.Time) (gateway.Claim, error) {
	c.k.arm()
	got, err := c.ClaimStore.Reserve(ctx, want, now)
	c.k.done()
	return got, err
}

func (c killingClaims) Save(ctx context.Context, want gateway.Claim, now time.Time) (gateway.Claim, error) {
	got, err := c.ClaimStore.Save(ctx, want, now)
	c.k.done()
	return got, err
}

type killingStore struct {
	*sqlstore.Store
	k *killer
}

func (s killingStore) Commit(ctx context.Context, c uia.Claim, user string, now time.Time) error {
	err := s.Store.Commit(ctx, c, user, now)
	s.k.done()
	return err
}

func (s killingStore) SaveSession(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
	saved, err := s.Store.SaveSession(ctx, r, now)
	s.k.done()
	return saved, err
}

// process is a gateway in a process of its own.
type process struct {
	cmd *exec.Cmd
	url string
}

// start starts a gateway that kills itself after this many operations; zero, or
// patient, for one that does not.
func start(t *testing.T, upstream, way, database string, kill int, lease time.Duration) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), asGateway+"="+url.Values{
		"upstream": {upstream}, "way": {way}, "database": {database}, "kill": {fmt.Sprint(kill)}, "lease": {lease.String()},
	}.Encode())
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // that it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	return &process{cmd, strings.TrimSpace(line)}
}

func file(t *testing.T) string { return filepath.Join(t.TempDir(), "gateway.db") }
