package gateway

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// minSecret is the least length of a secret, in bytes.
const minSecret = 32

// sealed is what a claim keeps, sealed, while it is Sent.
type sealed struct {
	Resume string `json:"r,omitempty"`
	// Proof tells whether a later request has the same password.
	Proof []byte `json:"p,omitempty"`
}

// sealer seals what claims keep. The first secret seals.
type sealer [][]byte

func newSealer(secret []byte, old [][]byte) (sealer, error) {
	all := append(sealer{secret}, old...)
	for i, s := range all {
		if len(s) < minSecret {
			return nil, fmt.Errorf("gateway: secret %d is shorter than %d bytes", i, minSecret)
		}
	}
	return all, nil
}

// aead is of one claim alone, so that nothing can be moved to another.
func aead(secret []byte, key string) cipher.AEAD {
	k, err := hkdf.Key(sha256.New, secret, []byte(key), "uia gateway claim", chacha20poly1305.KeySize)
	if err != nil {
		panic(err) // a length that HKDF does not have
	}
	a, err := chacha20poly1305.NewX(k)
	if err != nil {
		panic(err)
	}
	return a
}

func (s sealer) seal(key string, content sealed) []byte {
	text, _ := json.Marshal(content) // a string and bytes always encode
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	rand.Read(nonce)
	return aead(s[0], key).Seal(nonce, nonce, text, nil)
}

// errSealed says that what is sealed cannot be opened: its secret is gone.
var errSealed = errors.New("gateway: what the claim keeps cannot be opened: its secret is gone")

func (s sealer) open(key string, box []byte) (sealed, error) {
	var content sealed
	if len(box) < chacha20poly1305.NonceSizeX {
		return content, errSealed
	}
	nonce, box := box[:chacha20poly1305.NonceSizeX], box[chacha20poly1305.NonceSizeX:]
	for _, secret := range s {
		if text, err := aead(secret, key).Open(nil, nonce, box, nil); err == nil {
			return content, json.Unmarshal(text, &content)
		}
	}
	return content, errSealed
}

// proof is a MAC of the password. Its key is the session's ID, which no database has:
// whoever reads the claims, and knows the secret, can try no passwords against it. It
// is nil without a session.
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
