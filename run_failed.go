package uia

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/matrix-uia/uia/internal/waiting"
)

// failed decides what an error of the run means.
func (r *run) failed(ctx context.Context, holdings []holding, done performed, err error) (json.RawMessage, error) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	switch {
	case done.refusal != nil && r.doubt() && !done.fenced:
		return r.decide(ctx, holdings, done.refusal)
	case done.refusal == nil && !r.op.Tx:
		r.reopen(ctx, true)
		return nil, err
	}
	// The operation did not take effect. In a transaction that is so for every error,
	// unless only the answer to COMMIT was lost: then the use is spent, and rollback
	// reports that this run was overtaken, by its own commit. If the use is no longer
	// held, another run or Recover has decided about it, and a session that Recover has
	// ended must not be opened again.
	stuck, overtaken := r.rollback(ctx, holdings)
	if overtaken {
		if r.loadRecord(ctx) == nil && done.ending.wrote(r.rec) {
			r.observeSpent(ctx, done.spent)
			r.afterwards(ctx, done)
		}
		return nil, errOvertaken
	}
	r.reopen(ctx, stuck && !r.op.Tx) // Recover settles what is still pinned, and may end this session
	if done.refusal != nil {
		return nil, done.refusal
	}
	return nil, err
}

// rollback makes what was pinned held again, loosely. stuck reports that something stays
// pinned, because the stage could not be reached; Recover will find it. overtaken reports
// that something is spent, or no longer pinned by this run.
func (r *run) rollback(ctx context.Context, holdings []holding) (stuck, overtaken bool) {
	for _, h := range holdings {
		claim := h.TxClaim
		claim.Now = r.e.now()
		err := h.Rollback(ctx, claim)
		switch {
		case errors.Is(err, ErrSpent), errors.Is(err, ErrNotHeld):
			overtaken = true
		case err != nil:
			stuck = true
			r.e.log.ErrorContext(ctx, "uia: what a stage holds stays pinned until Recover", "session", r.s.Key, "stage", h.Type(), "error", err)
		}
	}
	return stuck, overtaken
}

// reopen gives the lease back, so that the next request of the session can run the
// operation. If another request has taken the lease over, reopen changes nothing.
func (r *run) reopen(ctx context.Context, doubt bool) {
	r.adopt(r.lease.Record, r.lease.data)
	data := *r.data
	data.Doubt = doubt
	if err := r.save(ctx, r.opened(), &data); err != nil && !errors.Is(err, ErrConflict) {
		r.e.log.WarnContext(ctx, "uia: a session stays leased until its lease ends", "session", r.s.Key, "error", err)
	}
}

// leaveOvertaken gives back the lease of an overtaken run. If another run has taken the lease
// over, leaveOvertaken changes nothing. If Recover has overtaken the run, nobody runs the
// operation, and the next request need not wait until the lease ends.
func (r *run) leaveOvertaken(ctx context.Context) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	r.owned = false
	r.reopen(ctx, !r.op.Tx)
}

// decide asks Resolve after the operation has refused in a session that was in doubt:
// what the stages hold must not be given back if an earlier run took effect.
func (r *run) decide(ctx context.Context, holdings []holding, refusal *Error) (json.RawMessage, error) {
	if r.op.Resolve == nil { // no stage of the session holds anything
		r.reopen(ctx, false)
		return nil, refusal
	}
	outcome, err := r.op.Resolve(ctx, r.s.Key)
	if err != nil {
		r.reopen(ctx, true)
		return nil, err
	}
	if !outcome.Done {
		for _, h := range holdings {
			if err := h.Release(ctx, h.TxClaim, nil); err == nil {
				r.e.observe(ctx, useEvent(EventUseReleased, h.Type(), h.TxClaim))
			} else if !errors.Is(err, ErrNotHeld) {
				r.e.log.ErrorContext(ctx, "uia: what a stage holds stays pinned until Recover", "session", r.s.Key, "stage", h.Type(), "error", err)
			}
		}
		return nil, r.endForGood(ctx, refusal)
	}
	if _, err := r.commit(ctx, holdings, outcome.UserID); err != nil {
		if errors.Is(err, ErrNotHeld) || errors.Is(err, ErrSpent) {
			return nil, errOvertaken
		}
		r.reopen(ctx, true)
		return nil, err
	}
	return r.finishWith(ctx, outcome)
}

// alreadyDone answers for a session whose uses are spent: by another run, whose
// response is about to be recorded, or has been lost with its process; or by Recover.
func (r *run) alreadyDone(ctx context.Context) (json.RawMessage, error) {
	running := ctx
	ctx, cancel := cleanup(ctx)
	defer cancel()
	answered := func() (bool, error) {
		err := r.loadRecord(ctx)
		return r.rec.State == Done && r.data.Response != nil, err
	}
	found, err := answered()
	if !found && err == nil {
		patience := min(2*time.Second, r.e.cfg.LeaseTTL/4) // the rest of the lease is for running again
		err = waiting.Until(ctx, time.After(patience), nil, answered)
		found = err == nil
	}
	if found {
		return r.data.Response, nil
	}
	if !errors.Is(err, waiting.ErrTimeout) {
		return nil, err
	}
	var outcome Outcome
	if r.op.Resolve != nil {
		if outcome, err = r.op.Resolve(ctx, r.s.Key); err != nil {
			r.reopen(ctx, true)
			return nil, err
		}
		if outcome.Done && outcome.Again && outcome.Body == nil && r.rec.Revision == r.lease.Revision {
			return r.again(running, outcome)
		}
	}
	return r.finishWith(ctx, outcome)
}

// again runs an operation that has taken effect and whose response was lost. It returns
// what it has made under the key, and that is the response. What the stages hold is spent,
// or Recover spends it. If the operation refuses, the client is told no more than that the
// session is finished.
func (r *run) again(ctx context.Context, outcome Outcome) (json.RawMessage, error) {
	left := r.rec.LeaseEnd.Sub(r.e.now())
	var response json.RawMessage
	err := r.prepare(ctx, left)
	if err == nil {
		var effect Effect
		if effect, err = r.call(ctx, r.limit(left)); err == nil {
			response, err = encodeBody(effect.Body)
		}
	}
	if err == nil {
		r.recovered = true // the run that took effect may yet record its own response
		return r.conclude(ctx, response)
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if refusedBy(err).refusal != nil {
		return r.finishWith(ctx, outcome)
	}
	r.reopen(ctx, true)
	return nil, err
}

// finishWith finishes the session with the response that Resolve returned, if it did.
func (r *run) finishWith(ctx context.Context, outcome Outcome) (json.RawMessage, error) {
	var response json.RawMessage
	if outcome.Body != nil {
		var err error
		if response, err = encodeBody(outcome.Body); err != nil {
			return nil, err
		}
	}
	next, data := r.finished(response)
	if err := r.save(ctx, next, data); err != nil && !errors.Is(err, ErrConflict) {
		return nil, err
	}
	if response == nil {
		return nil, r.challenge(ctx, errFinished)
	}
	return response, nil
}

// endForGood ends a session under whose key the operation can never succeed.
func (r *run) endForGood(ctx context.Context, why error) error {
	next, data := r.finished(nil)
	data.Dead = true
	if err := r.save(ctx, next, data); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return why
}
