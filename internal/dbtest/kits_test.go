package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/gateway/claimtest"
	"github.com/matrix-uia/uia/gateway/sqlclaims"
	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/restauth/accounttest"
	"github.com/matrix-uia/uia/restauth/sqlaccounts"
	"github.com/matrix-uia/uia/sqlstore"
)

// onEveryDriver runs a kit on every driver, and with pools and isolation levels as others
// have them. What it opens keeps its rows in a table of the store.
func onEveryDriver[S comparable](t *testing.T, table string, keptIn func(*sqlstore.Store) S,
	kit func(t *testing.T, open func(*testing.T) S, reopen func(*testing.T, S) S)) {
	list := append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'"),
		onPostgres("postgres", "default_transaction_isolation = 'repeatable read'"))
	for _, b := range backends() {
		list = append(list, b.oneConn())
	}
	for _, b := range list {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dsns := map[S]string{}
			open := func(t *testing.T, dsn string) S {
				db, s := b.open(t, dsn)
				require.NoError(t, s.Migrate(t.Context()))
				if b.dialect == sqlstore.PostgreSQL && len(dsns) > 0 { // the cases share a database
					_, err := db.ExecContext(t.Context(), `TRUNCATE `+table)
					require.NoError(t, err)
				}
				opened := keptIn(s)
				dsns[opened] = dsn
				return opened
			}
			shared := ""
			kit(t, func(sub *testing.T) S {
				if b.dialect == sqlstore.SQLite {
					return open(sub, b.dsn(sub))
				}
				if shared == "" {
					shared = b.dsn(t)
				}
				return open(sub, shared)
			}, func(t *testing.T, old S) S {
				_, s := b.open(t, dsns[old])
				return keptIn(s)
			})
		})
	}
}

// TestClaims runs the kit of the gateway's claims.
func TestClaims(t *testing.T) {
	onEveryDriver(t, "uia_gateway_claims", func(s *sqlstore.Store) gateway.ClaimStore { return sqlclaims.New(s) },
		func(t *testing.T, open func(*testing.T) gateway.ClaimStore, reopen func(*testing.T, gateway.ClaimStore) gateway.ClaimStore) {
			claimtest.Test(t, open, &claimtest.Options{Reopen: reopen})
		})
}

// TestAccounts runs the kit of the accounts that are kept beside a homeserver.
func TestAccounts(t *testing.T) {
	onEveryDriver(t, "uia_restauth_accounts", func(s *sqlstore.Store) restauth.AccountStore { return sqlaccounts.New(s) },
		func(t *testing.T, open func(*testing.T) restauth.AccountStore, reopen func(*testing.T, restauth.AccountStore) restauth.AccountStore) {
			accounttest.Test(t, open, &accounttest.Options{Reopen: reopen})
		})
}
