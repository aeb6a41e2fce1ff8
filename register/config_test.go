package register_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

// What would fail with the first request fails at the start, where it is made.
func TestWhatIsMissingIsFoundAtTheStart(t *testing.T) {
	store := memstore.New(nil)
	engine := func(ops ...uia.Operation) (*uia.Engine, error) {
		return uia.New(uia.Config{
			Secrets: uia.FixedSecrets([]byte(strings.Repeat("s", 32))), Sessions: store, Operations: ops,
			Stages: []uia.Stage{&uia.TokenStage{Store: store}},
		})
	}
	empty := &register.Registration{Flows: []uia.Flow{{uia.TokenType}}}
	_, err := engine(empty.Operation())
	for _, want := range []string{
		`uia: operation "register": Accounts is required`, `uia: operation "register": ServerName is required`,
		`uia: operation "register": Resolve is required`, "or Tx",
	} {
		require.ErrorContains(t, err, want)
	}
	none, err := engine()
	require.NoError(t, err)
	for _, handler := range []func(reg *register.Registration, e *uia.Engine) error{
		func(reg *register.Registration, e *uia.Engine) error { _, err := reg.Handler(e); return err },
		func(reg *register.Registration, e *uia.Engine) error { _, err := reg.AvailableHandler(e); return err },
	} {
		assert.ErrorContains(t, handler(empty, nil), "register: the engine is nil")
		assert.ErrorContains(t, handler(empty, nil), "register: Accounts is required\nregister: ServerName is required")
		assert.ErrorContains(t, handler(empty, none), `register: the engine has no operation "register"`)
	}

	reg := &register.Registration{
		Accounts: &accounts{}, ServerName: "test",
		Resolve: func(context.Context, string) (uia.Outcome, error) { return uia.Outcome{}, nil },
	}
	whole, err := engine(reg.Operation())
	require.NoError(t, err)
	_, err = reg.Handler(whole)
	require.NoError(t, err)
	_, err = reg.AvailableHandler(whole)
	require.NoError(t, err)
}
