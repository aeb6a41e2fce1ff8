package uia

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/wire"
)

// Why a challenge is sent once more. They have status 401 and end in challenges.
var (
	errLostStage = &Error{Status: http.StatusUnauthorized, MatrixError: spec.MatrixError{
		ErrCode: wire.CodeUnauthorized, Err: "A completed stage does not hold any more and must be repeated.",
	}}
	errFinished = &Error{Status: http.StatusUnauthorized, MatrixError: spec.Forbidden("The session is finished. Its result cannot be told again.")}
)

var errBusy = &Error{
	Status:      http.StatusServiceUnavailable,
	MatrixError: spec.Unknown("Another request of this session is being processed."),
	RetryAfter:  5 * time.Second,
}

// replayWindow is how long a finished session still answers the request that
// finished it.
const replayWindow = 5 * time.Minute

// pass says that the operation may run for the request, or that the session has its
// response already.
type pass struct {
	response json.RawMessage // nil unless the session is finished
}

// refuse is report for the answer to this request. Any error other than a challenge is
// marked so that it stops clients which would otherwise repeat the request; see stopping.
func (v *visit) refuse(ctx context.Context, err error) error {
	return stopping(v.report(ctx, err), v.auth.says)
}

// report calls the function report with the attributes of this request.
func (v *visit) report(ctx context.Context, err error) error {
	if _, asked := err.(*Challenge); asked || err == nil {
		return err // there is nothing to log: a first leg makes no attributes
	}
	attrs := []any{"operation", v.s.Operation}
	if v.s.Key != "" {
		attrs = append(attrs, "session", v.s.Key)
	}
	return report(ctx, v.e.log, err, attrs...)
}

func (v *visit) authenticate(ctx context.Context) (*pass, error) {
	if v.auth.session == "" {
		if err := v.start(ctx); err != nil {
			return nil, err
		}
		return v.step(ctx, nil, true)
	}
	err := v.resume(ctx, v.auth.session)
	if errors.Is(err, errPast) {
		if err = v.restart(ctx); err == nil {
			return v.step(ctx, nil, true)
		}
	}
	if err != nil {
		return nil, err
	}
	return v.proceed(ctx)
}

// resume opens the session that the request names, and its record. It returns errPast if
// the session's time is over, unless its operation runs, may have run, or has run and its
// response is still sent to repeated requests.
func (v *visit) resume(ctx context.Context, id string) error {
	err := v.unseal(ctx, id)
	past := errors.Is(err, errPast)
	if err != nil && !past {
		return err
	}
	if err := v.loadRecord(ctx); err != nil {
		return err
	}
	if past && v.rec.State != Running && !v.data.Doubt && !v.replayable() {
		return errPast
	}
	return nil
}

// replayable reports whether the session is finished and its response is still sent to
// repeated requests.
func (v *visit) replayable() bool {
	return v.rec.State == Done && v.data.Response != nil &&
		v.s.Now.UnixMilli()-v.data.Finished < replayWindow.Milliseconds()
}

// replay answers a request to a finished session: the client for which the operation
// has run gets the response, everybody else the completed stages (Client-Server API,
// "User-interactive API in the REST API": "servers must return either a 401 response
// with the completed stages, or the result of the API call").
func (v *visit) replay(ctx context.Context) (*pass, error) {
	switch same := v.sameClient(); {
	case v.data.Dead:
		return nil, errUnknownSession
	case same && v.replayable():
		return &pass{v.data.Response}, nil
	case same || !v.poll():
		return nil, v.challenge(ctx, errFinished)
	}
	return nil, v.challenge(ctx, nil)
}

// proceed handles a request of a session that exists.
func (v *visit) proceed(ctx context.Context) (*pass, error) {
	for range maxConflicts {
		if v.rec.State == Done || v.running() {
			return v.step(ctx, nil, true)
		}
		known, err := v.settleParams()
		if err == nil && !(known && v.poll()) {
			if err = v.check(ctx, known); err != nil {
				err = v.refusal(ctx, err)
			}
		}
		if err == errChanged {
			continue
		}
		if err != nil {
			return nil, err
		}
		gone, err := v.renew(ctx)
		if err != nil {
			return nil, err
		}
		return v.step(ctx, gone, true)
	}
	return nil, errBusy
}

