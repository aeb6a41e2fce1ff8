package uia

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Caller says which operation a request is for, and who makes it. Its fields are
// those of Request.
type Caller struct {
	Operation string
	Subject   string
	Target    string
}

// Request reads an HTTP request, at most Config.MaxBody bytes of it. Its
// Content-Type does not matter.
func (e *Engine) Request(r *http.Request, c Caller) (Request, error) {
	out := Request{Operation: c.Operation, Subject: c.Subject, Target: c.Target}
	if e.cfg.Client != nil {
		out.Client = e.cfg.Client(r)
	}
	if r.Body == nil {
		return out, nil
	}
	tooLarge := NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: CodeTooLarge, Err: "The request body is too large."})
	if r.ContentLength > e.cfg.MaxBody {
		return out, tooLarge
	}
	var err error
	if r.ContentLength > 0 {
		out.Body = make([]byte, r.ContentLength)
		_, err = io.ReadFull(r.Body, out.Body)
	} else {
		out.Body, err = io.ReadAll(io.LimitReader(r.Body, e.cfg.MaxBody+1))
	}
	if err != nil {
		return out, &Error{Status: http.StatusBadRequest, MatrixError: spec.NotJSON("The request body could not be read."), Cause: err}
	}
	if int64(len(out.Body)) > e.cfg.MaxBody {
		return out, tooLarge
	}
	return out, nil
}

// Serve guards an endpoint: it reads the request, authenticates it, runs the
// operation as [Grant.Finish] does, and writes the answer.
func (e *Engine) Serve(w http.ResponseWriter, r *http.Request, c Caller, run func(context.Context, *Session) (Result, error)) {
	req, err := e.Request(r, c)
	var body json.RawMessage
	if err == nil {
		var g *Grant
		if g, err = e.Authenticate(r.Context(), req); err == nil {
			body, err = g.Finish(r.Context(), run)
		}
	}
	if err != nil {
		WriteError(w, err)
		return
	}
	WriteJSON(w, http.StatusOK, body)
}

// Authenticate takes a request one step further. It returns a Grant if the
// operation may run, or has run already: call its Finish. Otherwise it returns a
// *Challenge or an *Error, to be answered as [Answer] says.
func (e *Engine) Authenticate(ctx context.Context, r Request) (*Grant, error) {
	g, err := e.authenticate(ctx, r)
	if err != nil {
		return nil, e.told(ctx, err)
	}
	return g, nil
}

func (e *Engine) authenticate(ctx context.Context, r Request) (*Grant, error) {
	v, err := e.newVisit(r)
	if err != nil {
		return nil, err
	}
	if v.auth.session != "" {
		if err := v.resume(ctx, v.auth.session); err != nil {
			return nil, err
		}
		return v.proceed(ctx)
	}
	if err := v.open(ctx, r); err != nil {
		return nil, err
	}
	if v.auth.typ == "" {
		return nil, v.challenge(ctx, nil)
	}
	return v.step(ctx, nil, true)
}

// proceed handles a request of a session that exists.
func (v *visit) proceed(ctx context.Context) (*Grant, error) {
	for range maxConflicts {
		if v.rec.State == Done {
			return v.replay()
		}
		known, err := v.settleParams()
		if err != nil {
			return nil, err
		}
		if v.rec.State == Running {
			return v.step(ctx, nil, true)
		}
		// Check never sees a session whose operation runs, is done or may be: the
		// account just made would be in use.
		if v.op.Check != nil && !v.data.Doubt && !(known && v.poll()) {
			if err := v.op.Check(ctx, v.s); err != nil {
				if changed, loadErr := v.changed(ctx); loadErr != nil {
					return nil, loadErr
				} else if changed {
					continue // it may have been made just now, by another request of this session
				}
				return nil, err
			}
		}
		lost, err := v.renew(ctx)
		if err != nil {
			return nil, err
		}
		return v.step(ctx, lost, true)
	}
	return nil, errBusy
}

