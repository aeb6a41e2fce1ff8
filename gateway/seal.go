package gateway

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/keyring"
)

// kept is what a claim keeps, sealed, while it is Sent.
type kept struct {
	Resume string `json:"r,omitempty"`
	// Proof tells whether a later request has the same password.
	Proof []byte `json:"p,omitempty"`
}

// sealer seals what claims keep.
type sealer struct {
	ring *keyring.Ring[cipher.AEAD]
}

func newSealer(secrets uia.Secrets) sealer {
	return sealer{keyring.New(keyring.Source(secrets), func(secret []byte) (cipher.AEAD, error) {
		key, err := hkdf.Key(sha256.New, secret, nil, "github.com/matrix-uia/uia/gateway claims", 32)
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

// seal binds the kept data to its claim, so that it does not open in another one.
func (s sealer) seal(ctx context.Context, now time.Time, key string, content kept) ([]byte, error) {
	keys, err := s.ring.Keys(ctx, now)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return keys[0].Seal(nil, nil, text, []byte(key)), nil
}

// errSealed says that what is sealed cannot be opened.
var errSealed = errors.New("gateway: what the claim keeps cannot be opened: its secret is gone")

func (s sealer) open(ctx context.Context, now time.Time, c Claim) (kept, error) {
	var content kept
	keys, err := s.ring.Keys(ctx, now)
	if err != nil {
		return content, err
	}
	for _, key := range keys {
		if text, err := key.Open(nil, nil, c.Sealed, []byte(c.Key)); err == nil {
			return content, json.Unmarshal(text, &content)
		}
	}
	return content, errSealed
}

// proof is a MAC of the password. Its key is the session's ID, which no database has: an
// attacker who has the claims and the secrets cannot try passwords against it. It is nil
// without a session.
func proof(session, password string) []byte {
	if session == "" {
		return nil
	}
	mac := hmac.New(sha256.New, []byte("uia gateway password\x00"+session))
	mac.Write([]byte(password))
	return mac.Sum(nil)
}

// sameProof reports whether both are of one password.
func sameProof(a, b []byte) bool { return len(a) > 0 && hmac.Equal(a, b) }
