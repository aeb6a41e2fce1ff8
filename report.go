package uia

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/wire"
)

// Answer returns what a client is sent for err, and logs once what the client does not
// get to see. It is for hosts whose handlers return their response. The body encodes with
// encoding/json. It knows a *Challenge, an *Error, a *LimitError and the errors of
// stores; any other error is a 500 without details. So is nil, because calling Answer
// without an error is a mistake of the caller. [Engine.Answer] logs where the engine
// does; log nil discards.
func Answer(ctx context.Context, log *slog.Logger, err error) (status int, header http.Header, body any) {
	return answer(report(ctx, log, err))
}

// WriteError writes what [Answer] says of err, as [WriteJSON] does: for handlers that
// have no engine. Others call [Engine.WriteError].
func WriteError(w http.ResponseWriter, r *http.Request, log *slog.Logger, err error) {
	status, header, body := Answer(r.Context(), log, err)
	maps.Copy(w.Header(), header)
	WriteJSON(w, r, log, status, body)
}

// WriteJSON writes a Matrix answer: the body as JSON, the CORS headers that the
// specification asks for on every answer, and Cache-Control: no-store. A
// json.RawMessage is written as it is. A body that does not encode is logged, and
// answered with a 500.
func WriteJSON(w http.ResponseWriter, r *http.Request, log *slog.Logger, status int, body any) {
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
	if err != nil {
		status, out = http.StatusInternalServerError, []byte(`{"errcode":"M_UNKNOWN","error":"Internal server error"}`)
		report(r.Context(), log, fmt.Errorf("the body of an answer does not encode: %w", err))
	}
	wire.WriteJSON(w, status, out)
}

// WriteError is [WriteError] for handlers around the engine: it logs where the engine
// does.
func (e *Engine) WriteError(w http.ResponseWriter, r *http.Request, err error) {
	WriteError(w, r, e.log, err)
}

// WriteJSON is [WriteJSON] for handlers around the engine.
func (e *Engine) WriteJSON(w http.ResponseWriter, r *http.Request, status int, body any) {
	WriteJSON(w, r, e.log, status, body)
}

// Answer is [Answer] for handlers around the engine.
func (e *Engine) Answer(ctx context.Context, err error) (status int, header http.Header, body any) {
	return Answer(ctx, e.log, err)
}

// report returns what the client may see of err, as an *Error or a *Challenge. It logs
// the rest, unless that has been logged already; attrs describe the request in the log. A
// nil error stays nil.
func report(ctx context.Context, log *slog.Logger, err error, attrs ...any) error {
	if err == nil {
		return nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if c, ok := errors.AsType[*Challenge](err); ok {
		return c
	}
	if open, ok := errors.AsType[*undecided](err); ok {
		out := *open.answer
		if out.Cause != nil && !out.logged {
			log.WarnContext(ctx, "uia: an operation is undecided", append(attrs, "error", out.Cause)...)
			out.logged = true
		}
		return &out
	}
	if known, ok := errors.AsType[*Error](err); ok {
		if known.Status < 500 || known.Cause == nil || known.logged {
			return known
		}
		log.ErrorContext(ctx, "uia: request failed", append(attrs, "status", known.Status, "error", err)...)
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
	log.ErrorContext(ctx, "uia: request failed", append(attrs, "error", err)...)
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

// Refuse returns what the client of this request may see of err, as an *Error or a
// *Challenge for [Answer], and logs the rest. It is for requests that a host refuses by
// itself before it calls Authenticate. A nil error stays nil.
func (e *Engine) Refuse(ctx context.Context, r Request, err error) error {
	return stopping(report(ctx, e.log, err, "operation", r.Operation), r.hasAuth)
}

// stopping adds an empty list of flows to the error if the request has an auth member.
// matrix-js-sdk repeats a refused dummy stage without a pause and for ever, whatever the
// status, unless the error says that there is no flow to go on with.
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

// stageFailed makes the event of a refused attempt. The event has the cause only where it
// is an error of a store: a stage of the host may put secrets into its own errors.
func stageFailed(s *Session, stage string, refusal *Error) Event {
	ev := Event{
		Kind: EventStageFailed, Operation: operationOf(s.Key), Session: s.Key, Stage: stage,
		Client: s.Client, ErrCode: refusal.ErrCode,
	}
	ev.Reason, _ = storeReason(refusal)
	return ev
}

// storeReason returns the reason that a store gives for a token that cannot be used; ok
// is false if the error has no such reason.
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
