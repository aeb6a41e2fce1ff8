package uia

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
	"github.com/matrix-uia/uia/internal/wire"
)

// Error is an answer in the standard error format (Client-Server API, "Standard
// error response"). An operation, a Check or a Stage returns one to say what
// the client is told; any other error is told as a 500 that says nothing.
//
// Returned by an operation it also says that the operation did not take effect.
// Returned by a Stage with status 401 it says that the attempt failed and may be
// repeated.
type Error struct {
	Status           int // the HTTP status
	spec.MatrixError     // errcode and error, as the client sees them
	// RetryAfter, if not zero, is told as retry_after_ms and in Retry-After.
	RetryAfter time.Duration
	// Cause is never sent. With a status of 500 or above it is logged. Nil if there
	// is none.
	Cause error

	logged  bool // the Cause has been logged
	noFlows bool // it is told with "flows": []
}

// NewError makes an *Error, for example
//
//	uia.NewError(400, spec.UserInUse("That username is taken."))
func NewError(status int, m spec.MatrixError) error {
	return &Error{Status: status, MatrixError: m}
}

// Error tells all of it, the cause included: it is for logs.
func (e *Error) Error() string {
	s := fmt.Sprintf("%d %s: %s", e.Status, e.ErrCode, e.Err)
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// MarshalJSON encodes what the client sees of the error.
func (e *Error) MarshalJSON() ([]byte, error) {
	var flows *[]Flow
	if e.noFlows {
		flows = &[]Flow{}
	}
	return json.Marshal(struct {
		spec.MatrixError
		RetryAfter int64   `json:"retry_after_ms,omitempty"`
		Flows      *[]Flow `json:"flows,omitempty"`
	}{e.MatrixError, int64((e.RetryAfter + time.Millisecond - 1) / time.Millisecond), flows})
}

// Challenge is the 401 answer that asks for authentication (Client-Server API,
// "User-interactive API in the REST API"). Authenticate returns it as an error.
type Challenge struct {
	Flows     []Flow
	Params    map[string]json.RawMessage // by auth type; nil means none
	Session   string
	Completed []string // auth types in the order in which they were completed
	// ErrCode and Message say why the last attempt failed. They are empty when
	// none did, and then neither is sent: a client may take any errcode as final.
	ErrCode spec.MatrixErrorCode
	Message string
	// Extra holds further members, of a stage that takes several requests.
	Extra map[string]json.RawMessage
	// Cause is as in Error.
	Cause error

	flowsJSON []byte // Flows, encoded once for all challenges of an operation
}

// Error says that authentication is required, and why the last attempt failed.
func (c *Challenge) Error() string {
	if c.ErrCode == "" {
		return "uia: authentication required"
	}
	return fmt.Sprintf("uia: authentication required: %s: %s", c.ErrCode, c.Message)
}

// Unwrap returns the cause of the failed attempt.
func (c *Challenge) Unwrap() error { return c.Cause }

// MarshalJSON encodes the challenge. Without a completed or failed stage it has
// exactly the members flows, params and session.
func (c *Challenge) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 64+len(c.flowsJSON)+len(c.Session))
	out = append(out, `{"flows":`...)
	if c.flowsJSON != nil {
		out = append(out, c.flowsJSON...)
	} else {
		out = append(out, encodeFlows(c.Flows)...)
	}
	out = append(out, `,"params":`...)
	if len(c.Params) == 0 {
		out = append(out, "{}"...)
	} else {
		params, err := json.Marshal(c.Params)
		if err != nil {
			return nil, err
		}
		out = append(out, params...)
	}
	out = append(out, `,"session":`...)
	out = canonical.AppendString(out, c.Session)
	if len(c.Completed) > 0 {
		completed, _ := json.Marshal(c.Completed)
		out = append(append(out, `,"completed":`...), completed...)
	}
	if c.ErrCode != "" {
		out = canonical.AppendString(append(out, `,"errcode":`...), string(c.ErrCode))
		out = canonical.AppendString(append(out, `,"error":`...), c.Message)
	}
	for name, value := range c.Extra {
		switch name {
		case "flows", "params", "session", "completed", "errcode", "error":
			continue // an extra member never replaces one of ours
		}
		encoded, err := json.Marshal(value) // nil is null, and what is no JSON an error
		if err != nil {
			return nil, err
		}
		out = canonical.AppendString(append(out, ','), name)
		out = append(append(out, ':'), encoded...)
	}
	return append(out, '}'), nil
}

func encodeFlows(flows []Flow) []byte {
	type stages struct {
		Stages Flow `json:"stages"`
	}
	list := make([]stages, len(flows))
	for i, f := range flows {
		list[i].Stages = f
	}
	out, _ := json.Marshal(list) // strings always encode
	return out
}

// Continue is returned by the Attempt of a stage that takes several requests:
// the attempt has neither passed nor failed, and the client is sent the challenge
// again with these further members (Client-Server API: "Individual stages may
// require more than one request to complete").
type Continue struct {
	Extra map[string]json.RawMessage
}

