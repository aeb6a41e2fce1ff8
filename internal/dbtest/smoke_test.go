package dbtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// TestSmoke runs through every method once.
func TestSmoke(t *testing.T) {
	for _, b := range append(backends(), sqlite("sqlite").oneConn(), sqlite("sqlite3").oneConn(), onPostgres("pgx").oneConn(), onPostgres("postgres").oneConn()) {
		t.Run(b.name, func(t *testing.T) {
			_, s := b.fresh(t)
			ctx := t.Context()
			now := t0
			require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "a", UsesAllowed: new(int64(2)), Label: "für x", Meta: []byte(`{"a":1}`), Created: t0, CreatedBy: "me"},
				uia.Token{Value: "b", Created: t0.Add(time.Second), Expires: t0.Add(time.Hour)}))
			require.ErrorIs(t, s.CreateTokens(ctx, uia.Token{Value: "c"}, uia.Token{Value: "a"}), uia.ErrExists)
			_, err := s.Token(ctx, "c", now)
			require.ErrorIs(t, err, uia.ErrNotFound)
			// in a caller's transaction
			require.NoError(t, s.InTx(ctx, func(ctx0 context.Context) error {
				require.ErrorIs(t, s.CreateTokens(ctx0, uia.Token{Value: "0"}, uia.Token{Value: "a"}), uia.ErrExists)
				_, err := s.Reserve(ctx0, uia.Hold{Token: "nope", Session: "s", Until: now}, now)
				require.ErrorIs(t, err, uia.ErrNotFound)
				require.NoError(t, s.CreateTokens(ctx0, uia.Token{Value: "d", UsesAllowed: new(int64(1))}))
				_, err = s.Reserve(ctx0, uia.Hold{Token: "d", Session: "s", Until: now}, now)
				require.NoError(t, err)
				tok, err := s.Reserve(ctx0, uia.Hold{Token: "d", Session: "s2", Until: now.Add(1)}, now)
				require.NoError(t, err)
				require.EqualValues(t, 0, tok.Pending)
				tok, err = s.Reserve(ctx0, uia.Hold{Token: "d", Session: "s2", Until: now.Add(time.Minute)}, now)
				require.NoError(t, err)
				require.EqualValues(t, 1, tok.Pending)
				return nil
			}))
			_, err = s.Token(ctx, "0", now)
			require.ErrorIs(t, err, uia.ErrNotFound)
			tok, err := s.Reserve(ctx, uia.Hold{Token: "a", Session: "s", Until: now.Add(time.Minute)}, now)
			require.NoError(t, err)
			assert.EqualValues(t, 1, tok.Pending)
			tok, err = s.Reserve(ctx, uia.Hold{Token: "a", Session: "s", Until: now.Add(time.Minute)}, now)
			require.NoError(t, err)
			assert.EqualValues(t, 1, tok.Pending)
			cl := uia.Claim{Token: "a", Session: "s", Attempt: 1}
			require.NoError(t, s.Pin(ctx, cl, now))
			uses, err := s.PinnedUses(ctx, now.Add(time.Second), 10)
			require.NoError(t, err)
			require.Len(t, uses, 1)
			require.NoError(t, s.Unpin(ctx, cl, now.Add(time.Minute), now))
			require.NoError(t, s.Unpin(ctx, cl, now.Add(time.Minute), now))
			cl.Attempt++
			require.NoError(t, s.Pin(ctx, cl, now))
			require.NoError(t, s.Commit(ctx, cl, "@u", now))
			require.NoError(t, s.Commit(ctx, cl, "@u", now))
			require.ErrorIs(t, s.Commit(ctx, cl, "@v", now), uia.ErrSpent)
			tok, err = s.Token(ctx, "a", now)
			require.NoError(t, err)
			assert.Equal(t, uia.Token{Value: "a", UsesAllowed: new(int64(2)), Label: "für x", Meta: []byte(`{"a":1}`), Created: t0, CreatedBy: "me",
				Completed: 1, LastUsed: now}, tok)
			page, err := s.ListUses(ctx, uia.UseQuery{Token: "a"})
			require.NoError(t, err)
			require.Equal(t, []uia.Use{{Token: "a", Session: "s", State: uia.Spent, Attempt: 2, UserID: "@u", Made: now, Changed: now}}, page.Uses)
			_, err = s.Reserve(ctx, uia.Hold{Token: "a", Session: "z", Until: now.Add(time.Minute)}, now)
			require.NoError(t, err)
			require.NoError(t, s.Release(ctx, uia.Claim{Token: "a", Session: "z"}))
			n, err := s.SweepHolds(ctx, now.Add(time.Hour), 10)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			for _, o := range []uia.TokenOrder{uia.ByValue, uia.ByCreated, uia.ByExpires, uia.ByUsesAllowed} {
				for _, desc := range []bool{false, true} {
					for _, valid := range []*bool{nil, new(true), new(false)} {
						for _, label := range []string{"", "f", "fü", "f\xc3", "x"} {
							q := uia.TokenQuery{Order: o, Descending: desc, Valid: valid, LabelPrefix: label, Limit: 1, Total: true}
							var got []uia.Token
							var total int64
							for range 10 {
								p, err := s.ListTokens(ctx, q, now)
								require.NoError(t, err)
								got = append(got, p.Tokens...)
								total = p.Total
								if q.After = p.Next; q.After == nil {
									break
								}
							}
							assert.Nil(t, q.After)
							assert.EqualValues(t, len(got), total, "%+v", q)
						}
					}
				}
			}
			up, err := s.UpdateToken(ctx, "a", uia.TokenPatch{Revoked: new(true), Label: new("l")}, now)
			require.NoError(t, err)
			require.True(t, up.Revoked)
			require.NoError(t, s.DeleteToken(ctx, "a"))
			require.ErrorIs(t, s.DeleteToken(ctx, "a"), uia.ErrNotFound)
			r, err := s.SaveSession(ctx, uia.Record{Key: "k", State: uia.Open, Expires: now.Add(time.Hour), Data: []byte("x")}, now)
			require.NoError(t, err)
			r, err = s.SaveSession(ctx, r, now)
			require.NoError(t, err)
			got, err := s.LoadSession(ctx, "k", now)
			require.NoError(t, err)
			require.Equal(t, r, got)
			_, err = s.SaveSession(ctx, uia.Record{Key: "k"}, now)
			require.ErrorIs(t, err, uia.ErrConflict)
			n, err = s.SweepSessions(ctx, now.Add(time.Hour), 10)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			a, err := s.Secret(ctx)
			require.NoError(t, err)
			b, err := s.Secret(ctx)
			require.NoError(t, err)
			require.Equal(t, a, b)
			require.Len(t, a, 32)
		})
	}
}
