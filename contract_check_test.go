package uia_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// A request that has looked at the session before another one made the account
// must not be told that the username is taken: it was taken by itself.
func TestCheckOfASessionThatFinishesMeanwhile(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		var meanwhile atomic.Pointer[func()]
		store := &tap{memstore.New(nil), func(_ context.Context, c call, do func() error) error {
			err := do()
			if c.name == "LoadSession" {
				if first := meanwhile.Swap(nil); first != nil {
					(*first)()
				}
			}
			return err
		}}
		h := newHomeserver(t, setup{store: store, flows: []uia.Flow{flow}})
		h.token("abc", 1)
		_, final := h.ready(flow, "alice", "abc")
		var first answer
		meanwhile.Store(new(func() { first = h.post(final) }))
		second := h.post(final)
		require.Equal(t, 200, first.Status, first.Body)
		assert.Equal(t, 200, second.Status, second.Body)
		assert.Equal(t, first.Body, second.Body)
		h.oneAccount("abc")
	})
}

// An operation that failed may have taken effect, and then the name is in use by
// the very session that tries again.
func TestCheckOfASessionInDoubt(t *testing.T) {
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		synctest.Test(t, func(t *testing.T) {
			h := newHomeserver(t, setup{flows: []uia.Flow{flow}})
			h.token("abc", 1)
			_, final := h.ready(flow, "alice", "abc")
			h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				_, err := h.accounts.create(ctx, s)
				return uia.Effect{}, errors.Join(err, errors.New("connection lost"))
			}
			require.Equal(t, 500, h.post(final).Status)
			h.operate = h.accounts.create
			a := h.post(final)
			assert.Equal(t, 200, a.Status, a.Body)
			h.oneAccount("abc")
		})
	})
}
