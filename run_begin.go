package uia

import (
	"context"
	"errors"
)

// begin pins what the stages hold. If one of them does not hold any more and cannot
// hold again, it is not completed any more.
func (r *run) begin(ctx context.Context, holdings []holding) error {
	if r.pinned {
		r.pinned = false // by the write that took the lease; another run pins again
		return nil
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	for i := range holdings {
		err := r.pin(ctx, &holdings[i])
		if err == nil {
			continue
		}
		if errors.Is(err, ErrSpent) {
			return err
		}
		refusal, lost := errors.AsType[*Error](err)
		if lost {
			return r.lose(ctx, holdings[:i], holdings[i].index, refusal)
		}
		// It may be pinned, and its answer lost.
		if r.doubt() {
			r.reopen(ctx, true)
		} else {
			r.undo(ctx, holdings[:i+1])
		}
		return err
	}
	return nil
}

// pin pins what one stage holds. What has been lost is taken anew if it can be had:
// Recover may have given it back after a crash, or another session may have needed
// it. In doubt that must not be, because what an earlier run has made would then be
// booked to something else.
func (r *run) pin(ctx context.Context, h *holding) error {
	err := h.Begin(ctx, h.TxClaim)
	refusal, lost := errors.AsType[*Error](err)
	if !lost || errors.Is(err, ErrSpent) || r.mayBeOver() {
		return err
	}
	again := h.TxClaim
	again.Hold = HoldAgain
	held, err := h.TxStage.Hold(ctx, again)
	if _, refused := errors.AsType[*Error](err); refused {
		return refusal
	}
	if err != nil {
		return err
	}
	h.Result = held
	return h.Begin(ctx, h.TxClaim)
}

// lose takes back the completion of a stage that has lost what it held, at this
// place in data.Completed; what is pinned already is held again.
func (r *run) lose(ctx context.Context, pinned []holding, index int, refusal *Error) error {
	if changed, err := r.changed(ctx); err == nil && changed {
		return errOvertaken
	}
	if r.mayBeOver() {
		// Recover has decided that an earlier run did not happen, and that this key
		// never will.
		return r.bury(ctx, errUnknownSession)
	}
	stuck, overtaken := r.rollback(ctx, pinned)
	if err := r.uncomplete(ctx, index, (stuck || overtaken) && !r.op.Tx); err != nil {
		return err
	}
	return r.challenge(ctx, refusal)
}

// undo makes what is or may be pinned held again, and gives the lease back, because
// the operation has not run.
func (r *run) undo(ctx context.Context, holdings []holding) {
	stuck, overtaken := r.rollback(ctx, holdings)
	// What stays pinned is settled by Recover, which may end this session for good, and
	// so has been what is not this run's any more. In a transaction Recover cannot get
	// that far: a key never ends.
	r.reopen(ctx, r.data.Doubt || (stuck || overtaken) && !r.op.Tx)
}

// doubt reports whether an earlier run of this session may have taken effect. A
// transaction leaves no doubt: it commits the record that this lease has replaced,
// or nothing.
func (r *run) doubt() bool { return !r.op.Tx && r.data.Doubt }

// mayBeOver reports whether Recover may have found something to decide in this
// session: it was in doubt, or something was pinned and the answer lost.
func (r *run) mayBeOver() bool { return !r.op.Tx && (r.data.Doubt || r.unsure) }
