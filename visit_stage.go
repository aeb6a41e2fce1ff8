package uia

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/panics"
	"github.com/matrix-uia/uia/internal/record"
)

// attempt lets the stage look at the request, and records the stage as completed if it
// passes. If attempt returns nil, the stage is completed: by this request, or by another
// one that was faster.
func (v *visit) attempt(ctx context.Context, st *stage, mayRun bool) error {
	settle, err := v.e.charge(ctx, v.s.Client)
	if err != nil {
		return err
	}
	defer settle(false) // if the stage panics; after the first call it does nothing
	result, err := v.ask(ctx, st)
	if err == nil {
		err = v.complete(ctx, st, result, mayRun)
	}
	if errors.Is(err, ErrExhausted) || errors.Is(err, ErrSpent) {
		// The stage may have refused because another request of the same session has
		// already taken the use.
		if overtaken, loadErr := v.changed(ctx); loadErr != nil || overtaken {
			return loadErr
		}
		if errors.Is(err, ErrSpent) {
			err = errUnknownSession // the session's use is spent, and its record is gone
		}
	}
	refusal, refused := errors.AsType[*Error](err)
	failed := refused && refusal.guessed()
	settle(failed)
	if failed {
		v.e.observe(ctx, stageFailed(v.s, st.Type(), refusal))
	}
	more, unfinished := errors.AsType[*Continue](err)
	if !unfinished && !(refused && refusal.Status == http.StatusUnauthorized) {
		return err
	}
	if err := v.keepParams(ctx); err != nil {
		return err
	}
	if unfinished {
		c := v.challenge(ctx, nil)
		if challenge, ok := c.(*Challenge); ok {
			challenge.Extra = more.Extra
		}
		return c
	}
	return v.challenge(ctx, refusal)
}

// ask lets the stage look at the request, and the operation at what the stage has
// found. Nothing has been set aside then. A panic of either is an error.
func (v *visit) ask(ctx context.Context, st *stage) (result json.RawMessage, err error) {
	defer panics.ToError(&err)
	result, err = st.Attempt(ctx, v.s, v.auth.object)
	if err != nil {
		return nil, failedMember(err)
	}
	if v.op.Admit == nil {
		return result, nil
	}
	passed := *v.s
	passed.setCompleted(v.data.With(record.Completion{Type: st.Type(), Result: result}).Completed)
	return result, v.op.Admit(ctx, &passed)
}

// failedMember turns a stage's error about a member of its auth data into a failed
// attempt, so that the client can correct the member and try again.
func failedMember(err error) error {
	refusal, ok := errors.AsType[*Error](err)
	if !ok || refusal.Status != http.StatusBadRequest {
		return err
	}
	failed := *refusal
	failed.Status = http.StatusUnauthorized
	switch refusal.ErrCode {
	case spec.ErrorMissingParam, spec.ErrorInvalidParam:
	case spec.ErrorBadJSON:
		failed.ErrCode = spec.ErrorInvalidParam
	default:
		return err
	}
	return &failed
}

// guessed reports whether a stage has refused a wrong guess, which is charged to the
// client.
func (e *Error) guessed() bool {
	switch {
	case e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden:
		return false
	case e.ErrCode == spec.ErrorMissingParam, e.ErrCode == spec.ErrorInvalidParam:
		return false
	}
	return true
}

// keepParams keeps the parameters of a request whose stage did not pass, so that the
// client need not send them again: in the record, if the session has one. A session that
// has none has proved nothing, and costs no write.
func (v *visit) keepParams(ctx context.Context) error {
	if !v.sendsParams() || string(v.data.Params) == string(v.params) {
		return nil
	}
	if v.rec.Revision == 0 {
		if v.op.Mutable && len(v.params) <= record.MaxRemembered {
			v.e.recent.Keep(v.s.Key, v.params, v.s.Expires)
		}
		return nil
	}
	if v.rec.State != Open {
		return nil
	}
	data := *v.data
	data.Params = v.s.Params
	if err := v.save(ctx, v.opened(), &data); errors.Is(err, ErrConflict) {
		return v.loadRecord(ctx)
	} else if err != nil {
		return err
	}
	return nil
}

// completing is one try to record a stage that has passed.
type completing struct {
	held         json.RawMessage
	draft, saved draft
	lease        bool // the draft takes the lease
	pinned       bool
}

