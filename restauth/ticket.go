package restauth

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/keyring"
)

// tickets are passwords for this package's own use: what it asks of the homeserver in a
// user's name, the homeserver guards with the user's password, which this package does not
// have. A ticket is good for one user and a minute, in every process that has the secrets,
// and nothing is kept of it.
type tickets struct {
	ring *keyring.Ring[[]byte]
	now  func() time.Time
}

const (
	ticketTime   = time.Minute
	ticketPrefix = "restauth-ticket."
)

func newTickets(secrets uia.Secrets, now func() time.Time) tickets {
	return tickets{keyring.New(keyring.Source(secrets), func(secret []byte) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "github.com/matrix-uia/uia/restauth tickets", 32)
	}), now}
}

// issue returns a ticket of a user.
func (t tickets) issue(ctx context.Context, userID string) (string, error) {
	keys, err := t.ring.Keys(ctx, t.now())
	if err != nil {
		return "", err
	}
	until := strconv.FormatInt(t.now().Add(ticketTime).UnixMilli(), 36)
	return ticketPrefix + until + "." + base64.RawURLEncoding.EncodeToString(ticketMAC(keys[0], userID, until)), nil
}

// good reports whether a password is a ticket of the user.
func (t tickets) good(ctx context.Context, userID, password string) (bool, error) {
	rest, ok := strings.CutPrefix(password, ticketPrefix)
	if !ok {
		return false, nil
	}
	until, text, _ := strings.Cut(rest, ".")
	end, err1 := strconv.ParseInt(until, 36, 64)
	mac, err2 := base64.RawURLEncoding.DecodeString(text)
	if now := t.now().UnixMilli(); err1 != nil || err2 != nil || end <= now {
		return false, nil
	}
	keys, err := t.ring.Keys(ctx, t.now())
	if err != nil {
		return false, err
	}
	for _, key := range keys {
		if hmac.Equal(mac, ticketMAC(key, userID, until)) {
			return true, nil
		}
	}
	return false, nil
}

func ticketMAC(key []byte, userID, until string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(until + " " + userID))
	return mac.Sum(nil)
}
