package register

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// appService reports whether a request is an application service's, which registers one
// of its own users and is authenticated by its access token alone.
func appService(body []byte) bool {
	var typ string
	if bytes.Contains(body, []byte("m.login.application_service")) {
		_, _ = uia.Field(body, "type", &typ) // a type that is no string counts as absent
	}
	return typ == "m.login.application_service"
}

// kind returns the handler of a request that is for no ordinary account: nil if
// it is for one. The kind of account stands in the query, and some clients put it
// into the body.
func (reg *Registration) kind(r *http.Request, body []byte) (http.Handler, error) {
	kind := r.URL.Query().Get("kind") // a part of the query that cannot be decoded counts as absent
	// Most bodies have no such member and are not parsed here. One that hides the name
	// behind escapes is treated as an ordinary registration, which is stricter.
	if kind == "" && bytes.Contains(body, []byte(`"kind"`)) && json.Valid(body) {
		if _, err := uia.Field(body, "kind", &kind); err != nil {
			return nil, err
		}
	}
	switch {
	case kind == "guest" && reg.Guest != nil:
		return reg.Guest, nil
	case kind == "guest":
		return nil, refuse(http.StatusForbidden, spec.ErrorGuestAccessForbidden, "Guest access is not enabled on this homeserver.")
	case kind != "" && kind != "user":
		return nil, refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The kind of account is unknown.")
	}
	return nil, nil
}

func restoreBody(r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
}
