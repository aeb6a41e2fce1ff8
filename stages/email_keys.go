package stages

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia/internal/keyring"
	"github.com/matrix-uia/uia/internal/mistake"
)

// A session ID of ours carries the address, and a MAC over the address and the
// client's secret: asking again gives the same ID, and nothing needs to be kept of a
// mail that was not sent.
const sidMAC = 16

// emailKeys authenticate what an EmailStage gives out. The first key makes, and all of
// them check.
type emailKeys [][]byte

// keys returns the keys that are good at the moment.
func (m *EmailStage) keys(ctx context.Context, now time.Time) (emailKeys, error) {
	secrets, err := m.Secrets(ctx, now)
	if err == nil {
		err = keyring.Check(secrets)
	}
	if err != nil {
		return nil, fmt.Errorf("stages: EmailStage.Secrets: %w", err)
	}
	return secrets, nil
}

// checkSecrets reports secrets that are missing or too short.
func (m *EmailStage) checkSecrets() error {
	if m.Secrets == nil {
		return mistake.Required("Secrets", false)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	secrets, err := m.Secrets(ctx, time.Now())
	if err == nil {
		err = keyring.Check(secrets)
	}
	return mistake.In("Secrets: ", err)
}

func (k emailKeys) sid(address, secret string) string {
	return base64.RawURLEncoding.EncodeToString(append(emailMAC(k[0], "sid", address, secret)[:sidMAC], address...))
}

// issued returns the address of a session ID that was made for this client secret.
func (k emailKeys) issued(c emailCreds) (address string, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(c.SID)
	if err != nil || len(raw) <= sidMAC {
		return "", false
	}
	address = string(raw[sidMAC:])
	return address, k.made(raw[:sidMAC], "sid", address, c.Secret)
}

// mailbox stands for an e-mail address in a budget of clients: an address in a private
// network (RFC 4193) that no client can have, with a /48 of its own for each e-mail
// address.
func (k emailKeys) mailbox(address string) netip.Addr {
	var ip [16]byte
	copy(ip[:], emailMAC(k[0], "mailbox", address))
	ip[0] = 0xfd
	return netip.AddrFrom16(ip)
}

// token authenticates a link.
func (k emailKeys) token(sid, address, ends string) string {
	return base64.RawURLEncoding.EncodeToString(emailMAC(k[0], "link", sid, address, ends))
}

// opens reports whether the token was made for this link.
func (k emailKeys) opens(token, sid, address, ends string) bool {
	mac, err := base64.RawURLEncoding.DecodeString(token)
	return err == nil && len(mac) == sha256.Size && k.made(mac, "link", sid, address, ends)
}

// made reports whether one of the keys has made the MAC, of which the beginning is
// enough.
func (k emailKeys) made(mac []byte, purpose string, parts ...string) bool {
	return slices.ContainsFunc(k, func(key []byte) bool {
		return hmac.Equal(mac, emailMAC(key, purpose, parts...)[:len(mac)])
	})
}

// emailMAC authenticates strings, of which none contains a NUL.
func emailMAC(key []byte, purpose string, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("uia e-mail " + purpose + "\x00" + strings.Join(parts, "\x00")))
	return h.Sum(nil)
}
