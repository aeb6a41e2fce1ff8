package passwords_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/passwords"
)

func TestHashAndVerify(t *testing.T) {
	h := passwords.New(nil)
	for _, password := range []string{"wonderland", "", "a\x00b", strings.Repeat("x", 512), "pässword"} {
		hash, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		assert.True(t, strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$"), hash)
		again, err := h.Hash(t.Context(), password)
		require.NoError(t, err)
		assert.NotEqual(t, hash, again, "two users with one password can be told from their hashes")
		for guess, want := range map[string]bool{password: true, password + "x": false, password + "\x00": false} {
			right, err := h.Verify(t.Context(), hash, guess)
			require.NoError(t, err)
			assert.Equal(t, want, right, "%q for %q", guess, password)
		}
	}
	for _, password := range []string{"", "x"} {
		right, err := h.Verify(t.Context(), "", password)
		require.NoError(t, err)
		assert.False(t, right, "a user who does not exist has the password %q", password)
	}
}

// Hashes of other strengths, as an operator brings them along, are verified too.
func TestOtherParameters(t *testing.T) {
	// From the tests of the reference implementation.
	const hash = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	h := passwords.New(nil)
	for guess, want := range map[string]bool{"password": true, "Password": false} {
		right, err := h.Verify(t.Context(), hash, guess)
		require.NoError(t, err)
		assert.Equal(t, want, right, guess)
	}
	for _, bad := range []string{
		"x", "$2b$10$abc", "$argon2id$", "$argon2id$v=19$m=64$c29tZXNhbHQ$AAAA", "$argon2id$v=18$m=64,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=0,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=2,p=0$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
		"$argon2id$v=19$m=64,t=2,p=1$!$AAAAAAAAAAAAAAAAAAAAAA", "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$", "x$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA",
	} {
		_, err := h.Verify(t.Context(), bad, "password")
		assert.Error(t, err, bad)
	}
}

// A flood neither queues without end nor waits for longer than its requests do.
func TestAFloodIsTurnedAway(t *testing.T) {
	h := passwords.New(&passwords.Options{Parallel: 1, Waiting: 2})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	errs := make(chan error, 50)
	for range 50 {
		all.Go(func() {
			_, err := h.Hash(ctx, "x")
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	busy, done := 0, 0
	for err := range errs {
		switch {
		case err == nil:
			done++
		case errors.Is(err, passwords.ErrBusy):
			busy++
		default:
			t.Error(err)
		}
	}
	assert.Positive(t, done)
	assert.Positive(t, busy)
	cancel()
	for range 20 { // some of them find the slot free
		if _, err := h.Hash(ctx, "x"); err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	_, err := h.Hash(t.Context(), "x")
	require.NoError(t, err, "it has room again")
}