// complete records a stage that has passed, together with what it sets aside. If
// that completes a flow and mayRun is set, the same write takes the lease.
func (v *visit) complete(ctx context.Context, st *stage, result json.RawMessage, mayRun bool) error {
	for range maxConflicts {
		var last completing
		nonce := rand.Text() // one nonce, also if the group is run twice
		err := v.e.group(ctx, func(ctx context.Context) (err error) {
			last, err = v.tryComplete(ctx, st, result, nonce, mayRun)
			return err
		})
		v.owned, v.pinned, v.unsure = false, false, false
		if err == nil {
			v.adopt(last.saved.Record, last.saved.data)
			v.e.recent.Forget(v.s.Key)
			v.owned, v.pinned = last.lease, last.pinned
			if st.tx != nil {
				v.e.observe(ctx, useEvent(EventUseHeld, st.Type(), v.claimOf(last.held)))
			}
			return nil
		}
		if again, err := v.notCompleted(ctx, st, last, err, mayRun); !again {
			return err
		}
	}
	return errBusy
}

// notCompleted cleans up after one try of complete that returned err. It reports whether
// complete should try again, because another request has changed the record.
func (v *visit) notCompleted(ctx context.Context, st *stage, last completing, err error, mayRun bool) (again bool, _ error) {
	if _, refused := errors.AsType[*Error](err); refused || errors.Is(err, ErrSpent) {
		return false, err // nothing was set aside
	}
	if loadErr := v.reloadRecord(ctx); loadErr != nil {
		// The record could not be read, so it is not known whether it refers to this
		// hold. Leave the hold to lapse.
		return false, errors.Join(err, loadErr)
	}
	if last.draft.wrote(v.rec) {
		// The group was written, and only the answer to it was lost.
		v.owned, v.unsure = last.lease, last.lease
		return false, nil
	}
	holds := st.tx != nil && last.held != nil
	if !errors.Is(err, ErrConflict) {
		if holds { // another request of the session may be about to record the same thing
			v.loosen(ctx, st, last.held)
		}
		return false, err
	}
	settleErr := v.resettle()
	if v.awaits(st.Type()) && (settleErr == nil || !mayRun) {
		return true, nil
	}
	if holds { // another token was recorded in this session first: give this one back
		v.release(ctx, st, last.held)
	}
	return false, nil
}

// tryComplete makes the writes of complete once.
func (v *visit) tryComplete(ctx context.Context, st *stage, result json.RawMessage, nonce string, mayRun bool) (c completing, err error) {
	c.held = result
	if st.tx != nil {
		if c.held, err = st.tx.Hold(ctx, v.claimOf(result)); err != nil {
			return completing{}, err
		}
	}
	next := v.opened()
	data := v.data.With(record.Completion{Type: st.Type(), Result: c.held})
	if !v.paramsMissing { // otherwise the stage was completed by Complete, without the parameters
		data.Params = v.s.Params
	}
	if c.lease = mayRun && v.doneBy(data); c.lease {
		next, data = v.leased(data)
	}
	next.Owner = nonce
	c.draft = draft{next, data}
	if c.saved, err = v.store(ctx, c.draft); err != nil || !c.lease {
		return c, err
	}
	c.pinned, err = v.pinEarly(ctx, c.saved)
	return c, err
}

// pinEarly pins what the stages hold in the same group as the lease, which saves a store
// that groups writes a commit. It reports whether everything is pinned. If a stage
// refuses, nothing is decided here: the run asks that stage again and handles its
// refusal.
func (v *visit) pinEarly(ctx context.Context, saved draft) (bool, error) {
	for _, c := range saved.data.Completed {
		st := v.e.stages[c.Type]
		if st == nil || st.tx == nil {
			continue
		}
		err := st.tx.Begin(ctx, TxClaim{Key: saved.Key, Run: saved.Run, Result: c.Result, Now: v.e.now()})
		if _, refused := errors.AsType[*Error](err); refused || errors.Is(err, ErrSpent) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// awaits reports whether the stage can still be completed.
func (v *visit) awaits(typ string) bool {
	return (v.rec.State == Open || v.rec.Revision == 0) && flow.Awaits(v.s.Flows, v.s.Completed, v.op.AnyOrder, typ)
}

func (v *visit) doneBy(data *record.Data) bool {
	return flow.Done(v.s.Flows, data.Types(), v.op.AnyOrder)
}

// group combines several small writes in one where the store implements Grouper.
func (e *Engine) group(ctx context.Context, fn func(context.Context) error) error {
	if g, ok := e.cfg.Sessions.(Grouper); ok {
		return g.Group(ctx, fn)
	}
	return fn(ctx)
}
