package memstore_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

func TestRegistration(t *testing.T) {
	ctx, s, now := t.Context(), memstore.New(nil), time.UnixMilli(1e12).UTC()
	require.NoError(t, s.CreateTokens(ctx, uia.Token{Value: "t", UsesAllowed: new(int64(1))}))
	_, err := s.Reserve(ctx, uia.Hold{Token: "t", Session: "a", Until: now.Add(time.Minute)}, now)
	require.NoError(t, err)
	_, err = s.Reserve(ctx, uia.Hold{Token: "t", Session: "b", Until: now.Add(time.Minute)}, now)
	require.ErrorIs(t, err, uia.ErrExhausted)
	_, err = s.Reserve(ctx, uia.Hold{Token: "t", Session: "b", Until: now.Add(2 * time.Minute)}, now.Add(time.Minute))
	require.NoError(t, err)
	claim := uia.Claim{Token: "t", Session: "b", Attempt: 1}
	require.ErrorIs(t, s.Pin(ctx, uia.Claim{Token: "t", Session: "a", Attempt: 1}, now), uia.ErrNotHeld)
	require.NoError(t, s.Pin(ctx, claim, now))
	require.NoError(t, s.Commit(ctx, claim, "@b:x", now))
	got, err := s.Token(ctx, "t", now)
	require.NoError(t, err)
	assert.Equal(t, uia.Token{Value: "t", UsesAllowed: new(int64(1)), Completed: 1, LastUsed: now}, got)
}
