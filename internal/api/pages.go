package api

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/keyring"
)

// How many entries a page has.
const (
	DefaultLimit = 1000 // what tools that know no pages get at most
	MaxLimit     = 1000
)

// Pages seal and open the next_token of lists.
type Pages struct {
	ring *keyring.Ring[cipher.AEAD]
}

// NewPages returns pages for lists of this purpose: those of another purpose do not open
// them. Nil secrets are made up. The error says what is wrong with the secrets.
func NewPages(ctx context.Context, secrets uia.Secrets, purpose string, now time.Time) (Pages, error) {
	if secrets == nil {
		secrets = uia.FixedSecrets([]byte(rand.Text() + rand.Text()))
	}
	p := Pages{keyring.New(keyring.Source(secrets), func(secret []byte) (cipher.AEAD, error) { return pageKey(secret, purpose) })}
	_, err := p.ring.Keys(ctx, now)
	return p, err
}

func pageKey(secret []byte, purpose string) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "github.com/matrix-uia/uia/"+purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal makes the next_token of a list: where its next page begins. It is good for
// this list alone.
func (p Pages) Seal(ctx context.Context, now time.Time, list string, cursor any) (string, error) {
	plain, err := json.Marshal(cursor)
	if err != nil {
		return "", err
	}
	keys, err := p.ring.Keys(ctx, now)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(keys[0].Seal(nil, nil, plain, []byte(list))), nil
}

// Open reads the from of a list.
func (p Pages) Open(ctx context.Context, now time.Time, list, from string, cursor any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(from)
	if err != nil {
		return ErrFrom
	}
	keys, err := p.ring.Keys(ctx, now)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if plain, err := key.Open(nil, nil, sealed, []byte(list)); err == nil && json.Unmarshal(plain, cursor) == nil {
			return nil
		}
	}
	return ErrFrom
}

// ErrFrom refuses a from that is of another list, or of another time.
var ErrFrom = Invalid("from must be the next_token of a page of the same list")
