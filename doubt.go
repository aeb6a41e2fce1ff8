package uia

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// doubt reports whether an earlier run of this session may have taken effect. A
// transaction leaves no doubt: it commits the record that this lease has replaced,
// or nothing.
func (t *turn) doubt() bool { return t.inTx == nil && t.data.Doubt }

// failed decides what an error of the run means.
func (t *turn) failed(ctx context.Context, pledges []pledge, refusal *Error, err error) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	switch {
	case refusal != nil && t.doubt():
		return t.decide(ctx, pledges, refusal)
	case refusal == nil && t.inTx == nil:
		t.reopen(ctx, true)
		return nil, err
	}
	// It did not happen. In a transaction that is so for every error, unless only
	// the answer to COMMIT was lost: then the use is spent, and we were overtaken by
	// ourselves. If it is not held any more, another run or Recover has decided: a
	// session that Recover has given up must not be opened again.
	stuck, overtaken := t.rollback(ctx, pledges)
	if overtaken {
		if t.loadRecord(ctx) == nil && t.ending.wrote(t.rec) {
			t.tellSpent(ctx)
		}
		return nil, errOvertaken
	}
	// What stays pinned Recover will decide, and bury this key by it unless everything
	// is in one transaction: then the session must know that it may be over.
	t.reopen(ctx, stuck && t.inTx == nil)
	if refusal != nil {
		return nil, refusal
	}
	return nil, err
}

// rollback makes what was pinned held again. It reports whether something stays
// pinned because it could not be reached, until Recover finds it, and whether
// something is spent or no longer this run's.
func (t *turn) rollback(ctx context.Context, pledges []pledge) (stuck, overtaken bool) {
	for _, p := range pledges {
		claim := p.TxClaim
		claim.Now = t.e.now()
		err := p.Rollback(ctx, claim)
		switch {
		case errors.Is(err, ErrSpent), errors.Is(err, ErrNotHeld):
			overtaken = true
		case err != nil:
			stuck = true
			t.e.log.ErrorContext(ctx, "uia: what a stage holds stays pinned until Recover", "session", t.s.Key, "stage", p.Type(), "error", err)
		}
	}
	return stuck, overtaken
}

// reopen lets the next request of the session run the operation. If another request
// has taken the claim over it changes nothing.
func (t *turn) reopen(ctx context.Context, doubt bool) {
	t.adopt(t.lease.Record, t.lease.data)
	data := *t.data
	data.Doubt = doubt
	if err := t.save(ctx, t.opened(), &data); err != nil && !errors.Is(err, ErrConflict) {
		t.e.log.WarnContext(ctx, "uia: a session stays leased until its lease ends", "session", t.s.Key, "error", err)
	}
}

// giveUp ends the claim of a run that was overtaken. If another run took it over
// this changes nothing. If it was Recover that overtook the run, the record is still
// claimed and nobody runs the operation: the next request need not wait for the
// claim to end.
func (t *turn) giveUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	t.reopen(ctx, t.inTx == nil)
}

// decide settles a refused run that followed one in doubt: what the stages hold
// must not be given back if the earlier run took effect.
func (t *turn) decide(ctx context.Context, pledges []pledge, refusal *Error) (json.RawMessage, error) {
	if t.op.Resolve == nil { // nothing is at stake
		t.reopen(ctx, false)
		return nil, refusal
	}
	outcome, err := t.op.Resolve(ctx, t.s.Key)
	if err != nil {
		t.reopen(ctx, true)
		return nil, err
	}
	if !outcome.Done {
		for _, p := range pledges {
			if err := p.Release(ctx, p.TxClaim, nil); err == nil {
				t.e.observe(ctx, useEvent(EventUseReleased, p.Type(), p.TxClaim))
			} else if !errors.Is(err, ErrNotHeld) {
				t.e.log.ErrorContext(ctx, "uia: what a stage holds stays pinned until Recover", "session", t.s.Key, "stage", p.Type(), "error", err)
			}
		}
		return nil, t.bury(ctx, refusal)
	}
	if err := t.commit(ctx, pledges, outcome.UserID); err != nil {
		if errors.Is(err, ErrNotHeld) || errors.Is(err, ErrSpent) {
			return nil, errOvertaken
		}
		t.reopen(ctx, true)
		return nil, err
	}
	return t.tell(ctx, outcome)
}

// alreadyDone answers for a session whose pledges are spent: by another run, whose
// response is about to be recorded, or by Recover.
func (t *turn) alreadyDone(ctx context.Context) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	for pause := minPoll; ; pause *= 2 {
		if err := t.loadRecord(ctx); err != nil {
			return nil, err
		}
		if t.rec.State == Done && t.data.Response != nil {
			return t.data.Response, nil
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
			continue
		case <-patience.C:
		}
		break
	}
	var outcome Outcome
	if t.op.Resolve != nil {
		var err error
		if outcome, err = t.op.Resolve(ctx, t.s.Key); err != nil {
			t.reopen(ctx, true)
			return nil, err
		}
	}
	return t.tell(ctx, outcome)
}

// tell finishes the session with what Resolve knows of the response.
func (t *turn) tell(ctx context.Context, outcome Outcome) (json.RawMessage, error) {
	var response json.RawMessage
	if outcome.Body != nil {
		var err error
		if response, err = encodeBody(outcome.Body); err != nil {
			return nil, err
		}
	}
	next, data := t.finished(response)
	if err := t.save(ctx, next, data); err != nil && !errors.Is(err, ErrConflict) {
		return nil, err
	}
	if response == nil {
		return nil, errFinished
	}
	return response, nil
}

// bury ends a session under whose key the operation can never succeed.
func (t *turn) bury(ctx context.Context, why error) error {
	next, data := t.finished(nil)
	data.Dead = true
	if err := t.save(ctx, next, data); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return why
}
