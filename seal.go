package uia

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// A session ID is not the name of something stored: it is the session, sealed.
// A first leg therefore costs nothing that outlives it, and whoever reads the
// database finds no session ID in it. What a session becomes once a stage has
// been completed is a Record, whose key is a digest of the ID and whose data is
// sealed under a key that only somebody who has the ID can derive.

const (
	// minSecret is the least length of Config.Secret, in bytes.
	minSecret = 32
	// maxRemembered bounds the parameters that a session ID carries.
	maxRemembered = 1024
	// maxSessionID bounds what is unsealed at all.
	maxSessionID = 8192
	// block is what plaintexts are padded to: the length of a password must not
	// show in the length of a session ID.
	block = 64

	formatVersion = 1
)

var errSealed = errors.New("uia: not a session of this server")

// keys is what is derived from one secret.
type keys struct {
	id      byte // says which secret sealed a session ID
	session cipher.AEAD
	record  []byte // with the session ID gives the record's key
	request []byte // authenticates request bodies
}

func newKeys(secret []byte) (*keys, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("secret has %d bytes, at least %d are needed", len(secret), minSecret)
	}
	derive := func(purpose string, n int) []byte {
		key, err := hkdf.Key(sha256.New, secret, nil, "uia/1 "+purpose, n)
		if err != nil {
			panic(err) // only for lengths beyond 255 digests
		}
		return key
	}
	aead, err := chacha20poly1305.NewX(derive("session", chacha20poly1305.KeySize))
	if err != nil {
		return nil, err
	}
	return &keys{derive("key id", 1)[0], aead, derive("record", 32), derive("request", 32)}, nil
}

// mac authenticates a canonical request body, so that a repeated request can be
// recognised without keeping it.
func (k *keys) mac(key string, canonical []byte) []byte {
	h := hmac.New(sha256.New, k.request)
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(canonical)
	return h.Sum(nil)
}

// ticket is what a session ID carries.
type ticket struct {
	expires    int64 // milliseconds since 1970
	operation  string
	subject    string
	target     string
	flows      []byte   // a digest of the operation's flows, or the flows themselves with FlowsFor
	digest     []byte   // of the opening request's parameters; empty if it had none
	remembered []byte   // a JSON object; nil if nothing is remembered
	openings   []string // auth type, state, auth type, state, ... of the stages that keep some
}

// seal returns the session ID of t and the digest of that ID.
func (k *keys) seal(t *ticket) (id string, digest [sha256.Size]byte) {
	size := 0
	for _, part := range [...]int{len(t.operation), len(t.subject), len(t.target), len(t.flows), len(t.digest), len(t.remembered)} {
		size += part + binary.MaxVarintLen16
	}
	for _, part := range t.openings {
		size += len(part) + binary.MaxVarintLen16
	}
	head := 1 + chacha20poly1305.NonceSizeX
	raw := make([]byte, head, head+size+2*binary.MaxVarintLen64+block+chacha20poly1305.Overhead)
	raw[0] = k.id
	_, _ = rand.Read(raw[1:head]) // never fails

	raw = append(raw, formatVersion)
	raw = binary.AppendUvarint(raw, uint64(t.expires))
	raw = appendPart(raw, t.operation)
	raw = appendPart(raw, t.subject)
	raw = appendPart(raw, t.target)
	raw = appendPart(raw, t.flows)
	raw = appendPart(raw, t.digest)
	raw = appendPart(raw, t.remembered)
	for _, part := range t.openings {
		raw = appendPart(raw, part)
	}
	raw = pad(raw, head)
	raw = k.session.Seal(raw[:head], raw[1:head], raw[head:], raw[:1])
	return base64.RawURLEncoding.EncodeToString(raw), sha256.Sum256(raw)
}

