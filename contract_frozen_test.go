package uia_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// A session that was opened without parameters is bound to those of its first
// completed stage, also for a request that set out before that stage was completed.
func TestFrozenParametersInARace(t *testing.T) {
	for _, flow := range []uia.Flow{{"m.login.password"}, {"m.login.password", "m.login.dummy"}} {
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
		var ran []string
		h := newHomeserver(t, setup{store: store, change: func(c *uia.Config) {
			c.Operations[1].Flows, c.Operations[1].AnyOrder = []uia.Flow{flow}, true
		}})
		ask := func(reason, stage string, session any) error {
			body := `{"reason":"` + reason + `","auth":{"type":"` + stage + `","password":"right","session":"` + session.(string) + `"}}`
			g, err := h.engine.Authenticate(t.Context(), uia.Request{Operation: "delete_device", Subject: "@a:test", Body: []byte(body)})
			if err != nil {
				return err
			}
			_, err = g.Finish(t.Context(), func(_ context.Context, s *uia.Session) (uia.Effect, error) {
				ran = append(ran, string(s.Params))
				if len(ran) == 1 && len(flow) == 1 {
					return uia.Effect{}, errBroken // so that another one may run
				}
				return uia.Effect{}, nil
			})
			return err
		}
		_, err := h.engine.Authenticate(t.Context(), uia.Request{Operation: "delete_device", Subject: "@a:test"})
		opened, ok := err.(*uia.Challenge)
		require.True(t, ok)
		meanwhile.Store(new(func() { _ = ask("spring cleaning", "m.login.password", opened.Session) }))
		err = ask("malice", flow[len(flow)-1], opened.Session)
		refused, ok := err.(*uia.Error)
		require.True(t, ok, "%v", err)
		assert.Equal(t, 403, refused.Status)
		for _, params := range ran {
			assert.JSONEq(t, `{"reason":"spring cleaning"}`, params)
		}
	}
}