// errChanged says that another request has changed the session meanwhile.
var errChanged = errors.New("uia: the session has changed")

// refusal returns the error for a request that check has refused: why, or errChanged if
// another request has changed the session, because that request may just have made the
// account.
func (v *visit) refusal(ctx context.Context, why error) error {
	changed, err := v.changed(ctx)
	switch {
	case err != nil:
		return err
	case changed:
		return errChanged
	case !v.inDoubt():
		v.loosenAll(ctx)
	}
	return why
}

// check calls the Check and the Admit of the operation. It calls neither in a session
// whose operation runs, is done or may be done: Check would find the username in use, by
// the account that was just made. Admit is called if the completed stages have not seen
// these parameters yet.
func (v *visit) check(ctx context.Context, known bool) error {
	if v.inDoubt() {
		return nil
	}
	if v.op.Check != nil {
		if err := v.op.Check(ctx, v.s); err != nil {
			return err
		}
	}
	if v.op.Admit != nil && !known && len(v.s.Completed) > 0 {
		return v.op.Admit(ctx, v.s)
	}
	return nil
}

// move is what a request does next in its session.
type move int

const (
	askMove     move = iota // the client gets the challenge with the completed stages
	refuseMove              // its stage cannot be attempted now
	attemptMove             // its stage is attempted
	replayMove              // the session is finished
	waitMove                // the operation runs for another request of the same client
	runMove                 // the operation runs for this request
)

// next decides what the request does next. Unless mayRun is set, the request neither runs
// the operation nor gets its response.
func (v *visit) next(mayRun bool) move {
	typ := v.auth.typ
	if typ != "" && !v.s.Has(typ) {
		if v.awaits(typ) {
			return attemptMove
		}
		if v.rec.State == Done {
			return replayMove
		}
		return refuseMove
	}
	switch {
	case !mayRun:
		return askMove
	case v.rec.State == Done:
		return replayMove
	case v.running():
		if v.sameClient() {
			return waitMove
		}
		return askMove
	case flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder) && v.mayRun():
		return runMove
	}
	return askMove
}

// step attempts the stage that the request is for, if it is one that can be
// attempted, and says what comes next. With mayRun a completed flow ends in a pass,
// otherwise in the challenge like any other step. gone is why an earlier stage does
// not hold any more; nil if all do.
func (v *visit) step(ctx context.Context, gone *Error, mayRun bool) (*pass, error) {
	for range maxConflicts {
		switch v.next(mayRun) {
		case askMove:
			return nil, v.challenge(ctx, gone)
		case refuseMove:
			return nil, v.challenge(ctx, v.outOfOrder(gone))
		case replayMove:
			return v.replay(ctx)
		case waitMove:
			return &pass{}, nil
		case runMove:
			err := v.takeLease(ctx)
			if err == nil {
				return &pass{}, nil
			}
			if !errors.Is(err, ErrConflict) {
				return nil, err
			}
			if err := v.loadRecord(ctx); err != nil {
				return nil, err
			}
		case attemptMove:
			if err := v.attempt(ctx, v.e.stages[v.auth.typ], mayRun); err != nil {
				return nil, err
			}
			if v.owned {
				return &pass{}, nil
			}
			gone = nil
		}
		if err := v.resettle(); err != nil {
			return nil, err
		}
	}
	return nil, errBusy
}

// outOfOrder says why the stage of this request cannot be attempted: it names the one
// that comes first. In a fresh session it returns nil: the client's session was over, and
// the challenge of the new one shows where to start again.
func (v *visit) outOfOrder(gone *Error) *Error {
	switch {
	case gone != nil:
		return gone
	case v.fresh:
		return nil
	}
	text := "This stage cannot be completed now."
	if missing := flow.Next(v.s.Flows, v.s.Completed, v.op.AnyOrder); len(missing) > 0 {
		text = "This stage cannot be completed now: " + missing[0] + " has to be completed first."
	}
	return &Error{Status: http.StatusUnauthorized, MatrixError: spec.Forbidden(text)}
}
