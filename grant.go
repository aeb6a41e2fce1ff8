package uia

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

const (
	// maxWait is how long a final request waits for another one of its session.
	maxWait = 30 * time.Second
	// The owner of a lease may be in another process, which is asked at growing
	// intervals.
	minPoll = 50 * time.Millisecond
	maxPoll = 500 * time.Millisecond
)

var errBusy = &Error{
	Status:      http.StatusServiceUnavailable,
	MatrixError: spec.Unknown("Another request of this session is being processed."),
	RetryAfter:  5 * time.Second,
}

// Effect is what an operation has done.
type Effect struct {
	// UserID is the account that the operation was for. Required if a stage set
	// something aside and the session has no Subject: it is whom a token's use is
	// booked to.
	UserID string
	// Body is the response, encoded with encoding/json; nil means {}.
	Body any
}

// Operate is a guarded operation. It returns an *Error if it did not take effect
// and never will: the client is told, the session stays complete and the client
// may try again. Any other error means that it may have taken effect; the client
// gets a 500, what the stages set aside stays in doubt, and either another request
// of the session runs the operation again or Recover asks Resolve.
//
// It must take effect at most once for each Session.Key, by a unique index on what
// it makes: a second run under a key that has succeeded returns what the first one
// made. Its context ends before the lease does, and is not cancelled when the
// client hangs up.
type Operate = func(ctx context.Context, s *Session) (Effect, error)

// Grant says that a request is authenticated. Its Finish must be called, once.
type Grant struct {
	v        *visit
	owned    bool            // this request has leased the session
	response json.RawMessage // of a finished session
	used     bool
}

// Session returns the session as this request sees it before Finish is called.
func (g *Grant) Session() *Session { return g.v.s }

// Finish runs the operation once per session and returns its response: concurrent
// and repeated final requests get the same one, and run is not called for them. If
// another request is at it, Finish waits, at most 30 seconds, and if that run has
// failed it runs the operation for this request.
//
// The error is an *Error or a *Challenge.
func (g *Grant) Finish(ctx context.Context, run Operate) (json.RawMessage, error) {
	return g.finish(ctx, nil, run)
}

// FinishTx is Finish with everything in one transaction: what run writes, what the
// stages spend and the session's record are committed together or not at all, so
// that no crash leaves a doubt. inTx runs a function in a transaction of the store
// that is Config.Sessions, which the context carries (sqlstore's InTx), perhaps
// more than once. Any error of run rolls back. The Operation's Resolve can be
// [NotDone].
func (g *Grant) FinishTx(ctx context.Context, inTx func(context.Context, func(context.Context) error) error, run Operate) (json.RawMessage, error) {
	return g.finish(ctx, inTx, run)
}

func (g *Grant) finish(ctx context.Context, inTx func(context.Context, func(context.Context) error) error, run Operate) (json.RawMessage, error) {
	if g.used {
		return nil, g.v.e.told(ctx, errors.New("uia: Finish was called twice"))
	}
	g.used = true
	if g.response != nil {
		return g.response, nil
	}
	response, err := g.takeTurn(ctx, &turn{visit: g.v, inTx: inTx, run: run})
	return response, g.v.e.told(ctx, err)
}

// takeTurn waits until the session is finished or this request's to run.
func (g *Grant) takeTurn(ctx context.Context, t *turn) (json.RawMessage, error) {
	v, pause := g.v, minPoll
	timeout := time.NewTimer(maxWait)
	defer timeout.Stop()
	for {
		switch {
		case g.owned:
			response, err := t.take(ctx)
			if !errors.Is(err, errOvertaken) {
				return response, err
			}
			g.owned = false
			t.giveUp(ctx)
		case v.rec.State == Done:
			if v.data.Response != nil {
				return v.data.Response, nil
			}
			_, err := v.replay()
			return nil, err
		case v.rec.State == Running && v.e.now().Before(v.rec.LeaseEnd):
			if err := v.wait(ctx, timeout, &pause); err != nil {
				return nil, err
			}
		case v.rec.Revision == 0:
			return nil, errUnknownSession // it ended while we waited
		case !complete(v.flows, v.s.Completed, v.op.AnyOrder):
			return nil, v.challenge(ctx, errLostStage)
		default:
			err := v.takeLease(ctx)
			if g.owned = err == nil; err != nil && !errors.Is(err, ErrConflict) {
				return nil, err
			}
			if g.owned {
				continue
			}
		}
		if err := v.loadRecord(ctx); err != nil {
			return nil, err
		}
		if err := v.resettle(); err != nil {
			return nil, err
		}
	}
}

// wait returns when the record may have changed.
func (v *visit) wait(ctx context.Context, timeout *time.Timer, pause *time.Duration) error {
	v.e.mu.Lock()
	here := v.e.running[v.s.Key] // nil, which blocks for ever, if the owner is elsewhere
	v.e.mu.Unlock()
	var elsewhere <-chan time.Time
	if here == nil {
		poll := time.NewTimer(*pause)
		defer poll.Stop()
		elsewhere = poll.C
		*pause = min(2**pause, maxPoll)
	}
	select {
	case <-here:
	case <-elsewhere:
	case <-timeout.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// enter tells the waiting requests of this process that the run is here. They are
// woken by the function it returns.
func (e *Engine) enter(key string) (leave func()) {
	done := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[key] = done
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.running[key] == done { // else another request has taken the session over
			delete(e.running, key)
		}
		close(done)
	}
}
