package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/gateway/claimtest"
	"github.com/matrix-uia/uia/gateway/sqlclaims"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestClaims runs the kit of the gateway's claims on every driver, and with pools and
// isolation levels as others have them.
func TestClaims(t *testing.T) {
	list := append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'"),
		onPostgres("postgres", "default_transaction_isolation = 'repeatable read'"))
	for _, b := range backends() {
		list = append(list, b.oneConn())
	}
	for _, b := range list {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dsns := map[gateway.ClaimStore]string{}
			open := func(t *testing.T, dsn string) gateway.ClaimStore {
				db, s := b.open(t, dsn)
				require.NoError(t, s.Migrate(t.Context()))
				if b.dialect == sqlstore.PostgreSQL && len(dsns) > 0 { // the cases share a database
					_, err := db.ExecContext(t.Context(), `TRUNCATE uia_gateway_claims`)
					require.NoError(t, err)
				}
				c := sqlclaims.New(s)
				dsns[c] = dsn
				return c
			}
			shared := ""
			claimtest.Test(t, func(sub *testing.T) gateway.ClaimStore {
				if b.dialect == sqlstore.SQLite {
					return open(sub, b.dsn(sub))
				}
				if shared == "" {
					shared = b.dsn(t)
				}
				return open(sub, shared)
			}, &claimtest.Options{Reopen: func(t *testing.T, c gateway.ClaimStore) gateway.ClaimStore {
				_, s := b.open(t, dsns[c])
				return sqlclaims.New(s)
			}})
		})
	}
}
