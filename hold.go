package uia

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
)

// release gives back what a stage has set aside and the record does not show.
func (v *visit) release(ctx context.Context, st *stage, held json.RawMessage) (done bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	err := st.tx.Release(ctx, v.claimOf(held), v.s.Result(st.Type()))
	if err != nil && !errors.Is(err, ErrNotHeld) && !errors.Is(err, ErrSpent) {
		v.e.log.WarnContext(ctx, "uia: what a stage holds could not be given back and is left to lapse", "session", v.s.Key, "stage", st.Type(), "error", err)
	}
	return err == nil
}

// renew lets each completed stage renew what it holds. If one has lost it, that
// stage and what follows it are not completed any more, and the reason is
// returned.
func (v *visit) renew(ctx context.Context) (lost *Error, err error) {
	if complete(v.flows, v.s.Completed, v.op.AnyOrder) {
		return nil, nil // it is about to be pinned
	}
	for i, c := range v.data.Completed {
		st := v.e.stages[c.Type]
		if st == nil || st.tx == nil {
			continue
		}
		held, err := st.tx.Hold(ctx, v.claimOf(c.Result))
		if refusal, ok := errors.AsType[*Error](err); ok {
			return refusal, v.uncomplete(ctx, i)
		}
		if err != nil {
			return nil, err
		}
		if bytes.Equal(held, c.Result) {
			continue
		}
		data := *v.data
		data.Completed = slices.Clone(data.Completed)
		data.Completed[i].Result = held
		if err := v.save(ctx, v.opened(), &data); errors.Is(err, ErrConflict) {
			return nil, v.loadRecord(ctx) // another request of the session renews it
		} else if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// uncomplete takes back the completion of stage i and of those that follow it.
func (v *visit) uncomplete(ctx context.Context, i int) error {
	data := *v.data
	data.Completed = slices.Clone(data.Completed[:i])
	gone := v.data.Completed[i:]
	if err := v.save(ctx, v.opened(), &data); errors.Is(err, ErrConflict) {
		return v.loadRecord(ctx)
	} else if err != nil {
		return err
	}
	for _, c := range gone {
		if st := v.e.stages[c.Type]; st != nil && st.tx != nil {
			if v.release(ctx, st, c.Result) {
				v.e.observe(ctx, useEvent(EventUseReleased, st.Type(), v.claimOf(c.Result)))
			}
		}
	}
	return nil
}
