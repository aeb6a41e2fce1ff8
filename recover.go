package uia

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// RecoverReport says what Recover has done.
type RecoverReport struct {
	Committed  int // uses that were in doubt, and whose operation took effect
	Released   int // uses that were in doubt, and whose operation never will
	Unresolved int // uses that are in doubt still
	Swept      int // leftovers that were removed
}

// Recover decides what crashed, timed-out and failed runs have left in doubt: it asks
// Operation.Resolve about everything that has been pinned for longer than a lease lasts,
// and spends it or gives it back. It also removes what has expired. Call it every few
// minutes, in one process or in all of them; [Engine.Maintain] does. Right after a crash
// it finds nothing: what the crash has left is decided by the first call a LeaseTTL
// later. One call does a bounded amount of work; the next call finds the rest.
//
// The error joins what could not be done; it never means that a decision was wrong.
func (e *Engine) Recover(ctx context.Context) (RecoverReport, error) {
	e.recovered.Store(e.now().UnixMilli())
	var report RecoverReport
	var failures []error
	for _, s := range e.cfg.Stages {
		st := e.stages[s.Type()]
		if st.tx != nil {
			failures = append(failures, e.recoverStage(ctx, st, &report))
		}
		if st.sweeper != nil {
			n, err := st.sweeper.Sweep(ctx, e.now().Add(-e.cfg.SessionTTL-recordGrace))
			report.Swept += n
			failures = append(failures, err)
		}
	}
	n, err := e.cfg.Sessions.SweepSessions(ctx, e.now(), sweepBatch)
	report.Swept += n
	return report, errors.Join(append(failures, err)...)
}

// maintenance is how often Maintain calls Recover.
const maintenance = 5 * time.Minute

// Maintain calls Recover until ctx ends: at once, then after LeaseTTL, and then every
// five minutes. After LeaseTTL every run that was going on at the start has ended, so the
// second call decides what a crash has left. Maintain logs what fails. A homeserver runs
// it in a goroutine of its own.
func (e *Engine) Maintain(ctx context.Context) {
	for pause := e.cfg.LeaseTTL + time.Second; ; pause = maintenance {
		report, err := e.Recover(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			e.log.ErrorContext(ctx, "uia: maintenance failed, and goes on", "error", err)
		}
		if report.Committed+report.Released+report.Unresolved > 0 {
			e.log.InfoContext(ctx, "uia: uses were in doubt", "committed", report.Committed, "released", report.Released, "unresolved", report.Unresolved)
		}
		next := time.NewTimer(min(pause, maintenance))
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
	}
}

// unrecovered is how long Recover may not be called before a warning is due.
const unrecovered = time.Hour

// remindOfRecover warns, once an hour at most, if nobody calls Recover: without it the
// uses that a crash leaves in doubt stay in doubt.
func (e *Engine) remindOfRecover(ctx context.Context) {
	last, now := e.recovered.Load(), e.now().UnixMilli()
	if now-last >= unrecovered.Milliseconds() && e.recovered.CompareAndSwap(last, now) {
		e.log.WarnContext(ctx, "uia: Recover has not been called for an hour: uses of tokens may stay in doubt")
	}
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
	// Pin the use under a run of our own, so that the run that left it in doubt cannot
	// touch it any more. The runs of requests are even; the odd one above belongs to
	// Recover, and if several processes recover at once they come to the same decision.
	// The pin also moves the use to the end of the queue: a use that cannot be decided
	// does not keep Recover from the others.
	c.Run |= 1
	c.Now = e.now()
	if err := st.tx.Begin(ctx, c); err != nil {
		if _, lost := errors.AsType[*Error](err); lost {
			return false, ErrNotHeld
		}
		return false, err
	}
	name := operationOf(c.Key)
	op := e.operations[name]
	if op == nil || op.Resolve == nil {
		return false, fmt.Errorf("operation %q is not configured", name)
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
