package dbtest

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/sqlstore"
)

// TestLapsedHolds leaves a token that strangers know with holds that have all
// lapsed, 300,000 at full size: a look at it costs what it costs with none.
func TestLapsedHolds(t *testing.T) {
	n := size(300_000, 30_000)
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			db, s := b.fresh(t)
			ctx := t.Context()
			require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "public"}, uia.Token{Value: "quiet"}))
			lapse(t, db, b.dialect, "public", n)
			for _, token := range []string{"public", "quiet"} {
				for state := range 3 {
					claim := uia.Claim{Token: token, Session: fmt.Sprint(token, state), Run: 2}
					require.NoError(t, s.Reserve(ctx, uia.Hold{Token: token, Session: claim.Session, Until: t0.Add(time.Minute)}, t0))
					if state > 0 {
						require.NoError(t, s.Pin(ctx, claim, t0))
					}
					if state > 1 {
						require.NoError(t, s.Commit(ctx, claim, "@user:test", t0))
					}
				}
			}
			looks := map[string]*latencies{"public": {}, "quiet": {}}
			for range size(300, 50) {
				for token, l := range looks { // in turns, so that a busy moment meets both
					l.time(func() {
						got, err := s.Token(ctx, token, t0)
						require.NoError(t, err)
						require.EqualValues(t, 2, got.Pending)
						require.EqualValues(t, 1, got.Completed)
					})
				}
			}
			public, quiet := looks["public"], looks["quiet"]
			t.Logf("a look at a token with %d lapsed holds: %v; with none: %v", n, public, quiet)
			// A count takes at least five times as long even with a tenth of them.
			assert.Less(t, public.at(0.5), 3*quiet.at(0.5)+time.Millisecond)
			if timed {
				assert.Less(t, public.at(0.5), quiet.at(0.5)*3/2)
			}
		})
	}
}

// lapse adds n holds that have lapsed an hour ago.
func lapse(t *testing.T, db *sql.DB, dialect sqlstore.Dialect, token string, n int) {
	numbers := map[sqlstore.Dialect]string{
		sqlstore.SQLite:     `WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d) `,
		sqlstore.PostgreSQL: `WITH s AS (SELECT i FROM generate_series(CAST(1 AS BIGINT), %d) AS i) `,
	}[dialect]
	long := t0.Add(-time.Hour).UnixMilli()
	_, err := db.ExecContext(t.Context(), fmt.Sprintf(numbers+`INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
		SELECT 'register.lapsed' || i, '%s', (SELECT id FROM uia_tokens WHERE token = '%[2]s'), 1, %d + i, 0, '', %[3]d, %[3]d FROM s WHERE 1 = 1`,
		n, token, long-int64(n)))
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `UPDATE uia_tokens SET taken = taken + $1, held = held + $2 WHERE token = $3`, n, n, token)
	require.NoError(t, err)
}
