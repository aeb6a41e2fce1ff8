package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/sqlstore"
	"github.com/matrix-uia/uia/storetest"
)

// TestKit runs the conformance kit on every driver, and as others run it: with a
// pool of one connection, and with another default isolation.
func TestKit(t *testing.T) {
	t.Run("memstore", func(t *testing.T) {
		storetest.TestStore(t, func(*testing.T) uia.Store { return memstore.New(nil) })
	})
	serializable := onPostgres("pgx", "default_transaction_isolation = 'serializable'")
	repeatable := onPostgres("postgres", "default_transaction_isolation = 'repeatable read'")
	list := append(backends(), serializable, repeatable, onPostgres("postgres").prepared())
	for _, b := range backends() {
		list = append(list, b.oneConn())
	}
	for _, b := range list {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.kit(t)
		})
	}
}

// kit runs the conformance kit. Its cases run one after the other: on PostgreSQL,
// where a database takes longer to make than a case to run, they share one.
func (b backend) kit(t *testing.T) {
	dsns := map[uia.Store]string{}
	var shared string
	open := func(t *testing.T, dsn string) uia.Store {
		_, s := b.open(t, dsn)
		dsns[s] = dsn
		return s
	}
	storetest.TestStoreWith(t, func(sub *testing.T) uia.Store {
		if b.dialect == sqlstore.SQLite {
			s := open(sub, b.dsn(sub))
			require.NoError(sub, s.(*sqlstore.Store).Migrate(sub.Context()))
			return s
		}
		if shared == "" {
			shared = b.dsn(t)
		}
		db, s := b.open(sub, shared)
		require.NoError(sub, s.Migrate(sub.Context()))
		_, err := db.ExecContext(sub.Context(), `TRUNCATE uia_tokens, uia_uses, uia_sessions`)
		require.NoError(sub, err)
		dsns[s] = shared
		return s
	}, &storetest.Options{Reopen: func(t *testing.T, s uia.Store) uia.Store { return open(t, dsns[s]) }})
}
