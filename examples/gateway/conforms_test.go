package gateway

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/uiatest"
)

// TestConforms has uiacheck's cases go through a gateway in front of the example
// homeserver: all that apply pass, by each way.
func TestConforms(t *testing.T) {
	for _, way := range []string{"shared", "private"} {
		t.Run(way, func(t *testing.T) {
			database := file(t)
			store, err := open(t.Context(), database)
			require.NoError(t, err)
			p := start(t, homeserver(t), way, database, 0, longLease)
			reports, err := uiatest.Run(t.Context(), uiatest.Server{
				URL: p.url,
				NewToken: func(ctx context.Context, n uiatest.NewToken) (string, error) {
					return n.Value, store.CreateTokens(ctx, uia.Token{Value: n.Value, UsesAllowed: n.Uses, Expires: n.Expires, Created: time.Now()})
				},
			}, &uiatest.Options{Rate: 200, Parallel: 2})
			require.NoError(t, err)
			passed := 0
			for _, r := range reports {
				switch {
				case r.Outcome == uiatest.Passed:
					passed++
				case r.Outcome == uiatest.Failed && !strings.HasPrefix(r.Name, "limits/"): // this gateway has no limiter
					t.Errorf("%s: %s", r.Name, strings.Join(r.Problems, "; "))
				}
			}
			t.Log(passed, "pass")
			assert.Greater(t, passed, 250)
		})
	}
}
