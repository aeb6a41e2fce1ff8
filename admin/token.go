package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

// find returns the token that the path names.
func (h *handler) find(r *request) (uia.Token, error) {
	if !uia.ValidTokenValue(r.token) {
		return uia.Token{}, refusal(uia.ErrNotFound) // a database never sees such a value, which may contain anything
	}
	t, err := h.store.Token(r.Context(), r.token, r.now)
	return t, refusal(err)
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
		return nil, refusal(uia.ErrNotFound)
	}
	if err := h.store.DeleteToken(r.Context(), r.token); err != nil {
		return nil, refusal(err)
	}
	h.observe(r.Context(), uia.Event{Kind: uia.EventTokenDeleted, Token: uia.Fingerprint(r.token), By: r.by})
	return struct{}{}, nil
}

// update changes the fields that the body names. Web interfaces send the whole record
// back, in which the members that the operator has not changed are as they were.
func (h *handler) update(r *request) (any, error) {
	body, err := api.ReadObject(r.Request)
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
		return nil, refusal(err)
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
func (h *handler) patchOf(body api.Object, before uia.Token, now time.Time) (uia.TokenPatch, error) {
	var p uia.TokenPatch
	err := errors.Join(
		patch(&p.UsesAllowed, body.Has("uses_allowed"), func() (*int64, bool, error) {
			n, err := body.Integer("uses_allowed", 0, maxInt)
			return n, same(n, before.UsesAllowed), err
		}),
		patch(&p.Expires, body.Has("expiry_time"), func() (time.Time, bool, error) {
			n, err := body.Integer("expiry_time", 0, maxInt)
			if err != nil || same(n, api.Milliseconds(before.Expires)) {
				return time.Time{}, true, err
			}
			t, err := api.Expiry(n, now)
			return t, false, err
		}),
		patch(&p.Revoked, body.Given("revoked"), func() (bool, bool, error) {
			revoked, err := body.Flag("revoked")
			return revoked, revoked == before.Revoked || !revoked && isRecord(body), err
		}),
		patch(&p.Label, body.Has("label"), func() (string, bool, error) {
			label, err := body.Label()
			return label, label == before.Label, err
		}),
		patch(&p.Meta, body.Has("meta") && !bytes.Equal(body["meta"], before.Meta), func() (json.RawMessage, bool, error) {
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
