// Package seal makes session IDs that are the session itself, and seals what is
// stored of a session under a key that needs its ID.
//
// A session ID is not the name of something stored: it is a [Ticket], sealed. A first leg
// therefore costs nothing that outlives it, and an attacker who reads the database finds
// no session ID in it. What is stored of a session later is known by a digest of the ID,
// and is sealed so that only somebody who has the ID can open it.
package seal

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
)

// block is the multiple to which plaintexts are padded: the length of a password must not
// show in the length of what is sealed.
const block = 64

// Keys is what is derived from one secret. It is safe for concurrent use.
type Keys struct {
	id      byte // says which secret sealed a session ID
	session cipher.AEAD
	record  []byte // with the session ID gives the record's key
	request []byte // authenticates request bodies
}

// New derives the keys of a secret, which has to be long enough.
func New(secret []byte) (*Keys, error) {
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
	return &Keys{derive("key id", 1)[0], aead, derive("record", 32), derive("request", 32)}, nil
}

// MAC authenticates a message in the context that key names, so that a repeated
// request can be recognised without keeping it.
func (k *Keys) MAC(key string, message []byte) []byte {
	h := hmac.New(sha256.New, k.request)
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(message)
	return h.Sum(nil)
}

// Seal seals plain for the session with this ID. [Keys.Open] opens the result for the
// same ID and the same binding only. The binding says where the result is kept, so that
// an attacker who can write to the database cannot put one sealed value in the place of
// another. Seal overwrites the memory of plain.
func (k *Keys) Seal(id string, plain, binding []byte) []byte {
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+block+chacha20poly1305.Overhead)
	_, _ = rand.Read(nonce) // never fails
	return k.recordAEAD(id).Seal(nonce, nonce, pad(plain, 0), binding)
}

// Open opens what [Keys.Seal] has sealed. The error says nothing of its content.
func (k *Keys) Open(id string, sealed, binding []byte) ([]byte, error) {
	if len(sealed) < chacha20poly1305.NonceSizeX {
		return nil, errDamaged
	}
	nonce, sealed := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
	padded, err := k.recordAEAD(id).Open(nil, nonce, sealed, binding)
	if err != nil {
		return nil, err
	}
	plain, ok := unpad(padded)
	if !ok {
		return nil, errDamaged
	}
	return plain, nil
}

var errDamaged = errors.New("seal: the sealed data is damaged")

// recordAEAD returns the key that seals the record of the session with this ID.
// A new nonce is drawn for every sealing, and 24 bytes of it never repeat.
func (k *Keys) recordAEAD(id string) cipher.AEAD {
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
