package api

import (
	"context"
	"crypto/rand"
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
type Pages struct{ box keyring.Box }

// NewPages returns pages for lists of this purpose: those of another purpose do not open
// them. Nil secrets are made up. The error says what is wrong with the secrets.
func NewPages(ctx context.Context, secrets uia.Secrets, purpose string, now time.Time) (Pages, error) {
	if secrets == nil {
		secrets = uia.FixedSecrets([]byte(rand.Text() + rand.Text()))
	}
	p := Pages{keyring.NewBox(keyring.Source(secrets), purpose)}
	return p, p.box.Check(ctx, now)
}

// Seal makes the next_token of a list: where its next page begins. It is good for
// this list alone.
func (p Pages) Seal(ctx context.Context, now time.Time, list string, cursor any) (string, error) {
	plain, err := json.Marshal(cursor)
	if err != nil {
		return "", err
	}
	sealed, err := p.box.Seal(ctx, now, plain, []byte(list))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// Open reads the from of a list.
func (p Pages) Open(ctx context.Context, now time.Time, list, from string, cursor any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(from)
	if err != nil {
		return ErrFrom
	}
	plain, ok, err := p.box.Open(ctx, now, sealed, []byte(list))
	if err == nil && (!ok || json.Unmarshal(plain, cursor) != nil) {
		err = ErrFrom
	}
	return err
}

// ErrFrom refuses a from that is of another list, or of another time.
var ErrFrom = Invalid("from must be the next_token of a page of the same list")
