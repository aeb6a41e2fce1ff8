package uia

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-uia/uia/internal/panics"
)

// errOvertaken says that another request, or Recover, has taken over the session or its
// uses from this run. If the run made something, only its Session.Key tells.
var errOvertaken = errors.New("uia: the run was overtaken")

// run is one run of an operation, by the request that has taken the session's lease.
type run struct {
	*visit
	operate Operate
	// lease is the record that this run wrote when it took the lease. Giving the lease
	// back replaces exactly that record, and never one that was read later.
	lease draft
	// recovered says that Recover has spent what the stages hold before this run could.
	// An earlier run, which this one overtook, may have been the one that took effect.
	recovered bool
}

// holding is what one completed stage has set aside for the session.
type holding struct {
	index int // in data.Completed
	TxStage
	TxClaim
}

func (r *run) holdings() (out []holding) {
	for i, c := range r.data.Completed {
		if st := r.e.stages[c.Type]; st != nil && st.tx != nil {
			out = append(out, holding{i, st.tx, r.claimOf(c.Result)})
		}
	}
	return out
}

// performed is the result of one call of the operation.
type performed struct {
	response json.RawMessage
	after    func(context.Context)
	// These wait for the commit of a transaction: the events to be reported after it, the
	// record of the finished session as it was to be written, which is compared to
	// recognise a commit whose answer was lost, and the record as it was written.
	spent         []Event
	ending, saved draft
	// refusal is the operation's own error; fenced says that no earlier run can have
	// taken effect either.
	refusal *Error
	fenced  bool
	// overtaken says that what the stages hold is no longer this run's.
	overtaken bool
}

// take runs the operation. It goes on if the client hangs up.
func (r *run) take(ctx context.Context) (json.RawMessage, error) {
	defer r.e.runs.Enter(r.s.Key)()
	ctx = context.WithoutCancel(ctx)
	r.lease = draft{r.rec, r.data}
	r.s.Run = r.rec.Run
	left := r.rec.LeaseEnd.Sub(r.e.now())
	if left <= 0 {
		return nil, errOvertaken // the lease has ended: another request may have taken it
	}
	holdings := r.holdings()
	if len(holdings) > 0 {
		r.e.remindOfRecover(ctx)
	}
	if err := r.begin(ctx, holdings); errors.Is(err, ErrSpent) {
		return r.alreadyDone(ctx)
	} else if err != nil {
		return nil, err
	}
	if err := r.prepare(ctx, left); err != nil {
		return r.failed(ctx, holdings, refusedBy(err), err)
	}
	if r.op.Tx {
		return r.takeTx(ctx, holdings)
	}
	done, err := r.perform(ctx, holdings, r.limit(left))
	switch {
	case err == nil:
		response, err := r.conclude(ctx, done.response)
		r.afterwards(ctx, done)
		return response, err
	case done.overtaken:
		return nil, errOvertaken
	}
	return r.failed(ctx, holdings, done, err)
}

// takeTx runs the operation in a transaction.
func (r *run) takeTx(ctx context.Context, holdings []holding) (json.RawMessage, error) {
	var last performed
	// The run's number protects against overtaken runs, not the clock. So the time limit
	// may begin when the transaction does, which may have waited in a queue for a while.
	limited, cancel := context.WithTimeout(ctx, 2*r.e.cfg.LeaseTTL)
	err := r.e.txs.InTx(limited, func(ctx context.Context) (err error) {
		last, err = r.perform(ctx, holdings, r.limit(r.e.cfg.LeaseTTL))
		return err
	})
	cancel()
	switch {
	case err == nil:
		r.adopt(last.saved.Record, last.saved.data)
		r.observeSpent(ctx, last.spent)
		r.afterwards(ctx, last)
		return last.response, nil
	case last.overtaken:
		return nil, errOvertaken
	}
	return r.failed(ctx, holdings, last, err)
}

// limit returns how long the operation may take if its lease ends after left. A fifth of
// LeaseTTL is kept for what follows the operation.
func (r *run) limit(left time.Duration) time.Duration { return left - r.e.cfg.LeaseTTL/5 }

// prepare calls the operation's Prepare, before its transaction begins.
func (r *run) prepare(ctx context.Context, left time.Duration) (err error) {
	if r.op.Prepare == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.limit(left))
	defer cancel()
	r.s.Prepared, err = r.op.Prepare(ctx, r.s)
	return err
}

