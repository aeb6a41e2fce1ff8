package uia

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/netip"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
	"github.com/matrix-uia/uia/internal/wire"
)

var (
	errNotJSON    = NewError(http.StatusBadRequest, spec.NotJSON("The request body is not valid JSON."))
	errDuplicate  = NewError(http.StatusBadRequest, spec.BadJSON("An object has two members of the same name."))
	errTooDeep    = NewError(http.StatusBadRequest, spec.BadJSON("The request body is nested too deeply."))
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

// hasAuth reports whether the request has an auth member that says something.
func (r Request) hasAuth() bool {
	body, err := readObject(r.Body)
	if err != nil {
		return false
	}
	_, auth := canonical.Without(body, "auth")
	return len(auth) > len("{}") && string(auth) != "null"
}

// Caller says which operation a request is for, and who makes it. Its fields are
// those of Request.
type Caller struct {
	Operation string
	Subject   string
	Target    string
}

// Request reads an HTTP request, at most Config.MaxBody bytes of it. Its
// Content-Type does not matter.
func (e *Engine) Request(r *http.Request, c Caller) (Request, error) {
	out := Request{Operation: c.Operation, Subject: c.Subject, Target: c.Target}
	if e.cfg.Client != nil {
		out.Client = e.cfg.Client(r)
	}
	if r.Body == nil {
		return out, nil
	}
	tooLarge := NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: wire.CodeTooLarge, Err: "The request body is too large."})
	if r.ContentLength > e.cfg.MaxBody {
		return out, tooLarge
	}
	var err error
	if r.ContentLength > 0 {
		out.Body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, out.Body)
	} else {
		out.Body, err = io.ReadAll(io.LimitReader(r.Body, e.cfg.MaxBody+1))
	}
	if err != nil {
		return out, &Error{Status: http.StatusBadRequest, MatrixError: spec.NotJSON("The request body could not be read."), Cause: err}
	}
	if int64(len(out.Body)) > e.cfg.MaxBody {
		return out, tooLarge
	}
	return out, nil
}

// Serve guards an endpoint: it reads the request, authenticates it, runs the
// operation as [Grant.Finish] does, and writes the answer.
func (e *Engine) Serve(w http.ResponseWriter, r *http.Request, c Caller, operate Operate) {
	status, header, body := e.Run(r, c, operate)
	maps.Copy(w.Header(), header)
	WriteJSON(w, status, body)
}

// Run is [Engine.Serve] for a host whose handlers return their response: the status,
// further header fields, and a body that encodes with encoding/json.
func (e *Engine) Run(r *http.Request, c Caller, operate Operate) (status int, header http.Header, body any) {
	req, err := e.Request(r, c)
	if err != nil {
		return Answer(e.told(r.Context(), err))
	}
	response, err := e.run(r.Context(), req, operate)
	if err != nil {
		return Answer(err)
	}
	return http.StatusOK, http.Header{}, response
}

func (e *Engine) run(ctx context.Context, r Request, operate Operate) (json.RawMessage, error) {
	g, err := e.Authenticate(ctx, r)
	if err != nil {
		return nil, err
	}
	return g.Finish(ctx, operate)
}

// readObject brings a request body into its canonical form when it comes in: two
// bodies that mean the same then have the same digest.
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
	}
	return nil, errNotJSON
}

// authData is what the engine itself reads of the auth member.
type authData struct {
	object  json.RawMessage // the whole of it; nil if absent or null
	typ     string
	session string
}

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
