package hs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"

	"github.com/matrix-uia/uia"
)

// uploadSigningKeys publishes the keys that sign a user's devices. The first ones need
// no authentication, since Matrix 1.11 (MSC3967): a client uploads them right after the
// registration, and nobody has verified others that they could replace. Nor do those
// need any that are there already.
func (s *Server) uploadSigningKeys() http.HandlerFunc {
	replace := s.guarded(opSigningKeys, nil, s.replaceSigningKeys)
	return func(w http.ResponseWriter, r *http.Request) {
		added, err := s.addSigningKeys(r)
		switch {
		case err != nil:
			s.writeError(w, r, err)
		case added:
			s.engine.WriteJSON(w, r, http.StatusOK, struct{}{})
		default:
			replace(w, r)
		}
	}
}

// addSigningKeys publishes the keys in the request's body if that needs no
// authentication, and otherwise leaves the body to be read again.
func (s *Server) addSigningKeys(r *http.Request) (added bool, err error) {
	caller, err := s.caller(r)
	if err != nil {
		return false, err
	}
	req, err := s.engine.Request(r, uia.Caller{})
	if err != nil {
		return false, err
	}
	r.Body = io.NopCloser(bytes.NewReader(req.Body))
	var keys SigningKeys
	if json.Unmarshal(req.Body, &keys) != nil || keys.empty() {
		return false, nil // the engine says what is wrong with it
	}
	err = s.accounts.AddSigningKeys(r.Context(), caller.Localpart, keys)
	if errors.Is(err, ErrTaken) {
		return false, nil
	}
	return err == nil, err
}

// replaceSigningKeys publishes keys in the place of others.
func (s *Server) replaceSigningKeys(ctx context.Context, caller Device, session *uia.Session) error {
	keys, err := parameters[SigningKeys](session)
	if err != nil {
		return err
	}
	return s.accounts.SetSigningKeys(ctx, caller.Localpart, keys)
}

// SigningKeys are the cross-signing keys of a user, as uploaded; nil means none.
type SigningKeys struct {
	Master json.RawMessage `json:"master_key,omitempty"`
	Self   json.RawMessage `json:"self_signing_key,omitempty"`
	User   json.RawMessage `json:"user_signing_key,omitempty"`
}

func (k SigningKeys) each() []json.RawMessage { return []json.RawMessage{k.Master, k.Self, k.User} }

func given(key json.RawMessage) bool { return key != nil && string(key) != "null" }

func (k SigningKeys) empty() bool { return !given(k.Master) && !given(k.Self) && !given(k.User) }

// with returns k with those keys replaced that are given in keys.
func (k SigningKeys) with(keys SigningKeys) SigningKeys {
	for i, old := range []*json.RawMessage{&k.Master, &k.Self, &k.User} {
		if next := keys.each()[i]; given(next) {
			*old = bytes.Clone(next)
		}
	}
	return k
}

// admits reports whether the keys can be added to k without authentication: they are
// the first ones, among them the master key that the others depend on, or are all in
// k already.
func (k SigningKeys) admits(keys SigningKeys) bool {
	if !given(k.Master) && given(keys.Master) {
		return true
	}
	for i, next := range keys.each() {
		if given(next) && !sameJSON(k.each()[i], next) {
			return false
		}
	}
	return true
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
