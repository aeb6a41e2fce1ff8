package uia

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// errOvertaken says that another request, or Recover, has taken this run over, and that what it did counts for nothing but its Session.Key.
var errOvertaken = errors.New("uia: the run was overtaken")

// turn is one run of an operation, by the request that has leased its session.
type turn struct {
	*visit
	inTx func(context.Context, func(context.Context) error) error // nil: no transaction
	run  Operate
	// lease is the record as this run has claimed it. What ends the claim replaces it
	// alone, whatever has been read since.
	lease draft

	// What a transaction has yet to commit: the events to tell then, and the record by
	// which its commit is recognised.
	spent  []Event
	ending draft
	late   bool // Recover was faster, and so perhaps was another run that it overtook
}

// pledge is what one completed stage has set aside for the session.
type pledge struct {
	index int // in data.Completed
	TxStage
	TxClaim
}

func (t *turn) pledges() (out []pledge) {
	for i, c := range t.data.Completed {
		if st := t.e.stages[c.Type]; st != nil && st.tx != nil {
			out = append(out, pledge{i, st.tx, t.claimOf(c.Result)})
		}
	}
	return out
}

// take runs the operation. The client's hanging up does not stop it.
func (t *turn) take(ctx context.Context) (json.RawMessage, error) {
	defer t.e.enter(t.s.Key)()
	ctx = context.WithoutCancel(ctx)
	t.lease = draft{t.rec, t.data}
	left := t.rec.LeaseEnd.Sub(t.e.now())
	if left <= 0 {
		return nil, errOvertaken // the host took its time: take it once more
	}
	pledges := t.pledges()
	if err := t.begin(ctx, pledges); errors.Is(err, ErrSpent) {
		return t.alreadyDone(ctx)
	} else if err != nil {
		return nil, err
	}
	var (
		response  json.RawMessage
		refusal   *Error // the operation's own
		overtaken bool
		finished  draft
	)
	perform := func(ctx context.Context) error {
		refusal, overtaken, t.spent, t.ending = nil, false, nil, draft{}
		result, err := t.call(ctx, left-t.e.cfg.LeaseTTL/5)
		if err != nil {
			refusal, _ = errors.AsType[*Error](err)
			return err
		}
		if response, err = encodeBody(result.Body); err != nil {
			return err
		}
		// A run that has outlived its lease still commits if nobody has taken over:
		// the run decides, not the clock.
		ctx, cancel := t.wrapUp(ctx)
		defer cancel()
		if err = t.commit(ctx, pledges, result.UserID); err == nil && t.inTx != nil {
			t.ending = t.draft(t.finished(response))
			finished, err = t.store(ctx, t.ending)
		}
		overtaken = errors.Is(err, ErrNotHeld) || errors.Is(err, ErrSpent) || errors.Is(err, ErrConflict)
		return err
	}
	var err error
	if t.inTx == nil {
		if err = perform(ctx); err == nil {
			return t.conclude(ctx, response)
		}
	} else {
		limited, cancel := context.WithTimeout(ctx, left)
		err = t.inTx(limited, perform)
		cancel()
		if err == nil {
			t.adopt(finished.Record, finished.data)
			t.tellSpent(ctx)
			return response, nil
		}
	}
	if overtaken {
		return nil, errOvertaken
	}
	return t.failed(ctx, pledges, refusal, err)
}

// tellSpent tells the observer what a transaction has committed.
func (t *turn) tellSpent(ctx context.Context) {
	for _, ev := range t.spent {
		t.e.observe(ctx, ev)
	}
}

// overtaken reports whether another request has changed the record since this one
// leased it.
func (t *turn) overtaken(ctx context.Context) bool {
	changed, err := t.changed(ctx)
	return err == nil && changed
}

// call runs the operation, and makes an error of a panic.
func (t *turn) call(ctx context.Context, limit time.Duration) (done Effect, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("uia: operation %s panicked: %v\n%s", t.op.Name, p, debug.Stack())
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return t.run(ctx, t.s)
}

// wrapUp bounds what follows the operation. Inside a transaction the context that
// carries it is bounded already.
func (t *turn) wrapUp(ctx context.Context) (context.Context, context.CancelFunc) {
	if t.inTx != nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, cleanupTime)
}

func encodeBody(body any) (json.RawMessage, error) {
	if body == nil {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(body)
}

// begin pins what the stages hold. If one of them does not hold any more, it is
// not completed any more.
func (t *turn) begin(ctx context.Context, pledges []pledge) error {
	if t.pinned {
		t.pinned = false // by the request that leased the session; another turn pins again
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	for i, p := range pledges {
		err := p.Begin(ctx, p.TxClaim)
		if err == nil {
			continue
		}
		refusal, lost := errors.AsType[*Error](err)
		switch {
		case errors.Is(err, ErrSpent):
			return err
		case lost && t.overtaken(ctx):
			return errOvertaken
		case lost && t.doubt():
			// Recover has decided that the earlier run did not happen, and that this key
			// never will.
			return t.bury(ctx, errUnknownSession)
		case lost:
			t.rollback(ctx, pledges[:i])
			if err := t.uncomplete(ctx, p.index); err != nil {
				return err
			}
			return t.challenge(ctx, refusal)
		}
		if !t.doubt() {
			t.rollback(ctx, pledges[:i+1])
		}
		t.reopen(ctx, t.data.Doubt)
		return err
	}
	return nil
}

func (t *turn) commit(ctx context.Context, pledges []pledge, userID string) error {
	if userID == "" {
		userID = t.s.Subject
	}
	if userID == "" && len(pledges) > 0 {
		return errors.New("uia: the result of operation " + t.op.Name + " has no UserID to book what was set aside to")
	}
	for _, p := range pledges {
		err := p.Commit(ctx, p.TxClaim, userID)
		if errors.Is(err, ErrSpent) && t.inTx == nil {
			t.late = true
			continue // for this session's key, and so for what this run has made
		}
		if err != nil {
			return err
		}
		ev := useEvent(EventUseSpent, p.Type(), p.TxClaim)
		ev.UserID = userID
		if t.inTx == nil {
			t.e.observe(ctx, ev)
		} else {
			t.spent = append(t.spent, ev)
		}
	}
	return nil
}

// conclude records the response of an operation that has taken effect and whose
// pledges are spent. If another request has leased the session meanwhile it is
// too late: it finds them spent, and reads the response here.
func (t *turn) conclude(ctx context.Context, response json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTime)
	defer cancel()
	var err error
	for range maxConflicts {
		next, data := t.finished(response)
		if err = t.save(ctx, next, data); err == nil {
			return response, nil
		}
		if !errors.Is(err, ErrConflict) {
			break
		}
		if err = t.loadRecord(ctx); err != nil {
			break
		}
		if t.rec.State == Done && t.data.Response != nil {
			return t.data.Response, nil // the first one to finish has answered
		}
		if t.rec.Revision == 0 {
			break
		}
	}
	err = cmp.Or(err, ErrConflict)
	if t.late {
		return nil, err // another run may be told something else, and be recorded
	}
	// The operation did take effect: the client is told so, even if a repeated
	// request will not be.
	t.e.log.ErrorContext(ctx, "uia: the response of a finished session could not be recorded", "session", t.s.Key, "error", err)
	return response, nil
}
