package uia

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
	"github.com/matrix-uia/uia/internal/flow"
)

// Error is an answer in the standard error format (Client-Server API, "Standard error
// response"). An operation, a Check or a Stage returns one to say what the client gets.
// For any other error the client gets a 500 without details.
//
// Returned by an operation it also says that the operation did not take effect.
// Returned by a Stage with status 401 it says that the attempt failed and may be
// repeated.
type Error struct {
	Status           int // the HTTP status
	spec.MatrixError     // errcode and error, as the client sees them
	// RetryAfter, if not zero, is sent as retry_after_ms and in the header Retry-After.
	RetryAfter time.Duration
	// Cause is never sent. With a status of 500 or above it is logged. Nil if there
	// is none.
	Cause error

	logged  bool // the Cause has been logged
	noFlows bool // it is sent with "flows": []
}

// NewError makes an *Error, for example
//
//	uia.NewError(400, spec.UserInUse("That username is taken."))
func NewError(status int, m spec.MatrixError) error {
	return &Error{Status: status, MatrixError: m}
}

// Error returns the whole error, the cause included: it is for logs.
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
	// ErrCode and Message say why the last attempt failed. They are empty if no attempt
	// has failed, and then neither is sent, because a client may take any errcode as
	// final.
	ErrCode spec.MatrixErrorCode
	Message string
	// Extra holds the further members that a stage adds which takes several requests
	// ([Continue]).
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
		out = append(out, flow.Encode(c.Flows)...)
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
	if len(c.Completed) > 0 || c.ErrCode != "" {
		completed, _ := json.Marshal(append([]string{}, c.Completed...)) // never null
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

// Continue is returned by the Attempt of a stage that takes several requests:
// the attempt has neither passed nor failed, and the client is sent the challenge
// again with these further members (Client-Server API: "Individual stages may
// require more than one request to complete").
type Continue struct {
	Extra map[string]json.RawMessage
}

// Error says that the stage is not done yet.
func (*Continue) Error() string { return "uia: the stage needs another request" }

// answer returns what a client is sent for an error that report has returned.
func answer(err error) (status int, header http.Header, body any) {
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
