package uia

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"

	"golang.org/x/crypto/chacha20poly1305"
)

// OpenRecord opens a record as whoever has the secret and this session ID would.
func OpenRecord(secret []byte, id string, r Record) ([]byte, error) {
	k, err := newKeys(secret)
	if err != nil {
		return nil, err
	}
	data, err := k.openRecord(id, r)
	if err != nil {
		return nil, err
	}
	return append(bytes.Clone(data.Params), data.Response...), nil
}

// OpensWith reports whether a key opens the record, under what binds it to its
// place or under nothing.
func OpensWith(key []byte, r Record) bool {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return false
	}
	n := chacha20poly1305.NonceSizeX
	for _, binding := range [][]byte{nil, []byte(r.Key), recordBinding(&r, r.Revision)} {
		if _, err := aead.Open(nil, r.Data[:n], r.Data[n:], binding); err == nil {
			return true
		}
	}
	return false
}

// RecordKey derives what seals the record of a session.
func RecordKey(secret []byte, id string) []byte {
	k, err := newKeys(secret)
	if err != nil {
		panic(err)
	}
	key, err := hkdf.Key(sha256.New, k.record, []byte(id), "uia/1 record data", chacha20poly1305.KeySize)
	if err != nil {
		panic(err)
	}
	return key
}