// perform calls the operation and spends what the stages hold. In a transaction it
// records the response as well, and may be called again.
func (r *run) perform(ctx context.Context, holdings []holding, limit time.Duration) (performed, error) {
	effect, err := r.call(ctx, limit)
	if err != nil {
		return refusedBy(err), err
	}
	done := performed{after: effect.After}
	if done.response, err = encodeBody(effect.Body); err != nil {
		return done, fmt.Errorf("uia: the body of operation %q does not encode: %w", r.op.Name, err)
	}
	// A run that has outlived its lease still commits if nobody has taken over:
	// the run's number decides, not the clock.
	if !r.op.Tx {
		var cancel context.CancelFunc
		ctx, cancel = cleanup(ctx)
		defer cancel()
	}
	done.spent, err = r.commit(ctx, holdings, effect.UserID)
	if err == nil && r.op.Tx {
		done.ending = r.draft(r.finished(done.response))
		done.saved, err = r.store(ctx, done.ending)
	}
	done.overtaken = errors.Is(err, ErrNotHeld) || errors.Is(err, ErrSpent) || errors.Is(err, ErrConflict)
	return done, err
}

// refusedBy returns what an error of the operation says about whether the operation took
// effect.
func refusedBy(err error) (p performed) {
	if _, open := errors.AsType[*undecided](err); open {
		return p
	}
	_, p.fenced = errors.AsType[*notMade](err)
	p.refusal, _ = errors.AsType[*Error](err)
	return p
}

// call runs the operation.
func (r *run) call(ctx context.Context, limit time.Duration) (done Effect, err error) {
	defer panics.In("uia: operation "+r.op.Name, &err)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return r.operate(ctx, r.s)
}

func encodeBody(body any) (json.RawMessage, error) {
	if body == nil {
		return json.RawMessage("{}"), nil
	}
	return json.Marshal(body)
}

// commit spends what the stages hold, and returns the events. Without a transaction it
// reports them to the observer itself.
func (r *run) commit(ctx context.Context, holdings []holding, userID string) (spent []Event, err error) {
	userID = cmp.Or(userID, r.s.Subject)
	if userID == "" && len(holdings) > 0 {
		return nil, errors.New("uia: the result of operation " + r.op.Name + " has no UserID to book what was set aside to")
	}
	for _, h := range holdings {
		err := h.Commit(ctx, h.TxClaim, userID)
		if errors.Is(err, ErrSpent) && !r.op.Tx {
			r.recovered = true
			continue // spent for this key, and so for what this run has made
		}
		if err != nil {
			return nil, err
		}
		ev := useEvent(EventUseSpent, h.Type(), h.TxClaim)
		ev.UserID = userID
		if r.op.Tx {
			spent = append(spent, ev)
		} else {
			r.e.observe(ctx, ev)
		}
	}
	return spent, nil
}

// observeSpent reports to the observer what a transaction has committed.
func (r *run) observeSpent(ctx context.Context, spent []Event) {
	for _, ev := range spent {
		r.e.observe(ctx, ev)
	}
}

// afterwards calls the effect's After.
func (r *run) afterwards(ctx context.Context, p performed) {
	if p.after == nil {
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	err := func() (err error) {
		defer panics.In("After", &err)
		p.after(ctx)
		return nil
	}()
	if err != nil {
		r.e.log.ErrorContext(ctx, "uia: the operation took effect, and what follows it failed", "operation", r.op.Name, "session", r.s.Key, "error", err)
	}
}

// conclude records the response of an operation that has taken effect and whose holdings
// are spent. If another request has taken the lease meanwhile, this one is too late.
func (r *run) conclude(ctx context.Context, response json.RawMessage) (json.RawMessage, error) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	var err error
	for range maxConflicts {
		next, data := r.finished(response)
		if err = r.save(ctx, next, data); err == nil {
			return response, nil
		}
		if !errors.Is(err, ErrConflict) {
			break
		}
		if err = r.loadRecord(ctx); err != nil {
			break
		}
		if r.rec.State == Done && r.data.Response != nil {
			return r.data.Response, nil // the first one to finish has answered
		}
		if r.rec.Revision == 0 {
			break
		}
	}
	err = cmp.Or(err, ErrConflict)
	if r.recovered {
		return nil, err // another run may have another response, and record that
	}
	// The operation did take effect: the client gets its response, although a repeated
	// request will not get it.
	r.e.log.ErrorContext(ctx, "uia: the response of a finished session could not be recorded", "session", r.s.Key, "error", err)
	return response, nil
}
