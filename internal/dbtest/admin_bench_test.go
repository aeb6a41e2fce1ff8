package dbtest

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/internal/admintest"
	"github.com/matrix-uia/uia/sqlstore"
)

const manyTokens = 1_000_000

// fillTokens makes many tokens. The first half has expired; one in ten is used up;
// nearly all have the same number of uses; a hundred share a label. An administrator has
// created half of them, and a thousand members the others.
func fillTokens(b *testing.B, be backend) *sqlstore.Store {
	b.Helper()
	db, s := be.fresh(b)
	ctx := b.Context()
	if be.dialect == sqlstore.PostgreSQL {
		// Nothing analyzes the tables behind our back.
		for _, table := range []string{"uia_tokens", "uia_uses"} {
			_, err := db.ExecContext(ctx, `ALTER TABLE `+table+` SET (autovacuum_enabled = false)`)
			require.NoError(b, err)
		}
	}
	const batch = 5000
	for first := 0; first < manyTokens; first += batch {
		tokens := make([]uia.Token, batch)
		for i := range tokens {
			n := first + i
			uses, expires := int64(1), admintest.Now.Add(time.Duration(n-manyTokens/2)*time.Second)
			if n%100 == 0 {
				uses = int64(n % 7)
			}
			tokens[i] = uia.Token{
				Value: tokenAt(n), UsesAllowed: &uses, Expires: expires, Label: fmt.Sprintf("batch-%04d", n/100),
				Created: admintest.Now.Add(time.Duration(n%1000) * time.Second), CreatedBy: creatorAt(n),
			}
		}
		require.NoError(b, s.CreateTokens(ctx, tokens...))
	}
	for _, q := range []string{
		`INSERT INTO uia_uses (session, token, token_id, state, stamp, run, user_id, made, changed, invited_by)
			SELECT 'register.' || token, token, id, 3, created, 2, '@' || token || ':test', created, created, created_by FROM uia_tokens WHERE id % 10 = 3`,
		`UPDATE uia_tokens SET taken = 1 WHERE id % 10 = 3`,
	} {
		_, err := db.ExecContext(ctx, q)
		require.NoError(b, err)
	}
	return s
}

// creatorAt returns the administrator for every other token, and for the rest one of a
// thousand members, who have accounts that the administrator has invited.
func creatorAt(n int) string {
	if n%2 == 0 {
		return "@admin:test"
	}
	return "@" + tokenAt(n%2000/2*10+2) + ":test"
}

func tokenAt(n int) string { return fmt.Sprintf("token-%07d", n) }

// elsewhere is a store whose lists begin at a place, as if every page before it had
// been read.
type elsewhere struct {
	uia.TokenStore
	at *uia.TokenCursor
}

func (e elsewhere) ListTokens(ctx context.Context, q uia.TokenQuery, now time.Time) (uia.TokenPage, error) {
	if q.After == nil {
		q.After = e.at
	}
	return e.TokenStore.ListTokens(ctx, q, now)
}

// BenchmarkAdminPages reads pages of a million tokens: in every order, both ways,
// from the beginning, the middle and close to the end, with and without a filter.
// worst-ms is the slowest page of any kind, without the first of each, which warms
// the cache.
func BenchmarkAdminPages(b *testing.B) {
	for _, be := range []backend{sqlite("sqlite"), sqlite("sqlite3"), onPostgres("pgx")} {
		b.Run(be.name, func(b *testing.B) {
			s := fillTokens(b, be)
			middle, end := admintest.Now.UnixMilli(), admintest.Now.Add(manyTokens/2*time.Second).UnixMilli()
			keys := map[string][2]int64{
				"token": {}, "created_ts": {middle + 500_000, middle + 998_000}, "expiry_time": {middle, end - 2_000_000}, "uses_allowed": {1, 1},
			}
			for _, order := range []string{"token", "created_ts", "expiry_time", "uses_allowed"} {
				places := map[string]*uia.TokenCursor{
					"begin":  nil,
					"middle": {Key: keys[order][0], Value: tokenAt(manyTokens / 2)},
					"end":    {Key: keys[order][1], Value: tokenAt(manyTokens - 2000)},
				}
				for _, filter := range []string{"", "valid=true", "valid=false", "label=batch-50", "label=batch&valid=true"} {
					for _, limit := range []int{100, 1000} {
						b.Run(fmt.Sprintf("%s/%s/limit=%d", order, strings.ReplaceAll(filter, "&", "+"), limit), func(b *testing.B) {
							var times []time.Duration
							for b.Loop() {
								for place, at := range places {
									for _, dir := range []string{"f", "b"} {
										h, err := admin.Handler(elsewhere{s, at}, admintest.Authorize, &admin.Options{Now: func() time.Time { return admintest.Now }})
										require.NoError(b, err)
										for try := range 4 {
											r := httptest.NewRequestWithContext(b.Context(), "GET",
												fmt.Sprintf("%s?order_by=%s&dir=%s&limit=%d&%s", admin.Path, order, dir, limit, filter), nil)
											r.Header.Set("Authorization", "Bearer admin")
											w := httptest.NewRecorder()
											start := time.Now()
											h.ServeHTTP(w, r)
											took := time.Since(start)
											require.Equal(b, 200, w.Code, w.Body)
											if try > 0 {
												times = append(times, took)
												if took > 20*time.Millisecond {
													b.Logf("%s %s: %v, %d bytes", place, dir, took, w.Body.Len())
												}
											}
										}
									}
								}
							}
							slices.Sort(times)
							b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "median-ms")
							b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "worst-ms")
						})
					}
				}
			}
		})
	}
}

// BenchmarkAdminWhileRegistering creates tokens while 16 clients register in the
// same SQLite file, which syncs. p99-ms and worst-ms are of the creations.
func BenchmarkAdminWhileRegistering(b *testing.B) {
	for _, be := range []backend{sqlite("sqlite"), sqlite("sqlite3")} {
		synced := be.dsn
		be.dsn = func(t testing.TB) string {
			return strings.NewReplacer("synchronous(OFF)", "synchronous(FULL)", "_synchronous=OFF", "_synchronous=FULL").Replace(synced(t))
		}
		b.Run(be.name, func(b *testing.B) {
			_, a := newTestApp(b, be)
			require.NoError(b, a.store.CreateTokens(b.Context(), uia.Token{Value: "many"}))
			h := admintest.New(b, a.store, func(o *admin.Options) { o.Now = time.Now })
			ctx, stop := context.WithCancel(b.Context())
			var registered, n atomic.Int64
			var clients sync.WaitGroup
			for range 16 {
				clients.Go(func() {
					for ctx.Err() == nil {
						if err := a.register(b.Context(), fmt.Sprint("u", n.Add(1)), "many"); err != nil {
							b.Error(err)
							return
						}
						registered.Add(1)
					}
				})
			}
			var times []time.Duration
			began := time.Now()
			for b.Loop() {
				start := time.Now()
				created := h.Do("POST", "/new", `{"uses_allowed":1}`)
				times = append(times, time.Since(start))
				require.Equal(b, 200, created.Status, created.Body)
			}
			took := time.Since(began)
			stop()
			clients.Wait()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(times[len(times)-1].Microseconds())/1000, "worst-ms")
			b.ReportMetric(float64(registered.Load())/took.Seconds(), "registrations/s")
		})
	}
}
