package dbtest

import (
	"context"
	"database/sql"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// countingConn counts round trips: how often the client turns from reading to
// writing. It sees what a wrapped driver would not, such as a statement that the
// driver first has prepared.
type countingConn struct {
	net.Conn
	trips *atomic.Int64
	wrote bool
}

func (c *countingConn) Write(b []byte) (int, error) {
	if !c.wrote {
		c.wrote = true
		c.trips.Add(1)
	}
	return c.Conn.Write(b)
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wrote = false
	return n, err
}

type countingDialer struct{ trips atomic.Int64 }

func (d *countingDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	return &countingConn{Conn: conn, trips: &d.trips}, err
}

func (d *countingDialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

func (d *countingDialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

// TestRoundTrips counts what the documentation of package sqlstore says.
func TestRoundTrips(t *testing.T) {
	for _, driver := range []string{"pgx", "postgres"} {
		b := onPostgres(driver)
		t.Run(b.name, func(t *testing.T) {
			var d countingDialer
			dsn := b.dsn(t)
			var db *sql.DB
			if driver == "pgx" {
				config, err := pgx.ParseConfig(dsn)
				require.NoError(t, err)
				config.DialFunc = d.DialContext
				// A ping after a second of idling would be counted.
				db = stdlib.OpenDB(*config, stdlib.OptionShouldPing(func(context.Context, stdlib.ShouldPingParams) bool { return false }))
			} else {
				connector, err := pq.NewConnector(dsn)
				require.NoError(t, err)
				connector.Dialer(&d)
				db = sql.OpenDB(connector)
			}
			t.Cleanup(func() { db.Close() })
			db.SetMaxOpenConns(1)
			store, err := sqlstore.New(db, sqlstore.PostgreSQL)
			require.NoError(t, err)
			ctx := t.Context()
			require.NoError(t, store.Migrate(ctx))
			_, err = db.ExecContext(ctx, accountsTable)
			require.NoError(t, err)
			a, err := newApp(store, nil, appConfig{})
			require.NoError(t, err)
			require.NoError(t, store.CreateTokens(ctx, uia.Token{Value: "t", UsesAllowed: new(int64(100))}))

			// The first of each kind makes connections and prepares statements.
			trips := func(f func()) int64 {
				before := d.trips.Load()
				f()
				return d.trips.Load() - before
			}
			register := func(user string) func() {
				return func() { require.NoError(t, a.register(ctx, user, "t")) }
			}
			register("warm-up")()
			// One statement of it is the host's own: the INSERT of the account.
			assert.EqualValues(t, 6, trips(register("alice"))-1, "registration")

			validity := func() { _, err := store.Token(ctx, "t", t0); require.NoError(t, err) }
			assert.EqualValues(t, 1, trips(validity), "validity")

			challenge := func() string {
				_, err := a.post(ctx, body("bob", "", ""))
				c, _ := err.(*uia.Challenge)
				require.NotNil(t, c)
				return c.Session
			}
			var session string
			assert.EqualValues(t, 0, trips(func() { session = challenge() }), "opening a session")
			wrong := func() { _, err := a.post(ctx, body("bob", "wrong", session)); require.Error(t, err) }
			wrong()
			assert.EqualValues(t, 2, trips(wrong), "a wrong token: the session's record and the token are looked for")
			unasked := func() {
				_, err := a.post(ctx, map[string]any{"auth": map[string]string{"type": uia.TokenType, "token": "wrong"}})
				require.Error(t, err)
			}
			assert.EqualValues(t, 1, trips(unasked), "a wrong token in a request that brings no session: the token is looked for")
			var used int64
			require.NoError(t, db.QueryRowContext(ctx, `SELECT count(*) FROM uia_sessions WHERE state <> 3`).Scan(&used))
			assert.Zero(t, used, "a wrong token writes nothing")
		})
	}
}
