package keyring_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/keyring"
)

func secret(c string) []byte { return []byte(strings.Repeat(c, 32)) }

func TestKeysAreDerivedOnceForEachSetOfSecrets(t *testing.T) {
	var secrets [][]byte
	var failure error
	derived := 0
	ring := keyring.New(func(context.Context, time.Time) ([][]byte, error) { return secrets, failure },
		func(secret []byte) (string, error) {
			derived++
			return string(secret[:1]), nil
		})
	keys := func() []string {
		t.Helper()
		keys, err := ring.Keys(t.Context(), time.Time{})
		require.NoError(t, err)
		return keys
	}
	secrets = [][]byte{secret("a")}
	assert.Equal(t, []string{"a"}, keys())
	assert.Equal(t, []string{"a"}, keys())
	assert.Equal(t, 1, derived)
	secrets = [][]byte{secret("b"), secret("a")}
	assert.Equal(t, []string{"b", "a"}, keys())
	secrets = [][]byte{secret("a"), secret("b")}
	assert.Equal(t, []string{"a", "b"}, keys(), "their order matters")
	assert.Zero(t, testing.AllocsPerRun(10, func() { keys() }), "what is known costs nothing")

	failure = errors.New("the database is gone")
	_, err := ring.Keys(t.Context(), time.Time{})
	require.ErrorIs(t, err, failure)
	failure, secrets = nil, [][]byte{secret("a"), []byte("much too short"), {}}
	_, err = ring.Keys(t.Context(), time.Time{})
	require.ErrorContains(t, err, "secret 2 of 3 has 14 bytes")
	require.ErrorContains(t, err, "secret 3 of 3 has 0 bytes")
	assert.NotContains(t, err.Error(), "too short")
	secrets = nil
	_, err = ring.Keys(t.Context(), time.Time{})
	require.ErrorContains(t, err, "there is no secret")
}

// What is sealed opens for its purpose and its place alone, and for as long as its secret
// is good.
func TestBox(t *testing.T) {
	secrets := [][]byte{secret("a")}
	source := func(context.Context, time.Time) ([][]byte, error) { return secrets, nil }
	box, other := keyring.NewBox(source, "one thing"), keyring.NewBox(source, "another")
	require.NoError(t, box.Check(t.Context(), time.Time{}))
	sealed, err := box.Seal(t.Context(), time.Time{}, []byte("plain"), []byte("here"))
	require.NoError(t, err)
	assert.NotContains(t, string(sealed), "plain")
	opens := func(b keyring.Box, sealed []byte, place string) bool {
		t.Helper()
		plain, ok, err := b.Open(t.Context(), time.Time{}, sealed, []byte(place))
		require.NoError(t, err)
		assert.Equal(t, ok, string(plain) == "plain")
		return ok
	}
	assert.True(t, opens(box, sealed, "here"))
	assert.False(t, opens(box, sealed, "there"))
	assert.False(t, opens(other, sealed, "here"))
	assert.False(t, opens(box, sealed[:len(sealed)-1], "here"))
	assert.False(t, opens(box, nil, "here"))
	secrets = [][]byte{secret("b"), secret("a")}
	assert.True(t, opens(box, sealed, "here"))
	secrets = [][]byte{secret("b")}
	assert.False(t, opens(box, sealed, "here"))
	secrets = nil
	_, _, err = box.Open(t.Context(), time.Time{}, sealed, nil)
	require.Error(t, err)
	require.Error(t, box.Check(t.Context(), time.Time{}))
}
