package uia

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/record"
	"github.com/matrix-uia/uia/internal/seal"
)

const maxTarget = 1024

var (
	errUnknownSession = NewError(http.StatusBadRequest, spec.Unknown("The session is unknown or has expired. Please start again."))
	errOtherSession   = NewError(http.StatusForbidden, spec.Forbidden("The session belongs to another request."))
	errLongTarget     = NewError(http.StatusBadRequest, spec.InvalidParam("The path names something that is too long."))
)

// errPast says that a session ID is authentic and that its time is over.
var errPast = errors.New("uia: the session's time is over")

// visit is the way of one request through one session.
type visit struct {
	e      *Engine
	op     *operation
	keys   *seal.Keys
	ticket *seal.Ticket
	rec    Record       // Revision 0: there is none
	data   *record.Data // never nil
	s      *Session

	body   []byte // canonical
	params []byte // the body without auth
	auth   authData

	// fresh says that the request named a session whose time was over, and that this one
	// is new.
	fresh bool
	// paramsMissing says that parameters were sent when the session was opened, and are
	// neither sent again nor remembered.
	paramsMissing bool
	// owned says that this request has taken the lease of the record. pinned says that it
	// has also pinned what the stages hold. unsure says that it may have pinned them.
	owned, pinned, unsure bool
}

// newVisit reads the parts of the request that can be read without its session.
func (e *Engine) newVisit(r Request) (*visit, error) {
	v := &visit{e: e, op: e.operations[r.Operation], data: &record.Data{}}
	if v.op == nil {
		return nil, errors.New("uia: no operation is named " + r.Operation)
	}
	if len(r.Target) > maxTarget {
		return nil, errLongTarget
	}
	var err error
	if v.body, err = readObject(r.Body); err != nil {
		return nil, err
	}
	if v.params, v.auth, err = splitAuth(v.body); err != nil {
		return nil, err
	}
	v.s = &Session{
		Operation: r.Operation, Subject: r.Subject, Target: r.Target, Client: r.Client,
		Params: v.params, Now: e.now(), describe: v.op.Describe, anyOrder: v.op.AnyOrder,
	}
	return v, nil
}

// poll reports whether the request carries nothing but the session.
func (v *visit) poll() bool { return v.auth.typ == "" }

// sendsParams reports whether the request brings parameters.
func (v *visit) sendsParams() bool { return record.HasMembers(v.params) }

// start begins a session for the request. It writes nothing.
func (v *visit) start(ctx context.Context) error {
	if v.op.FlowsFor == nil && len(v.op.Flows) == 0 {
		return errClosed
	}
	if v.op.Check != nil {
		if err := v.op.Check(ctx, v.s); err != nil {
			return err
		}
	}
	keys, err := v.e.keys(ctx, v.s.Now)
	if err != nil {
		return err
	}
	v.keys = keys[0]
	v.s.Expires = v.s.Now.Add(v.e.cfg.SessionTTL)
	v.ticket = &seal.Ticket{
		Expires: v.s.Expires.UnixMilli(), Operation: v.s.Operation, Subject: v.s.Subject, Target: v.s.Target,
		Flows: v.op.digest,
	}
	v.s.Flows = v.op.Flows
	if v.op.FlowsFor != nil {
		var err error
		if v.s.Flows, err = v.offered(ctx); err != nil {
			return err
		}
		v.ticket.Flows, _ = json.Marshal(v.s.Flows) // strings always encode
	}
	if v.sendsParams() {
		v.ticket.Digest = record.Digest(v.params)
		v.ticket.Remembered = record.Remembered(v.params, v.op.Remember, v.op.Mutable)
	}
	if err := v.addOpenings(ctx); err != nil {
		return err
	}
	id, digest := v.keys.SealTicket(v.ticket)
	if len(id) > seal.MaxID {
		return errors.New("uia: the session of operation " + v.s.Operation + " is too large to be sealed")
	}
	v.s.ID, v.s.Key, v.s.openings = id, sessionKey(v.s.Operation, digest), v.ticket.Openings
	v.rec.Key = v.s.Key
	return nil
}

// restart begins a session for a request that names one whose time is over.
func (v *visit) restart(ctx context.Context) error {
	v.fresh = true
	v.rec, v.data = Record{}, &record.Data{}
	v.s.setCompleted(nil)
	v.s.Params = v.params
	return v.start(ctx)
}

