package uia_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// Where the operation can make its response again, a client that comes back gets one: the
// use is spent, and the process died before it could record what it had made.
func TestALostResponseIsMadeAgain(t *testing.T) {
	errLater := uia.Undecided(&uia.Error{Status: 503, MatrixError: spec.Unknown("later"), RetryAfter: time.Second})
	refusal := uia.NewError(400, spec.UserInUse("not again"))
	for name, c := range map[string]struct {
		fails  error // the first time that the operation is run again
		first  int
		second int
	}{
		"it is made":       {nil, 200, 200},
		"it refuses":       {refusal, 401, 401}, // finished, and no more is told
		"not yet":          {errLater, 503, 200},
		"it breaks":        {errors.New("broken"), 500, 200},
		"it does not know": {context.DeadlineExceeded, 500, 200},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := resolving(t, func(h *homeserver, key string) (uia.Outcome, error) {
					o, err := h.accounts.resolve(t.Context(), key)
					o.Again = o.Done
					return o, err
				})
				h.operate = doubtful[1].operate(t, h) // it makes the account and says that it has not
				_, final := h.ready(flowTD, "alice", "abc")
				require.Equal(t, 500, h.post(final).Status)
				wait(t, 2*time.Minute)
				require.Equal(t, uia.RecoverReport{Committed: 1}, h.recovered())
				runs := 0
				h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
					if runs++; runs == 1 && c.fails != nil {
						return uia.Effect{}, c.fails
					}
					return h.accounts.create(ctx, s)
				}
				first := h.post(final)
				assert.Equal(t, c.first, first.Status, first.Body)
				second := h.post(final)
				assert.Equal(t, c.second, second.Status, second.Body)
				if c.second == 200 {
					assert.Equal(t, second.Body, h.post(final).Body, "from then on it is the same")
					if c.first == 200 {
						assert.Equal(t, first.Body, second.Body)
					}
					assert.LessOrEqual(t, runs, 2)
				} else {
					assert.Equal(t, 1, runs)
				}
				h.oneAccount("abc")
				assert.Equal(t, uia.Spent, h.state("abc"))
			})
		})
	}
}
