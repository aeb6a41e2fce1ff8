package uia

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
)

// sweepBatch bounds what one Recover decides or removes of each kind.
const sweepBatch = 1000

// RecoverReport says what Recover has done.
type RecoverReport struct {
	Committed  int // uses that were in doubt, and whose operation took effect
	Released   int // uses that were in doubt, and whose operation never will
	Unresolved int // uses that are in doubt still
	Swept      int // leftovers that were removed
}

// Recover decides what crashed, timed-out and failed runs have left in doubt: it
// asks Operation.Resolve about everything that has been pinned for longer than a
// lease lasts, and spends it or gives it back. It also removes what has expired.
// Call it when the homeserver starts and then every few minutes, in one process or
// in all of them. Its work is bounded; what it leaves, the next call finds.
//
// The error joins what could not be done; it never means that a decision was wrong.
func (e *Engine) Recover(ctx context.Context) (RecoverReport, error) {
	var report RecoverReport
	var failures []error
	for _, s := range e.cfg.Stages {
		st := e.stages[s.Type()]
		if st.tx != nil {
			failures = append(failures, e.recoverStage(ctx, st, &report))
		}
		if st.sweeper != nil {
			n, err := st.sweeper.Sweep(ctx, e.now())
			report.Swept += n
			failures = append(failures, err)
		}
	}
	n, err := e.cfg.Sessions.SweepSessions(ctx, e.now(), sweepBatch)
	report.Swept += n
	return report, errors.Join(append(failures, err)...)
}

func (e *Engine) recoverStage(ctx context.Context, st *stage, report *RecoverReport) error {
	claims, err := st.tx.InDoubt(ctx, e.now().Add(-e.cfg.LeaseTTL), sweepBatch)
	if err != nil {
		return err
	}
	var failures []error
	for _, c := range claims {
		committed, err := e.decide(ctx, st, c)
		switch {
		case err == nil && committed:
			report.Committed++
		case err == nil:
			report.Released++
		case errors.Is(err, ErrNotHeld), errors.Is(err, ErrSpent):
			// A run of its session, or another Recover, was faster.
		default:
			report.Unresolved++
			failures = append(failures, fmt.Errorf("uia: session %s: %w", c.Key, err))
		}
	}
	return errors.Join(failures...)
}

// decide settles one claim that is in doubt.
func (e *Engine) decide(ctx context.Context, st *stage, c TxClaim) (committed bool, err error) {
	name := operationOf(c.Key)
	op := e.operations[name]
	if op == nil || op.Resolve == nil {
		return false, fmt.Errorf("operation %q is not configured", name)
	}
	// Pin it under a run of our own, so that the run that left it cannot touch
	// it any more. The runs of requests are even; the odd one above belongs to Recover, and
	// if several processes recover at once they come to the same decision.
	c.Run |= 1
	c.Now = e.now()
	if err := st.tx.Begin(ctx, c); err != nil {
		if _, lost := errors.AsType[*Error](err); lost {
			return false, ErrNotHeld
		}
		return false, err
	}
	outcome, err := op.Resolve(ctx, c.Key)
	if err != nil {
		return false, err
	}
	ev := useEvent(EventUseReleased, st.Type(), c)
	if outcome.Done {
		ev.Kind, ev.UserID = EventUseSpent, outcome.UserID
		err = st.tx.Commit(ctx, c, outcome.UserID)
	} else {
		err = st.tx.Release(ctx, c, nil)
	}
	if err == nil {
		e.observe(ctx, ev)
	}
	return outcome.Done, err
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
