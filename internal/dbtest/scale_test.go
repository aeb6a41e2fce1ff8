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

// TestScale fills a database with tokens, and one token with spent uses, never
// runs ANALYZE, and compares with an empty one. With UIA_FULL=1 it is a million of
// each, and without the race detector the times are asserted; alone on the machine:
//
//	UIA_FULL=1 go test -run TestScale -v -timeout 30m ./internal/dbtest/
func TestScale(t *testing.T) {
	n := size(1_000_000, 5_000)
	for _, b := range backends() {
		t.Run(b.name, func(t *testing.T) {
			_, empty := b.fresh(t)
			require.NoError(t, empty.CreateTokens(t.Context(), uia.Token{Value: "big"}))
			db, large := b.fresh(t)
			fill(t, db, b.dialect, n)

			// In turns, so that a busy moment of the machine meets both.
			before, after := newScale(t, empty), newScale(t, large)
			for i := range size(1500, 100) {
				before.step(i)
				after.step(i)
			}
			t.Logf("empty: register %v; token %v", &before.register, &before.token)
			t.Logf("%d:    register %v; token %v", n, &after.register, &after.token)
			if timed {
				assert.LessOrEqual(t, after.register.at(0.5), before.register.at(0.5)*3/2)
				assert.LessOrEqual(t, after.token.at(0.5), before.token.at(0.5)*3/2)
			}
			pages(t, large, n)
		})
	}
}

// fill makes n tokens, and n spent uses of the token "big".
func fill(t *testing.T, db *sql.DB, dialect sqlstore.Dialect, n int) {
	numbers := map[sqlstore.Dialect]string{
		sqlstore.SQLite:     `WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < %d) `,
		sqlstore.PostgreSQL: `WITH s AS (SELECT i FROM generate_series(CAST(1 AS BIGINT), %d) AS i) `,
	}[dialect]
	for _, q := range []string{
		// Created, expiring and limited in orders of their own.
		numbers + `INSERT INTO uia_tokens (token, uses_allowed, taken, expires, revoked, label, created, created_by)
			SELECT 'token' || i, CASE WHEN i %% 3 = 0 THEN 9223372036854775807 ELSE i %% 7 END, 0,
			CASE WHEN i %% 2 = 0 THEN 9223372036854775807 ELSE 1700000000000 + (i * 7919 %% 1000003) * 1000 END, 0,
			'label' || (i %% 1000), 1700000000000 - (i * 104729 %% 999983), '' FROM s WHERE 1 = 1`,
		`INSERT INTO uia_tokens (token, uses_allowed, taken, expires, revoked, label, created, created_by)
			VALUES ('big', 9223372036854775807, %d, 9223372036854775807, 0, 'few', 1700000000000, '')`,
		numbers + `INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed)
			SELECT 'register.' || i, 'big', (SELECT id FROM uia_tokens WHERE token = 'big'), 3, 1600000000000 + i, 2, '@u' || i, 1600000000000 + i, 1600000000000 + i
			FROM s WHERE 1 = 1`,
	} {
		_, err := db.ExecContext(t.Context(), fmt.Sprintf(q, n))
		require.NoError(t, err)
	}
}

type scale struct {
	t               *testing.T
	s               *sqlstore.Store
	register, token latencies
}

func newScale(t *testing.T, s *sqlstore.Store) *scale { return &scale{t: t, s: s} }

// step registers once and asks for the token once.
func (m *scale) step(i int) {
	ctx, now := m.t.Context(), t0.Add(time.Duration(i)*time.Second)
	claim := uia.Claim{Token: "big", Session: fmt.Sprintf("register.step%040d", i), Run: 2}
	m.register.time(func() {
		err := m.s.Reserve(ctx, uia.Hold{Token: claim.Token, Session: claim.Session, Until: now.Add(time.Hour)}, now)
		require.NoError(m.t, err)
		require.NoError(m.t, m.s.Pin(ctx, claim, now))
		require.NoError(m.t, m.s.Commit(ctx, claim, "@user:test", now))
	})
	m.token.time(func() {
		tok, err := m.s.Token(ctx, "big", now)
		require.NoError(m.t, err)
		require.Equal(m.t, now, tok.LastUsed)
	})
}

// pages turns to pages in every order and with every filter.
func pages(t *testing.T, s *sqlstore.Store, n int) {
	ctx := t.Context()
	middle := fmt.Sprint("token", n/2)
	for order, name := range map[uia.TokenOrder]string{uia.ByValue: "value", uia.ByCreated: "created", uia.ByExpires: "expires", uia.ByUsesAllowed: "uses allowed"} {
		for _, descending := range []bool{false, true} {
			keys := map[uia.TokenOrder]int64{uia.ByCreated: 1700000000000 - 500000, uia.ByExpires: 1700000000000 + 500000000, uia.ByUsesAllowed: 3}
			for _, after := range []*uia.TokenCursor{nil, {Key: keys[order], Value: middle}} {
				for what, q := range map[string]uia.TokenQuery{
					"all": {}, "valid": {Valid: new(true)}, "not valid": {Valid: new(false)}, "few labels": {LabelPrefix: "few"}, "many labels": {LabelPrefix: "label77"},
				} {
					q.Order, q.Descending, q.After = order, descending, after
					best := time.Hour
					for range 5 { // the first may find nothing in the cache
						start := time.Now()
						_, err := s.ListTokens(ctx, q, t0.Add(time.Hour))
						require.NoError(t, err)
						best = min(best, time.Since(start))
					}
					if timed {
						assert.Less(t, best, 20*time.Millisecond, "%s by %s, descending %v, after %v", what, name, descending, after)
					}
					if best > 10*time.Millisecond {
						t.Logf("%s by %s, descending %v, after %v: %v", what, name, descending, after, best)
					}
				}
			}
		}
	}
	start := time.Now()
	page, err := s.ListUses(ctx, uia.UseQuery{Token: "big"})
	require.NoError(t, err)
	require.Len(t, page.Uses, 100)
	page, err = s.ListUses(ctx, uia.UseQuery{Token: "big", After: &uia.UseCursor{Made: time.UnixMilli(1600000000000 + int64(n)/2), Session: "x"}})
	require.NoError(t, err)
	require.Len(t, page.Uses, 100)
	t.Logf("two pages of uses: %v", time.Since(start))
}
