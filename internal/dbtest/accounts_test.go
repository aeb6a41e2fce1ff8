package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/restauth/accounttest"
	"github.com/matrix-uia/uia/restauth/sqlaccounts"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestAccounts runs the kit of the accounts that are kept beside a homeserver on every
// driver, and with isolation levels as others have them.
func TestAccounts(t *testing.T) {
	list := append(backends(), onPostgres("pgx", "default_transaction_isolation = 'serializable'"),
		onPostgres("postgres", "default_transaction_isolation = 'repeatable read'"))
	for _, b := range backends() {
		list = append(list, b.oneConn())
	}
	for _, b := range list {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			dsns := map[restauth.AccountStore]string{}
			open := func(t *testing.T, dsn string) restauth.AccountStore {
				db, s := b.open(t, dsn)
				require.NoError(t, s.Migrate(t.Context()))
				if b.dialect == sqlstore.PostgreSQL && len(dsns) > 0 { // the cases share a database
					_, err := db.ExecContext(t.Context(), `TRUNCATE uia_restauth_accounts`)
					require.NoError(t, err)
				}
				a := sqlaccounts.New(s)
				dsns[a] = dsn
				return a
			}
			shared := ""
			accounttest.Test(t, func(sub *testing.T) restauth.AccountStore {
				if b.dialect == sqlstore.SQLite {
					return open(sub, b.dsn(sub))
				}
				if shared == "" {
					shared = b.dsn(t)
				}
				return open(sub, shared)
			}, &accounttest.Options{Reopen: func(t *testing.T, a restauth.AccountStore) restauth.AccountStore {
				_, s := b.open(t, dsns[a])
				return sqlaccounts.New(s)
			}})
		})
	}
}
