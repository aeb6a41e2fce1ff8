package dbtest

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// farm is some worker processes on one database, and clients that register
// through them and do not give up before they have an answer that is final.
type farm struct {
	t        *testing.T
	config   workerConfig
	db       *sql.DB // the store's
	accounts *sql.DB // that of the accounts: the same or another
	store    *sqlstore.Store
	workers  []*worker
	clients  atomic.Int64

	fickle          bool // a client that meets an error may give up
	refused, failed atomic.Int64
	recovered       uia.RecoverReport
	mu              sync.Mutex
	told            map[string]string // user ID to token: who was told that there is an account
}

// worker is a process that can be killed and started again.
type worker struct {
	f      *farm
	config workerConfig
	client *http.Client
	mu     sync.Mutex
	cmd    *exec.Cmd
	stdin  io.WriteCloser
}

// farmOptions say what kind of farm.
type farmOptions struct {
	workers  int
	skew     time.Duration // the clocks are ahead by up to this
	apart    bool          // accounts in a database of their own
	claimTTL time.Duration
	conns    int
	dsn      string // instead of a fresh database of the backend
}

func newFarm(t *testing.T, b backend, o farmOptions) *farm {
	t.Helper()
	dsn := o.dsn
	if dsn == "" {
		dsn = b.dsn(t)
	}
	f := &farm{t: t, config: workerConfig{Driver: b.driver, Dialect: b.dialect, DSN: dsn, ClaimTTL: o.claimTTL, Conns: max(o.conns, 8)}}
	f.told = map[string]string{}
	f.db, f.store = b.open(t, dsn)
	require.NoError(t, f.store.Migrate(t.Context()))
	f.accounts = f.db
	if o.apart {
		f.config.Accounts = b.dsn(t)
		f.accounts, _ = b.open(t, f.config.Accounts)
	}
	_, err := f.accounts.ExecContext(t.Context(), accountsTable)
	require.NoError(t, err)
	sockets, err := os.MkdirTemp("/tmp", "uia-farm-") // short, as a socket's path must be
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	for i := range o.workers {
		c := f.config
		c.Socket = filepath.Join(sockets, fmt.Sprint(i))
		if o.workers > 1 {
			c.Skew = o.skew * time.Duration(i) / time.Duration(o.workers-1)
		}
		w := &worker{f: f, config: c}
		w.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
			MaxIdleConnsPerHost: 64,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", c.Socket)
			},
		}}
		f.workers = append(f.workers, w)
		require.NoError(t, w.start())
		t.Cleanup(w.kill)
	}
	return f
}

// start starts the process and waits until it serves.
func (w *worker) start() error {
	text, err := json.Marshal(w.config)
	if err != nil {
		return err
	}
	_ = os.Remove(w.config.Socket)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "UIA_WORKER="+string(text))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	w.mu.Lock()
	w.cmd, w.stdin = cmd, stdin
	w.mu.Unlock()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if strings.TrimSpace(line) != "ready" {
		w.kill()
		return fmt.Errorf("worker said %q: %w", line, err)
	}
	return nil
}

// kill ends the process as it stands.
func (w *worker) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd != nil {
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
		w.stdin.Close()
		w.cmd = nil
	}
	w.client.CloseIdleConnections()
}

func (w *worker) signal(s syscall.Signal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cmd != nil {
		_ = w.cmd.Process.Signal(s)
	}
}

// reply is what a client gets.
type reply struct {
	status  int
	Session string `json:"session"`
	UserID  string `json:"user_id"`
	ErrCode string `json:"errcode"`
	Error   string `json:"error"`
}

