package seal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// MaxID is the length of the longest ID that is opened. [Keys.SealTicket] may return
	// a longer one.
	MaxID = 8192
	// MaxOpening is how many bytes one stage may have remembered in a session ID.
	MaxOpening = 512

	formatVersion = 1
)

// ErrForeign says that a string is no session ID of one of these secrets.
var ErrForeign = errors.New("seal: not a session of this server")

// Ticket is what a session ID carries.
type Ticket struct {
	Expires    int64 // milliseconds since 1970
	Operation  string
	Subject    string
	Target     string
	Flows      []byte   // a digest of the operation's flows, or the flows themselves with FlowsFor
	Digest     []byte   // of the opening request's parameters; empty if it had none
	Remembered []byte   // a JSON object; nil if nothing is remembered
	Openings   []string // auth type, state, auth type, state, ... of the stages that keep some
}

// SealTicket returns the session ID of t and the digest of that ID.
func (k *Keys) SealTicket(t *Ticket) (id string, digest [sha256.Size]byte) {
	size := 0
	for _, part := range [...]int{len(t.Operation), len(t.Subject), len(t.Target), len(t.Flows), len(t.Digest), len(t.Remembered)} {
		size += part + binary.MaxVarintLen16
	}
	for _, part := range t.Openings {
		size += len(part) + binary.MaxVarintLen16
	}
	head := 1 + chacha20poly1305.NonceSizeX
	raw := make([]byte, head, head+size+2*binary.MaxVarintLen64+block+chacha20poly1305.Overhead)
	raw[0] = k.id
	_, _ = rand.Read(raw[1:head]) // never fails

	raw = append(raw, formatVersion)
	raw = binary.AppendUvarint(raw, uint64(t.Expires))
	raw = appendPart(raw, t.Operation)
	raw = appendPart(raw, t.Subject)
	raw = appendPart(raw, t.Target)
	raw = appendPart(raw, t.Flows)
	raw = appendPart(raw, t.Digest)
	raw = appendPart(raw, t.Remembered)
	for _, part := range t.Openings {
		raw = appendPart(raw, part)
	}
	raw = pad(raw, head)
	raw = k.session.Seal(raw[:head], raw[1:head], raw[head:], raw[:1])
	var room [512]byte // on the stack, for all but sessions with long parameters
	return string(base64.RawURLEncoding.AppendEncode(room[:0], raw)), sha256.Sum256(raw)
}

// OpenTicket opens a session ID that SealTicket made under one of the secrets. It does
// not look at the expiry. Anything else is [ErrForeign].
func OpenTicket(ring []*Keys, id string) (*Ticket, *Keys, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	if len(id) == 0 || len(id) > MaxID || strings.ContainsAny(id, "\r\n") {
		return nil, nil, none, ErrForeign // the decoder would skip a line break
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	head := 1 + chacha20poly1305.NonceSizeX
	if err != nil || len(raw) < head+chacha20poly1305.Overhead {
		return nil, nil, none, ErrForeign
	}
	for _, k := range ring {
		if k.id != raw[0] {
			continue
		}
		plain, err := k.session.Open(nil, raw[1:head], raw[head:], raw[:1])
		if err != nil {
			continue // two secrets may share a key ID
		}
		t, ok := parseTicket(plain)
		if !ok {
			continue
		}
		return t, k, sha256.Sum256(raw), nil
	}
	return nil, nil, none, ErrForeign
}

func parseTicket(plain []byte) (*Ticket, bool) {
	plain, ok := unpad(plain)
	if !ok || len(plain) == 0 || plain[0] != formatVersion {
		return nil, false
	}
	t := &Ticket{}
	expires, n := binary.Uvarint(plain[1:])
	if n <= 0 {
		return nil, false
	}
	t.Expires = int64(expires)
	parts := make([][]byte, 0, 8)
	for rest := plain[1+n:]; len(rest) > 0; {
		size, n := binary.Uvarint(rest)
		if n <= 0 || size > uint64(len(rest)-n) {
			return nil, false
		}
		parts = append(parts, rest[n:n+int(size)])
		rest = rest[n+int(size):]
	}
	if len(parts) < 6 || len(parts)%2 != 0 {
		return nil, false
	}
	t.Operation, t.Subject, t.Target = string(parts[0]), string(parts[1]), string(parts[2])
	t.Flows, t.Digest = parts[3], parts[4]
	if len(parts[5]) > 0 {
		t.Remembered = parts[5]
	}
	for _, part := range parts[6:] {
		t.Openings = append(t.Openings, string(part))
	}
	return t, true
}

func appendPart[T string | []byte](out []byte, part T) []byte {
	return append(binary.AppendUvarint(out, uint64(len(part))), part...)
}
