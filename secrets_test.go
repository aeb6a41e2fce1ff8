package uia_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

// A source that fails is found by New, and later answered like any broken part.
func TestSecretsThatCannotBeRead(t *testing.T) {
	errGone := errors.New("the vault is sealed")
	_, err := uia.New(uia.Config{Sessions: memstore.New(nil), Secrets: func(context.Context, time.Time) ([][]byte, error) {
		return nil, errGone
	}})
	require.ErrorIs(t, err, errGone)
	require.ErrorContains(t, err, "uia: Secrets: the vault is sealed")
	_, err = uia.New(uia.Config{Sessions: memstore.New(nil)})
	require.ErrorContains(t, err, "uia: Secrets is required")

	var gone atomic.Bool
	var log bytes.Buffer
	h := newHomeserver(t, setup{change: func(c *uia.Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.Secrets = func(context.Context, time.Time) ([][]byte, error) {
			if gone.Load() {
				return nil, errGone
			}
			return [][]byte{secret}, nil
		}
	}})
	h.token("abc", 1)
	s := h.open(dict{})
	gone.Store(true)
	for _, body := range []dict{{}, {"auth": submitToken(s, "abc")}} {
		log.Reset()
		a := h.post(body)
		a.is(t, 500, "M_UNKNOWN")
		assert.NotContains(t, string(a.Body), "vault")
		assert.Contains(t, log.String(), "the vault is sealed")
	}
	_, err = h.engine.Session(t.Context(), s)
	refusal, ok := errors.AsType[*uia.Error](err)
	require.True(t, ok)
	assert.Equal(t, 500, refusal.Status, "it is not known whether the session is")
	gone.Store(false)
	assert.Len(t, h.post(dict{"auth": submitToken(s, "abc")}).completed(), 1)
}
