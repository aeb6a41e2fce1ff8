package uia

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/record"
	"github.com/matrix-uia/uia/internal/seal"
)

// Completion is a stage that was completed by other means than the client's
// request, such as a link in a mail or a single sign-on.
type Completion struct {
	Session string          // the session's ID
	Type    string          // the stage's auth type
	Result  json.RawMessage // as of Stage.Attempt; nil for none
}

var errNotAwaited = NewError(http.StatusForbidden, spec.Forbidden("The session does not wait for this stage."))
var errOver = NewError(http.StatusForbidden, spec.Forbidden("The session is finished."))

// Complete records a stage as completed: the client's next request finds it so
// (Client-Server API: "Some authentication types may be completed by means other
// than through the Matrix client"). A stage that is completed already is left as
// it is. The error is an *Error: 400 for a session that is unknown or has expired,
// 403 for one that does not wait for this stage.
func (e *Engine) Complete(ctx context.Context, c Completion) error {
	v, err := e.find(ctx, c.Session)
	switch {
	case err != nil || v.s.Has(c.Type):
	case !v.awaits(c.Type):
		err = errNotAwaited
	default:
		err = v.complete(ctx, e.stages[c.Type], c.Result, false)
	}
	return e.reportOf(ctx, v, err)
}

// Attempt attempts a stage of a session, as [Engine.Session] has returned it, with what
// [Stage.Attempt] gets: a JSON object. It does what a request of the client would do, and
// charges failures to the budget of s.Client, but it never runs the operation: only a
// request of the client does. A stage that is completed already is left as it is. Attempt
// does not change s: call [Engine.Session] again to see the session afterwards.
//
// It returns nil if the stage is completed, and a *Continue if the stage takes another
// request. Otherwise the error is a *Challenge that says why the attempt has failed, or
// an *Error: among others 400 for a session that is unknown or has expired, and 403 for
// one that does not wait for this stage.
func (e *Engine) Attempt(ctx context.Context, s *Session, authType string, auth json.RawMessage) error {
	v, err := e.find(ctx, s.ID)
	if err != nil || v.s.Has(authType) {
		return e.reportOf(ctx, v, err)
	}
	if !v.awaits(authType) {
		return errNotAwaited
	}
	v.s.Client = s.Client
	v.auth = authData{object: auth, typ: authType, session: v.s.ID}
	lost, err := v.renew(ctx)
	if err == nil {
		_, err = v.step(ctx, lost, false)
	}
	if c, ok := errors.AsType[*Challenge](err); ok && c.ErrCode == "" {
		if v.s.Has(authType) {
			return nil
		}
		return &Continue{Extra: c.Extra}
	}
	return v.report(ctx, err)
}

// Session returns the session of this ID as it is now, for hosts that want to know
// how far it is: whether it has passed the token stage before a mail is sent, for
// example. The error is an *Error: 400 if it is unknown or has expired, 403 if it
// is finished.
func (e *Engine) Session(ctx context.Context, id string) (*Session, error) {
	v, err := e.find(ctx, id)
	if err != nil {
		return nil, e.reportOf(ctx, v, err)
	}
	return v.s, nil
}

// reportOf is report for an error of find, which may have returned no visit.
func (e *Engine) reportOf(ctx context.Context, v *visit, err error) error {
	if v == nil {
		return report(ctx, e.log, err)
	}
	return v.report(ctx, err)
}

// find opens a session of which only the ID is known. With an error it also returns the
// visit, or nil if there is none yet.
func (e *Engine) find(ctx context.Context, id string) (*visit, error) {
	now := e.now()
	keys, err := e.keys(ctx, now)
	if err != nil {
		return nil, err
	}
	t, _, _, err := seal.OpenTicket(keys, id)
	if err != nil || e.operations[t.Operation] == nil {
		return nil, errUnknownSession
	}
	v := &visit{
		e: e, op: e.operations[t.Operation], data: &record.Data{}, params: []byte("{}"), body: []byte("{}"),
	}
	v.s = &Session{Operation: t.Operation, Subject: t.Subject, Target: t.Target, Params: v.params, Now: now}
	v.s.describe, v.s.anyOrder = v.op.Describe, v.op.AnyOrder
	if err := v.resume(ctx, id); errors.Is(err, errPast) {
		return v, errUnknownSession
	} else if err != nil {
		return v, err
	}
	switch {
	case v.data.Dead:
		return v, errUnknownSession
	case v.rec.State == Done:
		return v, errOver
	}
	if _, err := v.settleParams(); err != nil && err != errMissingParams {
		return v, err
	}
	v.s.running = v.rec.State == Running
	return v, nil
}
