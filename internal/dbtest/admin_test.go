package dbtest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/admintest"
)

// TestAdmin is what package admin promises to real tools, on both databases.
func TestAdmin(t *testing.T) {
	for _, b := range []backend{sqlite("sqlite"), sqlite("sqlite3"), onPostgres("pgx")} {
		t.Run(b.name, func(t *testing.T) {
			db, s := b.fresh(t)
			admintest.Run(t, func(t testing.TB) uia.TokenStore {
				for _, table := range []string{"uia_tokens", "uia_uses"} { // quicker than another database
					_, err := db.ExecContext(t.Context(), "DELETE FROM "+table)
					require.NoError(t, err)
				}
				return s
			})
		})
	}
}
