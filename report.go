package uia

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/wire"
)

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
		out := *open.told
		if out.Cause != nil && !out.logged {
			e.log.WarnContext(ctx, "uia: an operation is undecided", "error", out.Cause)
			out.logged = true
		}
		return &out
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

// Refuse returns what the client of this request is told of err, as an *Error or a
// *Challenge for [Answer], and logs what it is not told. It is for what a host refuses
// by itself before it calls Authenticate. Nil stays nil.
func (e *Engine) Refuse(ctx context.Context, r Request, err error) error {
	if err == nil {
		return nil
	}
	return stopping(e.told(ctx, err), r.hasAuth)
}

// stopping returns the error as it answers a request that has an auth member or not. matrix-js-sdk repeats a
// refused dummy stage without a pause and for ever, whatever the status, unless the
// error says that there is no flow to go on with.
func stopping(err error, hasAuth func() bool) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status == http.StatusUnauthorized || !hasAuth() {
		return err
	}
	out := *e
	out.noFlows = true
	return &out
}

// useEvent makes the event of something that a stage has set aside.
func useEvent(kind EventKind, stage string, c TxClaim) Event {
	return Event{Kind: kind, Token: heldToken(c.Result), Operation: operationOf(c.Key), Session: c.Key, Stage: stage}
}

// stageFailed makes the event of a refused attempt. Of its cause only what a store
// says is reported: a stage of the host may put anything into an error.
func stageFailed(s *Session, stage string, refusal *Error) Event {
	ev := Event{
		Kind: EventStageFailed, Operation: operationOf(s.Key), Session: s.Key, Stage: stage,
		Client: s.Client, ErrCode: refusal.ErrCode,
	}
	ev.Reason, _ = storeReason(refusal)
	return ev
}

// storeReason returns what a store says of a token that is not to be had, and false if
// the error is another one.
func storeReason(err error) (reason string, ok bool) {
	for _, reason := range [...]error{ErrNotFound, ErrRevoked, ErrExpired, ErrExhausted, ErrNotHeld} {
		if errors.Is(err, reason) {
			return strings.TrimPrefix(reason.Error(), "uia: "), true
		}
	}
	return "", false
}

// charge takes a guess from the client's budget; see Limiter.
func (e *Engine) charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error) {
	if e.cfg.Limiter == nil {
		return func(bool) {}, nil
	}
	settle, err = e.cfg.Limiter.Charge(ctx, client)
	if _, hit := errors.AsType[*LimitError](err); hit {
		e.observe(ctx, Event{Kind: EventLimitHit, Client: client})
	}
	return settle, err
}
