package dbtest

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/internal/admintest"
)

// BenchmarkInvitePages reads what members and administrators see of invitations, with a
// million tokens and 100,000 accounts that came through them: the pages of one who has created half
// of the tokens, those of members, and trees; and makes and revokes invitations. worst-ms
// is the slowest of its kind, without the first, which warms the cache.
func BenchmarkInvitePages(b *testing.B) {
	for _, be := range []backend{sqlite("sqlite"), sqlite("sqlite3"), onPostgres("pgx")} {
		b.Run(be.name, func(b *testing.B) {
			s := fillTokens(b, be)
			h, err := admin.Handler(s, admintest.Authorize, &admin.Options{Now: func() time.Time { return admintest.Now }})
			require.NoError(b, err)
			ctx, now, n := b.Context(), admintest.Now, 0
			tree := func(user string, limit int) func(b *testing.B) {
				return func(b *testing.B) {
					r := httptest.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/%s/tree?limit=%d", admin.Path, url.PathEscape(user), limit), nil)
					r.Header.Set("Authorization", "Bearer admin")
					w := httptest.NewRecorder()
					h.ServeHTTP(w, r)
					require.Equal(b, 200, w.Code, w.Body)
				}
			}
			created := func(by string, after *uia.TokenCursor) func(b *testing.B) {
				return func(b *testing.B) {
					page, err := s.ListCreated(ctx, uia.CreatedQuery{CreatedBy: by, After: after, Limit: 100}, now)
					require.NoError(b, err)
					require.Len(b, page.Tokens, 100)
				}
			}
			invited := func(by string, after *uia.UseCursor) func(b *testing.B) {
				return func(b *testing.B) {
					page, err := s.ListInvited(ctx, uia.InvitedQuery{InvitedBy: by, After: after, Limit: 100})
					require.NoError(b, err)
					require.NotEmpty(b, page.Invited)
				}
			}
			middle := now.Add(500 * time.Second)
			member := creatorAt(101)
			for _, c := range []struct {
				name string
				run  func(b *testing.B)
			}{
				{"created/administrator", created("@admin:test", nil)},
				{"created/administrator-middle", created("@admin:test", &uia.TokenCursor{Key: middle.UnixMilli(), Value: tokenAt(manyTokens / 2)})},
				{"created/member", created(member, nil)},
				{"invited/administrator", invited("@admin:test", nil)},
				{"invited/administrator-middle", invited("@admin:test", &uia.UseCursor{Made: middle, Session: "register." + tokenAt(manyTokens/2)})},
				{"tree/administrator/limit=100", tree("@admin:test", 100)},
				{"tree/administrator/limit=1000", tree("@admin:test", 1000)},
				{"tree/member/limit=100", tree(member, 100)},
				{"invite-of", func(b *testing.B) {
					use, err := s.InviteOf(ctx, member)
					require.NoError(b, err)
					require.Equal(b, "@admin:test", use.InvitedBy)
				}},
				{"invite/administrator", func(b *testing.B) { // has far more than are allowed
					t := uia.Token{Value: "refused", CreatedBy: "@admin:test", Created: now}
					require.ErrorIs(b, s.CreateInvite(ctx, t, uia.InviteLimit{Live: 1000, Recent: 1000, Since: now.Add(-time.Hour)}, now), uia.ErrQuota)
				}},
				{"invite/member", func(b *testing.B) {
					n++
					t := uia.Token{Value: fmt.Sprint("invite-", n), CreatedBy: member, Created: now}
					require.NoError(b, s.CreateInvite(ctx, t, uia.InviteLimit{Live: 10_000, Recent: 10_000, Since: now.Add(-24 * time.Hour)}, now))
				}},
				{"revoke-all/member", func(b *testing.B) {
					_, err := s.RevokeCreated(ctx, creatorAt(2*(n%1000)+1), 10, now)
					n++
					require.NoError(b, err)
				}},
			} {
				b.Run(c.name, func(b *testing.B) {
					var times []time.Duration
					c.run(b)
					for b.Loop() {
						start := time.Now()
						c.run(b)
						times = append(times, time.Since(start))
					}
					slices.Sort(times)
					b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "median-ms")
					b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "worst-ms")
				})
			}
		})
	}
}
