package dbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	clock    atomic.Int64 // what the workers are told of the time; zero: nothing

	fickle          bool // a client that meets an error may give up
	refused, failed atomic.Int64
	recovered       uia.RecoverReport
	mu              sync.Mutex
	told            map[string]string // user ID to token: who was told that there is an account
}

// farmOptions say what kind of farm.
type farmOptions struct {
	workers  int
	skew     time.Duration // the clocks are ahead by up to this
	apart    bool          // accounts in a database of their own
	leaseTTL time.Duration
	rotate   time.Duration // how long the secrets last; zero: for ever
	conns    int
	dsn      string // instead of a fresh database of the backend
}

func newFarm(t *testing.T, b backend, o farmOptions) *farm {
	t.Helper()
	dsn := o.dsn
	if dsn == "" {
		dsn = b.dsn(t)
	}
	f := &farm{t: t, config: workerConfig{Driver: b.driver, Dialect: b.dialect, DSN: dsn, LeaseTTL: o.leaseTTL, Rotate: o.rotate, Conns: max(o.conns, 8)}}
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
				OR taken <> (SELECT count(*) FROM uia_uses WHERE token_id = uia_tokens.id)
				OR held <> (SELECT count(*) FROM uia_uses WHERE token_id = uia_tokens.id AND state = 1)`).Scan(&over)
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
