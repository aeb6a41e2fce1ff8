package uia

import (
	"context"
	"encoding/json"
	"io"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

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
	tooLarge := NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: CodeTooLarge, Err: "The request body is too large."})
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
func (e *Engine) Serve(w http.ResponseWriter, r *http.Request, c Caller, run func(context.Context, *Session) (Result, error)) {
	req, err := e.Request(r, c)
	var body json.RawMessage
	if err == nil {
		var g *Grant
		if g, err = e.Authenticate(r.Context(), req); err == nil {
			body, err = g.Finish(r.Context(), run)
		}
	}
	if err != nil {
		WriteError(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, body)
}
