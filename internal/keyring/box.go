package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"time"
)

// Box seals what is kept where others can read or change it: in a database, in a form, in
// a link. It seals under the newest secret, and opens what any good one has sealed. It is
// safe for concurrent use.
type Box struct{ ring *Ring[cipher.AEAD] }

// NewBox returns a box. What a box of another purpose has sealed does not open.
func NewBox(secrets Source, purpose string) Box {
	return Box{New(secrets, func(secret []byte) (cipher.AEAD, error) {
		key, err := hkdf.Key(sha256.New, secret, nil, "github.com/matrix-uia/uia/"+purpose, 32)
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCMWithRandomNonce(block)
	})}
}

// Check says what is wrong with the secrets.
func (b Box) Check(ctx context.Context, now time.Time) error {
	_, err := b.ring.Keys(ctx, now)
	return err
}

// Seal seals plain for one place: what is bound to another does not open there.
func (b Box) Seal(ctx context.Context, now time.Time, plain, place []byte) ([]byte, error) {
	keys, err := b.ring.Keys(ctx, now)
	if err != nil {
		return nil, err
	}
	return keys[0].Seal(nil, nil, plain, place), nil
}

// Open returns what was sealed for this place. It is not ok if it was sealed for another,
// or elsewhere, or under a secret that is gone. The error says that the secrets could not
// be had.
func (b Box) Open(ctx context.Context, now time.Time, sealed, place []byte) (plain []byte, ok bool, err error) {
	keys, err := b.ring.Keys(ctx, now)
	if err != nil {
		return nil, false, err
	}
	for _, key := range keys {
		if plain, err := key.Open(nil, nil, sealed, place); err == nil {
			return plain, true, nil
		}
	}
	return nil, false, nil
}
