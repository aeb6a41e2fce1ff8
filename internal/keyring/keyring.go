// Package keyring derives keys from secrets that change while a program runs.
package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// minSecret is the least length of a secret, in bytes.
const minSecret = 32

// Source is uia.Secrets.
type Source = func(ctx context.Context, now time.Time) ([][]byte, error)

// Ring has a key for each secret of a source, and derives it once. It is safe for
// concurrent use.
type Ring[K any] struct {
	secrets Source
	derive  func(secret []byte) (K, error)
	last    atomic.Pointer[derived[K]]
}

type derived[K any] struct {
	secrets [][]byte
	keys    []K
}

// New returns a Ring. It does not ask the source yet.
func New[K any](secrets Source, derive func(secret []byte) (K, error)) *Ring[K] {
	return &Ring[K]{secrets: secrets, derive: derive}
}

// Keys returns the keys of the secrets that are good at the moment, at least one. The
// first is the one to seal with. The caller must not change the slice. The error says
// what is wrong with the secrets, and never what they are.
func (r *Ring[K]) Keys(ctx context.Context, now time.Time) ([]K, error) {
	secrets, err := r.secrets(ctx, now)
	if err != nil {
		return nil, err
	}
	if last := r.last.Load(); last != nil && slices.EqualFunc(last.secrets, secrets, bytes.Equal) {
		return last.keys, nil
	}
	if err := Check(secrets); err != nil {
		return nil, err
	}
	fresh := &derived[K]{secrets: make([][]byte, len(secrets)), keys: make([]K, len(secrets))}
	for i, secret := range secrets {
		if fresh.keys[i], err = r.derive(secret); err != nil {
			return nil, err
		}
		fresh.secrets[i] = bytes.Clone(secret)
	}
	r.last.Store(fresh)
	return fresh.keys, nil
}

// Check reports that there is no secret, and each that is too short.
func Check(secrets [][]byte) error {
	if len(secrets) == 0 {
		return errors.New("there is no secret")
	}
	var mistakes []error
	for i, secret := range secrets {
		if len(secret) < minSecret {
			mistakes = append(mistakes, fmt.Errorf("secret %d of %d has %d bytes, at least %d are needed", i+1, len(secrets), len(secret), minSecret))
		}
	}
	return errors.Join(mistakes...)
}