// unseal opens a session ID that seal made under one of the secrets. It does
// not look at the expiry. Anything else is errSealed.
func unseal(ring []*keys, id string) (*ticket, *keys, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	if len(id) == 0 || len(id) > maxSessionID || strings.ContainsAny(id, "\r\n") {
		return nil, nil, none, errSealed // the decoder would skip a line break
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	head := 1 + chacha20poly1305.NonceSizeX
	if err != nil || len(raw) < head+chacha20poly1305.Overhead {
		return nil, nil, none, errSealed
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
	return nil, nil, none, errSealed
}

func parseTicket(plain []byte) (*ticket, bool) {
	plain, ok := unpad(plain)
	if !ok || len(plain) == 0 || plain[0] != formatVersion {
		return nil, false
	}
	t := &ticket{}
	expires, n := binary.Uvarint(plain[1:])
	if n <= 0 {
		return nil, false
	}
	t.expires = int64(expires)
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
	t.operation, t.subject, t.target = string(parts[0]), string(parts[1]), string(parts[2])
	t.flows, t.digest = parts[3], parts[4]
	if len(parts[5]) > 0 {
		t.remembered = parts[5]
	}
	for _, part := range parts[6:] {
		t.openings = append(t.openings, string(part))
	}
	return t, true
}

func appendPart[T string | []byte](out []byte, part T) []byte {
	return append(binary.AppendUvarint(out, uint64(len(part))), part...)
}

// pad appends a one bit and zeros until what follows head fills whole blocks.
func pad(out []byte, head int) []byte {
	out = append(out, 0x80)
	for (len(out)-head)%block != 0 {
		out = append(out, 0)
	}
	return out
}

func unpad(padded []byte) ([]byte, bool) {
	for i := len(padded) - 1; i >= 0; i-- {
		switch padded[i] {
		case 0:
		case 0x80:
			return padded[:i], true
		default:
			return nil, false
		}
	}
	return nil, false
}

// recordAEAD returns the key that seals the record of the session with this ID.
// A new nonce is drawn for every revision, and 24 bytes of it never repeat.
func (k *keys) recordAEAD(id string) cipher.AEAD {
	key, err := hkdf.Key(sha256.New, k.record, []byte(id), "uia/1 record data", chacha20poly1305.KeySize)
	if err != nil {
		panic(err) // only for lengths beyond 255 digests
	}
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err) // only for another key size
	}
	return aead
}

// sealRecord seals data for the revision that the record is about to have.
// Binding the revision and the state keeps whoever can write to the database
// from putting an old revision in the place of a new one.
func (k *keys) sealRecord(id string, data *recordData, r *Record) error {
	plain, err := json.Marshal(data)
	if err != nil {
		return err
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+block+chacha20poly1305.Overhead)
	_, _ = rand.Read(nonce) // never fails
	r.Data = k.recordAEAD(id).Seal(nonce, nonce, pad(plain, 0), recordBinding(r, r.Revision+1))
	return nil
}

func (k *keys) openRecord(id string, r Record) (*recordData, error) {
	if len(r.Data) < chacha20poly1305.NonceSizeX {
		return nil, fmt.Errorf("uia: session record %s is damaged", r.Key)
	}
	nonce, sealed := r.Data[:chacha20poly1305.NonceSizeX], r.Data[chacha20poly1305.NonceSizeX:]
	padded, err := k.recordAEAD(id).Open(nil, nonce, sealed, recordBinding(&r, r.Revision))
	if err != nil {
		return nil, fmt.Errorf("uia: session record %s cannot be opened: %w", r.Key, err)
	}
	plain, ok := unpad(padded)
	data := &recordData{}
	if !ok || json.Unmarshal(plain, data) != nil {
		return nil, fmt.Errorf("uia: session record %s is damaged", r.Key)
	}
	return data, nil
}

func recordBinding(r *Record, revision int64) []byte {
	out := appendPart(nil, r.Key)
	out = binary.AppendVarint(out, revision)
	out = binary.AppendVarint(out, int64(r.State))
	return binary.AppendVarint(out, r.Run)
}

// sessionKey is what the outside calls a session: Session.Key, the key of its
// record and of its uses.
func sessionKey(operation string, digest [sha256.Size]byte) string {
	return operation + "." + base64.RawURLEncoding.EncodeToString(digest[:])
}
