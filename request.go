package uia

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
)

var (
	errNotJSON    = NewError(http.StatusBadRequest, spec.NotJSON("The request body is not valid JSON."))
	errDuplicate  = NewError(http.StatusBadRequest, spec.BadJSON("An object has two members of the same name."))
	errTooDeep    = NewError(http.StatusBadRequest, spec.BadJSON("The request body is nested too deeply."))
	errTooMany    = NewError(http.StatusBadRequest, spec.BadJSON("The request body has too many members."))
	errBadAuth    = NewError(http.StatusBadRequest, spec.BadJSON("The member auth is not an object."))
	errBadType    = NewError(http.StatusBadRequest, spec.BadJSON("The member type of auth is not a string."))
	errBadSession = NewError(http.StatusBadRequest, spec.BadJSON("The member session of auth is not a string."))
)

// Request is one request to a guarded endpoint.
type Request struct {
	// Operation is the Name of the guarded operation.
	Operation string
	// Subject is the user whose access token came with the request; empty where
	// there is none, as in registration.
	Subject string
	// Target is what the path names, such as a device ID: a session for one target
	// is good for no other. At most 1024 bytes.
	Target string
	// Client is who is asking; see Config.Client.
	Client netip.Addr
	// Body is the request body. The engine does not change it.
	Body []byte
}

// hasAuth reports whether the request has an auth member that is not empty.
func (r Request) hasAuth() bool {
	body, err := readObject(r.Body)
	if err != nil {
		return false
	}
	_, object := canonical.Without(body, "auth")
	return authData{object: object}.says()
}

// Caller says which operation a request is for, and who makes it. Its fields are
// those of Request.
type Caller struct {
	Operation string
	Subject   string
	Target    string
}

// readObject brings a request body into its canonical form, so that two bodies that mean
// the same have the same digest.
func readObject(body []byte) ([]byte, error) {
	object, err := canonical.Object(body)
	switch {
	case err == nil:
		return object, nil
	case errors.Is(err, canonical.ErrNotObject):
		return nil, errNotObject
	case errors.Is(err, canonical.ErrDuplicate):
		return nil, errDuplicate
	case errors.Is(err, canonical.ErrDepth):
		return nil, errTooDeep
	case errors.Is(err, canonical.ErrMembers):
		return nil, errTooMany
	}
	return nil, errNotJSON
}

// authData is what the engine itself reads of the auth member.
type authData struct {
	object  json.RawMessage // the whole of it; nil if absent or null
	typ     string
	session string
}

// says reports whether the auth member is more than null or an empty object.
func (a authData) says() bool { return len(a.object) > len("{}") && string(a.object) != "null" }

// splitAuth takes a request, in canonical form, apart. Null and "" count as absent.
func splitAuth(body []byte) (params []byte, auth authData, err error) {
	params, raw := canonical.Without(body, "auth")
	if raw == nil || string(raw) == "null" {
		return params, auth, nil
	}
	if raw[0] != '{' {
		return nil, auth, errBadAuth
	}
	auth.object = raw
	if _, err := decodeMember(canonical.Member(raw, "type"), "type", &auth.typ); err != nil {
		return nil, auth, errBadType
	}
	if _, err := decodeMember(canonical.Member(raw, "session"), "session", &auth.session); err != nil {
		return nil, auth, errBadSession
	}
	return params, auth, nil
}
