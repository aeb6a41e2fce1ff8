package admin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/keyring"
)

const (
	defaultLimit = 1000 // what tools that know no pages get at most
	maxLimit     = 1000
)

// newPages returns the pages that seal and open next_token. Nil secrets are made up.
func newPages(secrets uia.Secrets) *keyring.Ring[cipher.AEAD] {
	if secrets == nil {
		secrets = uia.FixedSecrets([]byte(rand.Text() + rand.Text()))
	}
	return keyring.New(keyring.Source(secrets), pageKey)
}

func pageKey(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "github.com/matrix-uia/uia/admin pages", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal makes the next_token of a list: where its next page begins. It is good for
// this list alone.
func (h *handler) seal(r *request, list string, cursor any) (string, error) {
	plain, err := json.Marshal(cursor)
	if err != nil {
		return "", err
	}
	keys, err := h.pages.Keys(r.Context(), r.now)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(keys[0].Seal(nil, nil, plain, []byte(list))), nil
}

// open reads the from of a list.
func (h *handler) open(r *request, list, from string, cursor any) error {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(from)
	if err != nil {
		return errFrom
	}
	keys, err := h.pages.Keys(r.Context(), r.now)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if plain, err := key.Open(nil, nil, sealed, []byte(list)); err == nil && json.Unmarshal(plain, cursor) == nil {
			return nil
		}
	}
	return errFrom
}

var errFrom = invalid("from must be the next_token of a page of the same list")

// query is the query of a request. Parameters that no method reads are ignored.
type query struct{ url.Values }

func queryOf(r *request) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, invalid("The query cannot be read")
	}
	return query{values}, nil
}

// flag reads true or false; nil if the parameter is absent.
func (q query) flag(name string) (*bool, error) {
	if !q.Has(name) {
		return nil, nil
	}
	switch q.Get(name) {
	case "true":
		return new(true), nil
	case "false":
		return new(false), nil
	}
	return nil, invalid(name + " must be true or false")
}

// limit reads how many entries a page may have. A number above the maximum is no mistake:
// the page then has the maximum.
func (q query) limit() (int, error) {
	if !q.Has("limit") {
		return defaultLimit, nil
	}
	s := q.Get("limit")
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || !digits(s) || n < 1 || n > maxInt {
		return 0, invalid("limit must be a positive integer")
	}
	return int(min(n, maxLimit)), nil
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