// offered returns the flows that FlowsFor offers for this request.
func (v *visit) offered(ctx context.Context) ([]Flow, error) {
	flows, err := v.op.FlowsFor(ctx, Request{Operation: v.s.Operation, Subject: v.s.Subject, Target: v.s.Target, Client: v.s.Client, Body: v.body})
	if err != nil {
		return nil, err
	}
	if len(flows) == 0 {
		return nil, errClosed
	}
	return flows, flow.Check(flows, v.op.AnyOrder, v.e.stages.has)
}

// addOpenings lets the stages of the session's flows remember what they need to
// know of the moment it was opened.
func (v *visit) addOpenings(ctx context.Context) error {
	opening := v.op.opening
	if v.op.FlowsFor != nil {
		opening = slices.DeleteFunc(v.e.stages.of(v.s.Flows), func(s *stage) bool { return s.opening == nil })
	}
	for _, st := range opening {
		state, err := st.opening.Opening(ctx, v.s)
		if err != nil {
			return err
		}
		if len(state) > seal.MaxOpening {
			return errors.New("uia: the opening of stage " + st.Type() + " is too long")
		}
		if state != "" {
			v.ticket.Openings = append(v.ticket.Openings, st.Type(), state)
		}
	}
	return nil
}

// unseal opens the session's ID. What the request says of operation, subject and target
// must agree with it. If the session's time is over it returns errPast, and opens the
// session all the same.
func (v *visit) unseal(ctx context.Context, id string) error {
	keys, err := v.e.keys(ctx, v.s.Now)
	if err != nil {
		return err
	}
	t, k, digest, err := seal.OpenTicket(keys, id)
	if err != nil {
		return errUnknownSession
	}
	if t.Operation != v.s.Operation || t.Subject != v.s.Subject || t.Target != v.s.Target {
		return errOtherSession
	}
	v.ticket, v.keys = t, k
	v.s.ID, v.s.Key, v.s.openings = id, sessionKey(t.Operation, digest), t.Openings
	v.s.Expires = time.UnixMilli(t.Expires).UTC()
	if v.s.Flows, err = v.sealedFlows(ctx); err != nil {
		return err
	}
	if v.s.Now.UnixMilli() >= t.Expires {
		return errPast
	}
	return nil
}

// sealedFlows returns the flows of the session. When a flow is no longer offered, its
// sessions end at once: that is how registration is closed. The check also stops an
// attacker who can seal session IDs, because a secret has leaked, from making up flows.
func (v *visit) sealedFlows(ctx context.Context) ([]Flow, error) {
	if v.op.FlowsFor == nil {
		if len(v.op.Flows) == 0 || !bytes.Equal(v.ticket.Flows, v.op.digest) {
			return nil, errUnknownSession
		}
		return v.op.Flows, nil
	}
	var sealed []Flow
	if json.Unmarshal(v.ticket.Flows, &sealed) != nil || len(sealed) == 0 {
		return nil, errUnknownSession
	}
	offered, err := v.offered(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range sealed {
		if !slices.ContainsFunc(offered, func(o Flow) bool { return slices.Equal(o, f) }) {
			return nil, errUnknownSession
		}
	}
	return sealed, nil
}

// challenge returns the 401 that the session's state calls for. why, which may be
// nil, says what has failed.
func (v *visit) challenge(ctx context.Context, why *Error) error {
	c := &Challenge{Flows: v.s.Flows, Session: v.s.ID, Completed: v.s.Completed}
	stages := v.op.params
	if v.op.FlowsFor != nil {
		stages = v.e.stages.of(v.s.Flows)
	} else {
		c.flowsJSON = v.op.flowsJSON
	}
	for _, st := range stages {
		if st.params == nil {
			continue
		}
		params, err := st.params.Params(ctx, v.s)
		if err != nil {
			return err
		}
		if params != nil {
			if c.Params == nil {
				c.Params = make(map[string]json.RawMessage, len(stages))
			}
			c.Params[st.Type()] = params
		}
	}
	if why != nil {
		c.ErrCode, c.Message, c.Cause = why.ErrCode, why.Err, why.Cause
	}
	return c
}