// step attempts the stage that the request is for, if it is one that can be
// attempted, and says what comes next. With claim a completed flow ends in a
// grant, otherwise in the challenge like any other step. lost is why an earlier
// stage does not hold any more; nil if all do.
func (v *visit) step(ctx context.Context, lost *Error, claim bool) (*Grant, error) {
	for range maxConflicts {
		typ := v.auth.typ
		switch done := typ == "" || v.s.Has(typ); {
		case v.rec.State == Done && done && claim:
			return v.replay()
		case v.rec.State == Running && done && claim:
			return &Grant{v: v}, nil
		case done && claim && complete(v.flows, v.s.Completed, v.op.AnyOrder):
			err := v.claim(ctx)
			if err == nil {
				return &Grant{v: v, owned: true}, nil
			}
			if !errors.Is(err, ErrConflict) {
				return nil, err
			}
			if err := v.loadRecord(ctx); err != nil {
				return nil, err
			}
			if err := v.resettle(); err != nil {
				return nil, err
			}
		case done:
			return nil, v.challenge(ctx, lost)
		case v.rec.State != Open && v.rec.Revision > 0, !isNext(v.flows, v.s.Completed, v.op.AnyOrder, typ):
			if lost == nil {
				lost = errOutOfOrder
			}
			return nil, v.challenge(ctx, lost)
		default:
			if err := v.attempt(ctx, v.e.stages[typ], claim); err != nil {
				return nil, err
			}
			if v.rec.State == Running && v.mine {
				return &Grant{v: v, owned: true}, nil
			}
			if err := v.resettle(); err != nil {
				return nil, err
			}
			lost = nil
		}
	}
	return nil, errBusy
}

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
		v.e.emit(ctx, stageFailed(v.s, st.Type(), refusal))
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
// that completes a flow and claim is set, the record is claimed in the same write.
func (v *visit) complete(ctx context.Context, st *stage, result json.RawMessage, claim bool) error {
	for range maxConflicts {
		held := result
		var saved Record
		var data *recordData
		v.nonce = ""
		err := v.e.group(ctx, func(ctx context.Context) (err error) {
			if st.tx != nil {
				h, err := st.tx.Hold(ctx, v.claimOf(result))
				if err != nil {
					return err
				}
				held = h
			}
			next := v.opened()
			data = v.data.with(completion{st.Type(), held})
			if !v.lost { // else the stage was completed out of band
				data.Params = v.s.Params
			}
			if v.mine = claim && v.completedBy(data); v.mine {
				next, data = v.claimed(data)
			}
			saved, err = v.store(ctx, next, data)
			return err
		})
		if err == nil {
			v.adopt(saved, data)
			if st.tx != nil {
				v.e.emit(ctx, UseHeld{about(v.s.Key, st.Type()), heldToken(held)})
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
		if v.nonce != "" && v.rec.Owner == v.nonce {
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

// claim claims the record for this request.
func (v *visit) claim(ctx context.Context) error {
	next, data := v.claimed(v.data)
	return v.save(ctx, next, data)
}

// claimOf returns the claim that this session has on what a stage set aside.
func (v *visit) claimOf(result json.RawMessage) TxClaim {
	return TxClaim{Key: v.s.Key, Attempt: v.rec.Attempt, Result: result, Now: v.e.now()}
}

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
				v.e.emit(ctx, UseReleased{about(v.s.Key, st.Type()), heldToken(c.Result)})
			}
		}
	}
	return nil
}

// group makes several small writes in one, where the store gains by it.
func (e *Engine) group(ctx context.Context, fn func(context.Context) error) error {
	if g, ok := e.cfg.Sessions.(Grouper); ok {
		return g.Group(ctx, fn)
	}
	return fn(ctx)
}

// Completion is a stage that was completed by other means than the client's
// request, such as a link in a mail or a single sign-on.
type Completion struct {
	Session string          // the session's ID
	Type    string          // the stage's auth type
	Result  json.RawMessage // as of Stage.Attempt; nil for none
}

// Complete records a stage as completed: the client's next request finds it so
// (Client-Server API: "Some authentication types may be completed by means other
// than through the Matrix client"). A stage that is completed already is left as
// it is. The error is an *Error: 400 for a session that is unknown or has expired,
// 403 for one that does not wait for this stage.
func (e *Engine) Complete(ctx context.Context, c Completion) error {
	v, err := e.find(ctx, c.Session)
	if err == nil && !v.s.Has(c.Type) {
		switch {
		case !v.awaits(c.Type):
			err = NewError(http.StatusForbidden, spec.Forbidden("The session does not wait for this stage."))
		default:
			err = v.complete(ctx, e.stages[c.Type], c.Result, false)
		}
	}
	return e.told(ctx, err)
}

// Session returns the session of this ID as it is now, for hosts that want to know
// how far it is: whether it has passed the token stage before a mail is sent, for
// example. The error is an *Error: 400 if it is unknown or has expired, 403 if it
// is finished.
func (e *Engine) Session(ctx context.Context, id string) (*Session, error) {
	v, err := e.find(ctx, id)
	if err != nil {
		return nil, e.told(ctx, err)
	}
	return v.s, nil
}

// find opens a session of which only the ID is known.
func (e *Engine) find(ctx context.Context, id string) (*visit, error) {
	now := e.now()
	t, _, _, err := unseal(e.ring, id)
	if err != nil || e.operations[t.operation] == nil || now.UnixMilli() >= t.expires {
		return nil, errUnknownSession
	}
	v := &visit{e: e, op: e.operations[t.operation], data: &recordData{}, params: []byte("{}"), body: []byte("{}")}
	v.s = &Session{Operation: t.operation, Subject: t.subject, Target: t.target, Params: v.params, Now: now}
	if err := v.resume(ctx, id); err != nil {
		return nil, err
	}
	switch {
	case v.data.Dead:
		return nil, errUnknownSession
	case v.rec.State == Done:
		return nil, errFinished
	}
	if _, err := v.settleParams(); err != nil && err != errMissingParams {
		return nil, err
	}
	return v, nil
}

// cleanupTime bounds what is done for a client that may have gone.
const cleanupTime = 15 * time.Second
