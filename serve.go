package uia

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/wire"
)

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
//
// Operate finds what the client asks for in Session.Params, and nowhere else: the body of
// r has been read, and a client need not repeat in its last request what it has sent
// before.
func (e *Engine) Serve(w http.ResponseWriter, r *http.Request, c Caller, operate Operate) {
	status, header, body := e.Run(r, c, operate)
	maps.Copy(w.Header(), header)
	e.WriteJSON(w, r, status, body)
}

// Run is [Engine.Serve] for a host whose handlers return their response: the status,
// further header fields, and a body that encodes with encoding/json.
func (e *Engine) Run(r *http.Request, c Caller, operate Operate) (status int, header http.Header, body any) {
	req, err := e.Request(r, c)
	if err != nil {
		return e.Answer(r.Context(), err)
	}
	response, err := e.run(r.Context(), req, operate)
	if err != nil {
		return answer(err)
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
