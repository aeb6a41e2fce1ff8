package uia

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/matrix-uia/uia/internal/flow"
)

// claimOf returns the claim that this session has on what a stage set aside.
func (v *visit) claimOf(result json.RawMessage) TxClaim {
	return TxClaim{Key: v.s.Key, Run: v.rec.Run, Result: result, Now: v.e.now()}
}

// release gives back what a stage has set aside if the record does not refer to it.
func (v *visit) release(ctx context.Context, st *stage, held json.RawMessage) (done bool) {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	err := st.tx.Release(ctx, v.claimOf(held), v.s.Result(st.Type()))
	if err != nil && !errors.Is(err, ErrNotHeld) && !errors.Is(err, ErrSpent) {
		v.e.log.WarnContext(ctx, "uia: what a stage holds could not be given back and is left to lapse", "session", v.s.Key, "stage", st.Type(), "error", err)
	}
	return err == nil
}

// loosen makes the hold of a stage a loose one: the session keeps it until another
// session needs it. It returns the result to be recorded. If loosen fails nothing is
// lost: the hold lapses by itself.
func (v *visit) loosen(ctx context.Context, st *stage, held json.RawMessage) json.RawMessage {
	ctx, cancel := cleanup(ctx)
	defer cancel()
	c := v.claimOf(held)
	c.Hold = HoldLoosely
	loose, err := st.tx.Hold(ctx, c)
	if err == nil {
		return loose
	}
	if _, refused := errors.AsType[*Error](err); !refused && !errors.Is(err, ErrSpent) {
		v.e.log.WarnContext(ctx, "uia: what a stage holds stays held until it lapses", "session", v.s.Key, "stage", st.Type(), "error", err)
	}
	return held
}

// loosenAll is loosen for everything that the completed stages hold. It records the loose
// holds, so that the next good request renews those that it can.
func (v *visit) loosenAll(ctx context.Context) {
	data, changed := v.data, false
	for i, c := range v.data.Completed {
		if st := v.e.stages[c.Type]; st != nil && st.tx != nil {
			loose := v.loosen(ctx, st, c.Result)
			data, changed = data.WithResult(i, loose), changed || !bytes.Equal(loose, c.Result)
		}
	}
	if !changed {
		return
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := v.save(ctx, v.opened(), data); err != nil && !errors.Is(err, ErrConflict) {
		v.e.log.WarnContext(ctx, "uia: a session does not know that others can have what it holds", "session", v.s.Key, "error", err)
	}
}

// renew lets each completed stage renew what it holds. If a stage has lost its hold, that
// stage and those that follow it are no longer completed, and gone is the reason.
func (v *visit) renew(ctx context.Context) (gone *Error, err error) {
	if flow.Done(v.s.Flows, v.s.Completed, v.op.AnyOrder) {
		return nil, nil // the run pins the hold, or makes a new one if the hold was lost
	}
	for i, c := range v.data.Completed {
		st := v.e.stages[c.Type]
		if st == nil || st.tx == nil {
			continue
		}
		held, err := st.tx.Hold(ctx, v.claimOf(c.Result))
		if refusal, ok := errors.AsType[*Error](err); ok {
			return refusal, v.uncomplete(ctx, i, v.data.Doubt)
		}
		if err != nil {
			return nil, err
		}
		if bytes.Equal(held, c.Result) {
			continue
		}
		if err := v.save(ctx, v.opened(), v.data.WithResult(i, held)); errors.Is(err, ErrConflict) {
			return nil, v.loadRecord(ctx) // another request of the session renews it
		} else if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// uncomplete takes back the completion of stage i and of those that follow it.
func (v *visit) uncomplete(ctx context.Context, i int, doubt bool) error {
	data := v.data.First(i)
	data.Doubt = doubt
	gone := v.data.Completed[i:]
	if err := v.save(ctx, v.opened(), data); errors.Is(err, ErrConflict) {
		return v.loadRecord(ctx)
	} else if err != nil {
		return err
	}
	for _, c := range gone {
		if st := v.e.stages[c.Type]; st != nil && st.tx != nil && v.release(ctx, st, c.Result) {
			v.e.observe(ctx, useEvent(EventUseReleased, st.Type(), v.claimOf(c.Result)))
		}
	}
	return nil
}
