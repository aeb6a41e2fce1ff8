package uia

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Effect is what an operation has done.
type Effect struct {
	// UserID is the account that the operation was for. Required if a stage set
	// something aside and the session has no Subject: it is whom a token's use is
	// booked to.
	UserID string
	// Body is the response, encoded with encoding/json; nil means {}.
	Body any
	// After is called once what the operation has done is certain: with Operation.Tx
	// after the commit. It is called at most once for each run that took effect, in
	// the process that ran it, before the client is answered; not after a crash. Its
	// context ends after 15 seconds. Nil for nothing.
	After func(context.Context)
}

// Operate is a guarded operation. It returns an *Error if it did not take effect
// and never will: the client is told, the session stays complete and the client
// may try again. Any other error means that it may have taken effect; the client
// gets a 500, or what [Undecided] says, what the stages set aside stays in doubt, and
// either another request of the session runs the operation again or Recover asks
// Resolve.
//
// It must take effect at most once for each Session.Key, by a unique index on what
// it makes: a second run under a key that has succeeded returns what the first one
// made. With Operation.Tx no index is needed. Its context ends before the lease
// does, and is not cancelled when the client hangs up.
type Operate = func(ctx context.Context, s *Session) (Effect, error)

// Undecided returns the error of an operation that does not know yet whether it has
// taken effect: the client is told this error, with its RetryAfter, and what the
// stages set aside stays in doubt. A status of 429 or 503 fits. The client's next
// request runs the operation again.
func Undecided(told *Error) error { return &undecided{told} }

type undecided struct{ told *Error }

func (u *undecided) Error() string { return "uia: undecided: " + u.told.Error() }

// Unwrap leaves the *Error out: that would say that the operation did not take effect.
func (u *undecided) Unwrap() error { return u.told.Cause }

// NotMade returns the error of an operation that has seen to it by itself that no
// earlier run of its session took effect, nor ever will: by a row that a run with a
// lower Session.Run may not change, for example. The client is told this error, the
// session leaves its doubt behind, and the client may try again with other
// parameters. A plain *Error in a session that is in doubt asks Resolve instead, and
// if that says that nothing happened the session is over.
func NotMade(told *Error) error { return &notMade{told} }

type notMade struct{ told *Error }

func (n *notMade) Error() string { return n.told.Error() }
func (n *notMade) Unwrap() error { return n.told }

var errBusy = &Error{
	Status:      http.StatusServiceUnavailable,
	MatrixError: spec.Unknown("Another request of this session is being processed."),
	RetryAfter:  5 * time.Second,
}

// Grant says that a request is authenticated. Its Finish must be called, once.
type Grant struct {
	v        *visit
	response json.RawMessage // of a finished session
	used     bool
}

// Session returns the session as this request sees it before Finish is called.
func (g *Grant) Session() *Session { return g.v.s }

// Finish runs the operation once per session and returns its response: concurrent
// and repeated final requests of the client get the same one, and operate is not
// called for them. If another request is at it, Finish waits, at most 30 seconds,
// and if that run has failed it runs the operation for this request.
//
// With [Operation.Tx] everything happens in one transaction: what operate writes,
// what the stages spend and the session's record are committed together or not at
// all, so that no crash leaves a doubt. The context carries the transaction, operate
// may be called more than once, and any error of it rolls back.
//
// The error is an *Error or a *Challenge.
func (g *Grant) Finish(ctx context.Context, operate Operate) (json.RawMessage, error) {
	if g.used {
		return nil, g.v.told(ctx, errors.New("uia: Finish was called twice"))
	}
	g.used = true
	if g.response != nil {
		return g.response, nil
	}
	response, err := g.takeTurn(ctx, &run{visit: g.v, operate: operate})
	return response, g.v.told(ctx, err)
}

// takeTurn waits until the session is finished or this request's to run.
func (g *Grant) takeTurn(ctx context.Context, r *run) (json.RawMessage, error) {
	v := g.v
	timeout := time.NewTimer(maxWait)
	defer timeout.Stop()
	for {
		if v.owned {
			response, err := r.take(ctx)
			if !errors.Is(err, errOvertaken) {
				return response, err
			}
			r.giveUp(ctx)
			if err := v.loadRecord(ctx); err != nil {
				return nil, err
			}
		}
		switch {
		case v.rec.State == Done:
			again, err := v.replay(ctx)
			if err != nil {
				return nil, err
			}
			return again.response, nil
		case v.running():
			if !v.sameClient() { // another client of the session was faster
				return nil, v.challenge(ctx, nil)
			}
			if err := v.await(ctx, timeout); err != nil {
				return nil, err
			}
			continue
		case v.rec.Revision == 0:
			return nil, errUnknownSession // it ended while we waited
		case !flowDone(v.flows, v.s.Completed, v.op.AnyOrder):
			return nil, v.challenge(ctx, errLostStage)
		}
		if _, err := v.settleParams(); err != nil {
			return nil, err
		}
		if err := v.takeLease(ctx); errors.Is(err, ErrConflict) {
			if err := v.loadRecord(ctx); err != nil {
				return nil, err
			}
		} else if err != nil {
			return nil, err
		}
	}
}
