package uia

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/matrix-uia/uia/internal/flow"
)

// Grant says that a request is authenticated. Its Finish must be called, once.
type Grant struct {
	v        *visit
	response json.RawMessage // of a finished session
	used     bool
}

// Authenticate takes a request one step further. It returns a Grant if the
// operation may run, or has run already: call its Finish. Otherwise it returns a
// *Challenge or an *Error, to be answered as [Answer] says.
func (e *Engine) Authenticate(ctx context.Context, r Request) (*Grant, error) {
	v, err := e.newVisit(r)
	if err != nil {
		return nil, e.Refuse(ctx, r, err)
	}
	p, err := v.authenticate(ctx)
	if err != nil {
		return nil, v.refuse(ctx, err)
	}
	return &Grant{v: v, response: p.response}, nil
}

// Session returns the session as this request sees it before Finish is called.
func (g *Grant) Session() *Session { return g.v.s }

// Finish runs the operation once per session and returns its response: concurrent and
// repeated final requests of the client get the same one, and operate is not called for
// them. If another request runs the operation, Finish waits for it, at most 30 seconds;
// if that run has failed, Finish runs the operation for this request.
//
// With [Operation.Tx] everything happens in one transaction: what operate writes, what
// the stages spend and the session's record are committed together or not at all, so that
// no crash leaves anything in doubt. The context carries the transaction, operate may be
// called more than once, and any error of it rolls back.
//
// The error is an *Error or a *Challenge.
func (g *Grant) Finish(ctx context.Context, operate Operate) (json.RawMessage, error) {
	if g.used {
		return nil, g.v.refuse(ctx, errors.New("uia: Finish was called twice"))
	}
	g.used = true
	if g.response != nil {
		return g.response, nil
	}
	response, err := g.takeTurn(ctx, &run{visit: g.v, operate: operate})
	return response, g.v.refuse(ctx, err)
}

// takeTurn waits until the session is finished, or until this request has the lease and
// can run the operation.
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
			r.leaveOvertaken(ctx)
			if err := v.loadRecord(ctx); err != nil {
				return nil, err
			}
		}
		response, err := v.queue(ctx, timeout)
		if response != nil || err != nil {
			return response, err
		}
	}
}

// queue brings the request one step closer to its turn: it returns the response of a
// finished session, or waits for the run of another request, or takes the lease.
func (v *visit) queue(ctx context.Context, timeout *time.Timer) (json.RawMessage, error) {
	switch {
	case v.rec.State == Done:
		again, err := v.replay(ctx)
		if err != nil {
			return nil, err
		}
		return again.response, nil
	case v.running() && !v.sameClient(): // another client of the session was faster
		return nil, v.challenge(ctx, nil)
	case v.running():
		return nil, v.await(ctx, timeout)
	case v.rec.Revision == 0:
		return nil, errUnknownSession // it ended while we waited
	case !flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder):
		return nil, v.challenge(ctx, errLostStage)
	}
	if _, err := v.settleParams(); err != nil {
		return nil, err
	}
	if err := v.takeLease(ctx); !errors.Is(err, ErrConflict) {
		return nil, err
	}
	return nil, v.loadRecord(ctx)
}