func (w *worker) post(ctx context.Context, body any) (r reply, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://worker/register", bytes.NewReader(text))
	if err != nil {
		return r, err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	r.status = resp.StatusCode
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

var errGaveUp = errors.New("no final answer")

// register registers one client, each request at some worker, and tries again
// after connection errors and 5xx. It reports whether there is an account: not if
// the token was refused.
func (f *farm) register(ctx context.Context, token string) (bool, error) {
	user := fmt.Sprintf("u%d", f.clients.Add(1))
	session := ""
	var last any
	pause := 5 * time.Millisecond
	deadline := time.Now().Add(90 * time.Second)
	for time.Now().Before(deadline) {
		w := f.workers[rand.IntN(len(f.workers))]
		r, err := w.post(ctx, body(user, token, session))
		switch {
		case err == nil && r.status == http.StatusOK:
			if r.UserID != "@"+user+":test" {
				return false, fmt.Errorf("%s was told that he is %q", user, r.UserID)
			}
			f.mu.Lock()
			f.told[r.UserID] = token
			f.mu.Unlock()
			return true, nil
		case err == nil && r.status == http.StatusUnauthorized && r.ErrCode == "M_UNAUTHORIZED":
			f.refused.Add(1)
			return false, nil
		case err == nil && r.status == http.StatusUnauthorized && session == "":
			session = r.Session
			continue
		case err == nil && r.status < 500 && r.status != http.StatusTooManyRequests:
			// A session that ended, or one whose account is there and cannot be told
			// again: what an honest client does is to begin anew.
			last, session = r, ""
			if r.ErrCode == "M_FORBIDDEN" || r.ErrCode == "M_UNKNOWN" {
				user = fmt.Sprintf("u%d", f.clients.Add(1))
			}
		case ctx.Err() != nil:
			return false, ctx.Err()
		default:
			last = fmt.Sprint(r, err)
			f.failed.Add(1)
			if f.fickle && rand.IntN(5) == 0 {
				return false, nil
			}
		}
		if err := wait(ctx, pause); err != nil {
			return false, err
		}
		pause = min(2*pause, 300*time.Millisecond)
	}
	return false, fmt.Errorf("%w: %v", errGaveUp, last)
}

// wait waits, unless the context ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// each runs n clients at a time over all tokens, perToken clients for each, and
// returns how many got an account from each token.
func (f *farm) each(n int, tokens []string, perToken int) map[string]int64 {
	type try struct{ token string }
	tries := make(chan try)
	go func() {
		defer close(tries)
		for _, token := range tokens {
			for range perToken {
				select {
				case tries <- try{token}:
				case <-f.t.Context().Done():
					return
				}
			}
		}
	}()
	made := map[string]int64{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for t := range tries {
				ok, err := f.register(f.t.Context(), t.token)
				assert.NoError(f.t, err)
				if ok {
					mu.Lock()
					made[t.token]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return made
}

// create makes tokens with these limits, one after the other.
func (f *farm) create(n int, limits ...int64) (values []string, allowed map[string]int64) {
	allowed = map[string]int64{}
	for i := range n {
		token := fmt.Sprintf("token%d", i)
		limit := limits[i%len(limits)]
		require.NoError(f.t, f.store.CreateTokens(f.t.Context(), uia.Token{Value: token, UsesAllowed: &limit, Created: t0}))
		values, allowed[token] = append(values, token), limit
	}
	return values, allowed
}

// recover runs Recover until nothing is pinned any more.
func (f *farm) recover() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), time.Minute)
	defer cancel()
	a, err := f.config.app(0)
	require.NoError(f.t, err)
	defer a.close()
	for {
		report, err := a.engine.Recover(ctx)
		f.recovered.Committed += report.Committed
		f.recovered.Released += report.Released
		uses, err2 := f.store.PinnedUses(ctx, time.Now().Add(24*time.Hour), 1)
		if err == nil && err2 == nil && len(uses) == 0 {
			return
		}
		if wait(ctx, 100*time.Millisecond) != nil {
			require.NoError(f.t, errors.Join(err, err2))
			require.Fail(f.t, "a use stays pinned", "%+v", uses)
		}
	}
}

// check checks that accounts and spent uses are the same, and that no token was
// used more often than allowed.
func (f *farm) check(allowed map[string]int64) {
	f.t.Helper()
	ctx := f.t.Context()
	type account struct{ user, token string }
	accounts, uses := map[string]account{}, map[string]account{}
	read := func(db *sql.DB, query string, into map[string]account) {
		rows, err := db.QueryContext(ctx, query)
		require.NoError(f.t, err)
		defer rows.Close()
		for rows.Next() {
			var key string
			var a account
			require.NoError(f.t, rows.Scan(&key, &a.user, &a.token))
			_, twice := into[key]
			assert.False(f.t, twice, "session %s twice in %s", key, query)
			into[key] = a
		}
		require.NoError(f.t, rows.Err())
	}
	read(f.accounts, `SELECT key, user_id, token FROM accounts WHERE user_id IS NOT NULL`, accounts)
	read(f.db, `SELECT session, user_id, token FROM uia_uses WHERE state = 3`, uses)
	assert.Equal(f.t, accounts, uses, "every account has its use, every use its account")
	made, users := map[string]int64{}, map[string]string{}
	for _, a := range accounts {
		made[a.token]++
		users[a.user] = a.token
	}
	for user, token := range f.told {
		assert.Equal(f.t, token, users[user], "%s was told that there is an account", user)
	}
	for token, limit := range allowed {
		t, err := f.store.Token(ctx, token, time.Now())
		require.NoError(f.t, err)
		assert.Equal(f.t, made[token], t.Completed, token)
		assert.LessOrEqual(f.t, made[token], limit, token)
	}
	var rows, taken int64
	require.NoError(f.t, f.db.QueryRowContext(ctx, `SELECT count(*) FROM uia_uses`).Scan(&rows))
	require.NoError(f.t, f.db.QueryRowContext(ctx, `SELECT coalesce(sum(taken), 0) FROM uia_tokens`).Scan(&taken))
	assert.Equal(f.t, rows, taken, "taken is the number of uses")
}

// watch looks all the time whether a token has more uses than allowed, until the
// function that it returns is called.
func (f *farm) watch() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for wait(ctx, 5*time.Millisecond) == nil {
			var over int64
			err := f.db.QueryRowContext(ctx, `SELECT count(*) FROM uia_tokens WHERE taken > uses_allowed
				OR taken <> (SELECT count(*) FROM uia_uses WHERE token_id = uia_tokens.id)`).Scan(&over)
			if err == nil {
				assert.Zero(f.t, over, "tokens with more uses than allowed")
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func isExists(err error) bool { return errors.Is(err, uia.ErrExists) }

func (f *farm) log() {
	f.t.Logf("%d registered, %d refused, %d answers were errors; in doubt afterwards and spent %d, given back %d",
		len(f.told), f.refused.Load(), f.failed.Load(), f.recovered.Committed, f.recovered.Released)
}
