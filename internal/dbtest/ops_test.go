package dbtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// BenchmarkOps times the calls of one registration each on its own.
func BenchmarkOps(b *testing.B) {
	for _, be := range backends() {
		b.Run(be.name, func(b *testing.B) {
			_, s := be.fresh(b)
			ctx := b.Context()
			require.NoError(b, s.CreateTokens(ctx, uia.Token{Value: "t", UsesAllowed: new(int64(1e9))}))
			data := make([]byte, 400)
			spent := map[string]time.Duration{}
			n := 0
			for b.Loop() {
				n++
				key := fmt.Sprintf("register.%043d", n)
				time1 := func(name string, f func() error) {
					start := time.Now()
					require.NoError(b, f())
					spent[name] += time.Since(start)
				}
				time1("1load", func() error { s.LoadSession(ctx, key, t0); return nil })
				time1("2token", func() error { _, err := s.Token(ctx, "t", t0); return err })
				time1("3reserve", func() error {
					err := s.Reserve(ctx, uia.Hold{Token: "t", Session: key, Until: t0.Add(time.Hour)}, t0)
					return err
				})
				r := uia.Record{Key: key, State: uia.Running, Data: data, Expires: t0.Add(time.Hour)}
				time1("4save", func() error { var err error; r, err = s.SaveSession(ctx, r, t0); return err })
				cl := uia.Claim{Token: "t", Session: key, Run: 2}
				time1("5pin", func() error { return s.Pin(ctx, cl, t0) })
				time1("6commit", func() error { return s.Commit(ctx, cl, "@u", t0) })
				time1("7save", func() error { _, err := s.SaveSession(ctx, r, t0); return err })
				time1("8tx", func() error { return s.InTx(ctx, func(context.Context) error { return nil }) })
			}
			for k, d := range spent {
				b.ReportMetric(float64(d.Microseconds())/float64(n), k+"-µs")
			}
		})
	}
}
