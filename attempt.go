package uia

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// attempt lets the stage look at the request, and records it if it passes. On
// return without an error the stage is completed, by this request or by another
// that was faster.
func (v *visit) attempt(ctx context.Context, st *stage, claim bool) error {
	settle, err := v.e.charge(ctx, v.s.Client)
	if err != nil {
		return err
	}
	defer settle(false) // if the stage panics; after the first call it does nothing
	result, err := st.Attempt(ctx, v.s, v.auth.object)
	if err == nil {
		err = v.complete(ctx, st, result, claim)
	}
	if errors.Is(err, ErrExhausted) || errors.Is(err, ErrSpent) {
		// What this request came for may be gone because another request of the same
		// session has taken it.
		if overtaken, loadErr := v.changed(ctx); loadErr != nil || overtaken {
			return loadErr
		}
		if errors.Is(err, ErrSpent) {
			err = errFinished
		}
	}
	refusal, refused := errors.AsType[*Error](err)
	failed := refused && (refusal.Status == http.StatusUnauthorized || refusal.Status == http.StatusForbidden)
	settle(failed)
	if failed {
		v.e.observe(ctx, stageFailed(v.s, st.Type(), refusal))
	}
	if more, ok := errors.AsType[*Continue](err); ok {
		c := v.challenge(ctx, nil)
		if challenge, ok := c.(*Challenge); ok {
			challenge.Extra = more.Extra
		}
		return c
	}
	if refused && refusal.Status == http.StatusUnauthorized {
		return v.challenge(ctx, refusal)
	}
	return err
}

// changed reads the record again and reports whether another request has changed it.
func (v *visit) changed(ctx context.Context) (bool, error) {
	before := v.rec.Revision
	err := v.loadRecord(ctx)
	return v.rec.Revision != before, err
}

// complete records a stage that has passed, together with what it sets aside. If
// that completes a flow and claim is set, the record is leased in the same write.
func (v *visit) complete(ctx context.Context, st *stage, result json.RawMessage, claim bool) error {
	for range maxConflicts {
		held := result
		var last, saved draft
		nonce := rand.Text() // one for both, if the group is run twice: they are the same write
		err := v.e.group(ctx, func(ctx context.Context) (err error) {
			v.pinned = false
			if st.tx != nil {
				h, err := st.tx.Hold(ctx, v.claimOf(result))
				if err != nil {
					return err
				}
				held = h
			}
			next := v.opened()
			data := v.data.with(completion{st.Type(), held})
			if !v.lost { // else the stage was completed out of band
				data.Params = v.s.Params
			}
			if v.mine = claim && v.completedBy(data); v.mine {
				next, data = v.leased(data)
			}
			next.Owner = nonce
			last = draft{next, data}
			if saved, err = v.store(ctx, last); err != nil || !v.mine {
				return err
			}
			return v.beginEarly(ctx, saved)
		})
		if err == nil {
			v.adopt(saved.Record, saved.data)
			if st.tx != nil {
				v.e.observe(ctx, useEvent(EventUseHeld, st.Type(), v.claimOf(held)))
			}
			return nil
		}
		if _, refused := errors.AsType[*Error](err); refused || errors.Is(err, ErrSpent) {
			v.mine = false
			return err // nothing was set aside
		}
		conflict := errors.Is(err, ErrConflict)
		if loadErr := v.reloadRecord(ctx); loadErr != nil {
			// What was set aside may be what the record shows: it is left to lapse.
			v.mine = false
			return errors.Join(err, loadErr)
		}
		if last.wrote(v.rec) {
			return nil // the group was written, and only its answer lost
		}
		v.mine = false
		if conflict && v.awaits(st.Type()) {
			if err = v.resettle(); err == nil || !claim {
				continue
			}
			conflict = false
		}
		if st.tx != nil {
			// Another token may have been faster in this session, or the record could
			// not be written: what was set aside is not recorded and must not stay.
			v.release(ctx, st, held)
		}
		if conflict {
			return nil
		}
		return err
	}
	return errBusy
}

// beginEarly pins what the stages hold in the same group as the lease, which
// saves a store that groups writes a commit. Where one of them refuses, begin
// asks again, and knows what to do.
func (v *visit) beginEarly(ctx context.Context, saved draft) error {
	for _, c := range saved.data.Completed {
		st := v.e.stages[c.Type]
		if st == nil || st.tx == nil {
			continue
		}
		err := st.tx.Begin(ctx, TxClaim{Key: saved.Key, Run: saved.Run, Result: c.Result, Now: v.e.now()})
		if _, refused := errors.AsType[*Error](err); refused || errors.Is(err, ErrSpent) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	v.pinned = true
	return nil
}

// reloadRecord loads the record even if the client has gone, to clean up.
func (v *visit) reloadRecord(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	return v.loadRecord(ctx)
}

// awaits reports whether the stage can still be completed.
func (v *visit) awaits(typ string) bool {
	return (v.rec.State == Open || v.rec.Revision == 0) && isNext(v.flows, v.s.Completed, v.op.AnyOrder, typ)
}

func (v *visit) completedBy(data *recordData) bool {
	types := make([]string, len(data.Completed))
	for i, c := range data.Completed {
		types[i] = c.Type
	}
	return complete(v.flows, types, v.op.AnyOrder)
}

// takeLease takes the record for this request, to run the operation.
func (v *visit) takeLease(ctx context.Context) error {
	v.pinned = false // whatever it was, it was for another run
	next, data := v.leased(v.data)
	return v.save(ctx, next, data)
}

// claimOf returns the claim that this session has on what a stage set aside.
func (v *visit) claimOf(result json.RawMessage) TxClaim {
	return TxClaim{Key: v.s.Key, Run: v.rec.Run, Result: result, Now: v.e.now()}
}

// group makes several small writes in one, where the store gains by it.
func (e *Engine) group(ctx context.Context, fn func(context.Context) error) error {
	if g, ok := e.cfg.Sessions.(Grouper); ok {
		return g.Group(ctx, fn)
	}
	return fn(ctx)
}

// cleanupTime bounds what is done for a client that may have gone.
const cleanupTime = 15 * time.Second
