package gateway

import (
	"context"
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
type sealer struct{ keyring.Box }

func newSealer(secrets uia.Secrets) sealer {
	return sealer{keyring.NewBox(keyring.Source(secrets), "gateway claims")}
}

// seal binds the kept data to its claim, so that it does not open in another one.
func (s sealer) seal(ctx context.Context, now time.Time, key string, content kept) ([]byte, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return s.Seal(ctx, now, text, []byte(key))
}

// errSealed says that what is sealed cannot be opened.
var errSealed = errors.New("gateway: what the claim keeps cannot be opened: its secret is gone")

func (s sealer) open(ctx context.Context, now time.Time, c Claim) (content kept, err error) {
	text, ok, err := s.Open(ctx, now, c.Sealed, []byte(c.Key))
	switch {
	case err != nil:
		return content, err
	case !ok:
		return content, errSealed
	}
	return content, json.Unmarshal(text, &content)
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
