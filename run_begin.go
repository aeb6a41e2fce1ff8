package uia

import (
	"context"
	"errors"
)

// begin pins what the stages hold. A stage that has lost its hold, and cannot get a new
// one, is no longer completed.
func (r *run) begin(ctx context.Context, holdings []holding) error {
	if r.pinned {
		r.pinned = false // the write that took the lease has pinned; a later run pins again
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
			return r.uncompleteLost(ctx, holdings[:i], holdings[i].index, refusal)
		}
		// The pin may have happened although its answer was lost.
		if r.doubt() {
			r.reopen(ctx, true)
		} else {
			r.undo(ctx, holdings[:i+1])
		}
		return err
	}
	return nil
}

// pin pins what one stage holds. If the hold was lost, because Recover has given it back
// after a crash or another session needed it, pin asks the stage for a new one. In doubt
// it does not: an earlier run may have made an account, which would then be recorded
// against another token than the one that it was made from.
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

// uncompleteLost takes back the completion of a stage that has lost its hold; index is its place in
// data.Completed. What this run has pinned already becomes held again.
func (r *run) uncompleteLost(ctx context.Context, pinned []holding, index int, refusal *Error) error {
	if changed, err := r.changed(ctx); err == nil && changed {
		return errOvertaken
	}
	if r.mayBeOver() {
		// Recover has decided that the earlier run did not take effect, and that no run
		// under this key ever will.
		return r.endForGood(ctx, errUnknownSession)
	}
	stuck, overtaken := r.rollback(ctx, pinned)
	if err := r.uncomplete(ctx, index, (stuck || overtaken) && !r.op.Tx); err != nil {
		return err
	}
	return r.challenge(ctx, refusal)
}

// undo is called when the operation has not run. It makes what is or may be pinned held
// again, and gives the lease back.
func (r *run) undo(ctx context.Context, holdings []holding) {
	stuck, overtaken := r.rollback(ctx, holdings)
	// A use that could not be unpinned is settled by Recover, which may end this session
	// for good. A use that is no longer this run's may have been settled so already. Mark
	// the record as in doubt, so that the next request notices. Where operations run in a
	// transaction Recover never ends a session.
	r.reopen(ctx, r.data.Doubt || (stuck || overtaken) && !r.op.Tx)
}

// doubt reports whether an earlier run of this session may have taken effect. A
// transaction leaves no doubt: it commits the record that this lease has replaced,
// or nothing.
func (r *run) doubt() bool { return !r.op.Tx && r.data.Doubt }

// mayBeOver reports whether Recover may have ended this session: it was in doubt, or
// something may have been pinned by a call whose answer was lost.
func (r *run) mayBeOver() bool { return !r.op.Tx && (r.data.Doubt || r.unsure) }
