package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// find returns the token that the path names.
func (h *handler) find(r *request) (uia.Token, error) {
	if !uia.ValidTokenValue(r.token) {
		return uia.Token{}, told(uia.ErrNotFound) // a database never sees such a value, which may contain anything
	}
	t, err := h.store.Token(r.Context(), r.token, r.now)
	return t, told(err)
}

func (h *handler) show(r *request) (any, error) {
	t, err := h.find(r)
	if err != nil {
		return nil, err
	}
	return h.record(t, r.now), nil
}

func (h *handler) qr(r *request) (any, error) {
	if h.opts.QR == nil || h.opts.InviteURL == "" {
		return nil, uia.NewError(http.StatusNotFound, spec.Unrecognized("There are no invite links here"))
	}
	t, err := h.find(r)
	if err != nil {
		return nil, err
	}
	image, err := h.opts.QR(h.invite(t.Value))
	return png(image), err
}

func (h *handler) remove(r *request) (any, error) {
	if !uia.ValidTokenValue(r.token) {
		return nil, told(uia.ErrNotFound)
	}
	if err := h.store.DeleteToken(r.Context(), r.token); err != nil {
		return nil, told(err)
	}
	h.observe(r.Context(), uia.Event{Kind: uia.EventTokenDeleted, Token: uia.Fingerprint(r.token), By: r.by})
	return struct{}{}, nil
}

// update changes the fields that the body names. Web interfaces send the whole record
// back, in which the members that the operator has not changed are as they were.
func (h *handler) update(r *request) (any, error) {
	body, err := readObject(r.Request)
	if err != nil {
		return nil, err
	}
	before, err := h.find(r)
	if err != nil {
		return nil, err
	}
	p, err := h.patchOf(body, before, r.now)
	if err != nil {
		return nil, err
	}
	if p == (uia.TokenPatch{}) {
		return h.record(before, r.now), nil
	}
	t, err := h.store.UpdateToken(r.Context(), r.token, p, r.now)
	if err != nil {
		return nil, told(err)
	}
	fingerprint := uia.Fingerprint(t.Value)
	if t.Revoked && !before.Revoked {
		h.observe(r.Context(), uia.Event{Kind: uia.EventTokenRevoked, Token: fingerprint, By: r.by})
		p.Revoked = nil
	}
	if p != (uia.TokenPatch{}) {
		h.observe(r.Context(), uia.Event{Kind: uia.EventTokenUpdated, Token: fingerprint, By: r.by, UsesAllowed: t.UsesAllowed, Expires: t.Expires})
	}
	return h.record(t, r.now), nil
}

// patchOf reads a PUT. A member that is absent leaves the token's as it is, and so does
// one that has the value that the token has already: an expiry that has passed cannot be
// set, but can be sent back. Null means any number of uses, no expiry, or no meta; for
// other members null counts as absent. A whole record that is sent back is older than the
// moment at which somebody revoked the token.
func (h *handler) patchOf(body object, before uia.Token, now time.Time) (uia.TokenPatch, error) {
	var p uia.TokenPatch
	err := errors.Join(
		patch(&p.UsesAllowed, body.has("uses_allowed"), func() (*int64, bool, error) {
			n, err := body.integer("uses_allowed", 0, maxInt)
			return n, same(n, before.UsesAllowed), err
		}),
		patch(&p.Expires, body.has("expiry_time"), func() (time.Time, bool, error) {
			n, err := body.integer("expiry_time", 0, maxInt)
			if err != nil || same(n, milliseconds(before.Expires)) {
				return time.Time{}, true, err
			}
			t, err := expiry(n, now)
			return t, false, err
		}),
		patch(&p.Revoked, body.given("revoked"), func() (bool, bool, error) {
			revoked, err := body.flag("revoked")
			return revoked, revoked == before.Revoked || !revoked && body.isRecord(), err
		}),
		patch(&p.Label, body.has("label"), func() (string, bool, error) {
			label, err := body.label()
			return label, label == before.Label, err
		}),
		patch(&p.Meta, body.has("meta") && !bytes.Equal(body["meta"], before.Meta), func() (json.RawMessage, bool, error) {
			meta, err := h.meta(body)
			return meta, bytes.Equal(meta, before.Meta), err
		}),
	)
	return p, err
}

// patch sets one field of a patch to what read returns, if the body has it and it is
// not what the token has already.
func patch[T any](field **T, there bool, read func() (value T, kept bool, err error)) error {
	if !there {
		return nil
	}
	value, kept, err := read()
	if err == nil && !kept {
		*field = &value
	}
	return err
}

func same(a, b *int64) bool { return a == b || a != nil && b != nil && *a == *b }

// expiry returns the time, zero for nil. One that has passed is refused, and so is one
// that tools cannot show.
func expiry(n *int64, now time.Time) (time.Time, error) {
	if n == nil {
		return time.Time{}, nil
	}
	t := time.UnixMilli(*n).UTC()
	switch {
	case !now.Before(t) && now.Before(time.Unix(*n, 0)):
		return time.Time{}, invalid("expiry_time is in milliseconds, and this looks like seconds")
	case !now.Before(t):
		return time.Time{}, invalid("expiry_time, which is in milliseconds since 1970, must not be in the past")
	case *n > maxTime:
		return time.Time{}, invalid("expiry_time must be in the year 9999 at the latest")
	}
	return t, nil
}