// Error says that the stage is not done yet.
func (*Continue) Error() string { return "uia: the stage needs another request" }

// Answer tells what a client is sent for an error of this package: for hosts
// whose handlers return their response. The body encodes with encoding/json. A
// nil error is a mistake of the caller, and answered like an unknown one: 500
// M_UNKNOWN.
func Answer(err error) (status int, header http.Header, body any) {
	header = http.Header{}
	if c, ok := errors.AsType[*Challenge](err); ok {
		return http.StatusUnauthorized, header, c
	}
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status < 400 || e.Status > 599 {
		e = internalError(err)
	}
	if e.RetryAfter > 0 {
		seconds := int64((e.RetryAfter + time.Second - 1) / time.Second)
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	return e.Status, header, e
}

func internalError(cause error) *Error {
	return &Error{Status: http.StatusInternalServerError, MatrixError: spec.Unknown("Internal server error"), Cause: cause}
}

// WriteError writes what [Answer] says of err, as [WriteJSON] does.
func WriteError(w http.ResponseWriter, err error) {
	status, header, body := Answer(err)
	maps.Copy(w.Header(), header)
	WriteJSON(w, status, body)
}

// WriteError is the function of this name for handlers around the engine: it also
// logs what the client is not told of err, and knows a *LimitError.
func (e *Engine) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	WriteError(w, e.told(r.Context(), err))
}

// Answer is the function of this name for errors of whatever kind: it also logs what
// the client is not told of err, once, and knows a *LimitError.
func (e *Engine) Answer(ctx context.Context, err error) (status int, header http.Header, body any) {
	return Answer(e.told(ctx, err))
}

// told returns what the client is told of err, as an *Error or a *Challenge, and
// logs what it is not told, unless that has been logged already.
func (e *Engine) told(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if c, ok := errors.AsType[*Challenge](err); ok {
		return c
	}
	if open, ok := errors.AsType[*undecided](err); ok {
		if open.told.Cause != nil {
			e.log.WarnContext(ctx, "uia: an operation is undecided", "error", open.told.Cause)
		}
		return open.told
	}
	if known, ok := errors.AsType[*Error](err); ok {
		if known.Status < 500 || known.Cause == nil || known.logged {
			return known
		}
		e.log.ErrorContext(ctx, "uia: request failed", "status", known.Status, "error", known.Cause)
		out := *known
		out.logged = true
		return &out
	}
	if limit, ok := errors.AsType[*LimitError](err); ok {
		return &Error{
			Status:      http.StatusTooManyRequests,
			MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "Too many failed attempts. Please try again in " + wire.InWords(limit.RetryAfter) + "."},
			RetryAfter:  limit.RetryAfter,
			Cause:       err,
		}
	}
	if gone := ctx.Err(); gone != nil && errors.Is(err, gone) { // the client hung up, and nothing else is wrong
		return &Error{Status: http.StatusServiceUnavailable, MatrixError: spec.Unknown("The request was cancelled."), Cause: err, logged: true}
	}
	e.log.ErrorContext(ctx, "uia: request failed", "error", err)
	if errors.Is(err, ErrFull) {
		return &Error{
			Status:      http.StatusTooManyRequests,
			MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "The server is busy. Please try again in a minute."},
			RetryAfter:  time.Minute,
			Cause:       err,
		}
	}
	out := internalError(err)
	out.logged = true
	return out
}

// WriteJSON writes a Matrix answer: the body as JSON, the CORS headers that the
// specification asks for on every answer, and Cache-Control: no-store. A
// json.RawMessage is written as it is.
func WriteJSON(w http.ResponseWriter, status int, body any) {
	var out []byte
	var err error
	switch b := body.(type) {
	case json.RawMessage:
		out = b
	case *Challenge: // directly: json.Marshal would parse the result once more
		out, err = b.MarshalJSON()
	default:
		out, err = json.Marshal(body)
	}
	if err != nil { // a body of the host that does not encode
		status, out = http.StatusInternalServerError, []byte(`{"errcode":"M_UNKNOWN","error":"Internal server error"}`)
	}
	wire.WriteJSON(w, status, out)
}

// Refuse returns what the client of this request is told of err, as an *Error or a
// *Challenge for [Answer], and logs what it is not told. It is for what a host refuses
// by itself before it calls Authenticate. Nil stays nil.
func (e *Engine) Refuse(ctx context.Context, r Request, err error) error {
	if err == nil {
		return nil
	}
	return stopping(r, e.told(ctx, err))
}

// told is the engine's, for this request: an error other than the challenge stops a
// client that would otherwise go on by itself.
func (v *visit) told(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return v.e.Refuse(ctx, v.request, err)
}

// stopping returns the error as it answers this request. matrix-js-sdk repeats a
// refused dummy stage without a pause and for ever, whatever the status, unless the
// error says that there is no flow to go on with.
func stopping(r Request, err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status == http.StatusUnauthorized || !r.hasAuth() {
		return err
	}
	out := *e
	out.noFlows = true
	return &out
}
