package uia

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/canonical"
	"github.com/matrix-uia/uia/internal/seal"
	"github.com/matrix-uia/uia/internal/wire"
)

const (
	maxTarget  = 1024
	maxOpening = 512
	// maxRemembered bounds the parameters that a session ID carries.
	maxRemembered = 1024
)

var (
	errUnknownSession = NewError(http.StatusBadRequest, spec.Unknown("The session is unknown or has expired. Please start again."))
	errOtherSession   = NewError(http.StatusForbidden, spec.Forbidden("The session belongs to another request."))
	errFinished       = NewError(http.StatusForbidden, spec.Forbidden("The session is finished."))
	errChangedParams  = NewError(http.StatusForbidden, spec.Forbidden("The parameters have changed since the session was opened."))
	errMissingParams  = NewError(http.StatusBadRequest, spec.MissingParam("The parameters of the request are missing."))
	errLongTarget     = NewError(http.StatusBadRequest, spec.InvalidParam("The path names something that is too long."))
)

// Why a challenge is sent once more. They have status 401 and end in challenges.
var (
	errOutOfOrder = &Error{Status: http.StatusUnauthorized, MatrixError: spec.Forbidden("This stage cannot be completed now.")}
	errLostStage  = &Error{Status: http.StatusUnauthorized, MatrixError: spec.MatrixError{
		ErrCode: wire.CodeUnauthorized, Err: "A completed stage does not hold any more and must be repeated.",
	}}
)

// visit is the work of one request on one session.
type visit struct {
	e      *Engine
	op     *operation
	keys   *seal.Keys
	ticket *seal.Ticket
	flows  []Flow
	rec    Record      // Revision 0: there is none
	data   *recordData // never nil
	s      *Session

	body   []byte // canonical
	params []byte // the body without auth
	auth   authData
	mine   bool // this request has leased the record
	pinned bool // and pinned what the stages hold
	lost   bool // params were sent at the start, and are neither sent again nor remembered
}

// newVisit reads the request as far as it can be read without its session.
func (e *Engine) newVisit(r Request) (*visit, error) {
	v := &visit{e: e, op: e.operations[r.Operation], data: &recordData{}}
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

// open starts a session for the request. It writes nothing.
func (v *visit) open(ctx context.Context, r Request) error {
	if v.op.Check != nil {
		if err := v.op.Check(ctx, v.s); err != nil {
			return err
		}
	}
	keys, err := v.e.keys(ctx, v.s.Now)
	if err != nil {
		return err
	}
	v.flows, v.keys = v.op.Flows, keys[0]
	v.s.Expires = v.s.Now.Add(v.e.cfg.SessionTTL)
	v.ticket = &seal.Ticket{
		Expires: v.s.Expires.UnixMilli(), Operation: r.Operation, Subject: r.Subject, Target: r.Target,
		Flows: v.op.digest,
	}
	opening := v.op.opening
	if v.op.FlowsFor != nil {
		flows, err := v.op.FlowsFor(ctx, r)
		if err != nil {
			return err
		}
		if len(flows) == 0 {
			return errors.New("uia: FlowsFor returned no flow for operation " + r.Operation)
		}
		if err := v.e.checkFlows(flows, v.op.AnyOrder); err != nil {
			return err
		}
		v.flows = flows
		v.ticket.Flows, _ = json.Marshal(flows) // strings always encode
		opening = slices.DeleteFunc(v.e.stagesOf(flows), func(s *stage) bool { return s.opening == nil })
	}
	v.s.Flows = v.flows
	if len(v.params) > len("{}") {
		v.ticket.Digest = paramsDigest(v.params)
		v.ticket.Remembered = remember(v.params, v.op.Remember)
		if !v.op.Mutable && len(v.ticket.Remembered) < len(v.params) {
			v.ticket.Remembered = nil // a part of frozen parameters is other parameters
		}
	}
	for _, st := range opening {
		state, err := st.opening.Opening(ctx, v.s)
		if err != nil {
			return err
		}
		if len(state) > maxOpening {
			return errors.New("uia: the opening of stage " + st.Type() + " is too long")
		}
		if state != "" {
			v.ticket.Openings = append(v.ticket.Openings, st.Type(), state)
		}
	}
	id, digest := v.keys.SealTicket(v.ticket)
	if len(id) > seal.MaxID {
		return errors.New("uia: the session of operation " + r.Operation + " is too large to be sealed")
	}
	v.s.ID, v.s.Key, v.s.openings = id, sessionKey(r.Operation, digest), v.ticket.Openings
	v.rec.Key = v.s.Key
	return nil
}

// remember returns the named members of the parameters; nil if they are none or
// too large to be carried by a session ID.
func remember(params []byte, names []string) []byte {
	out := make([]byte, 0, len(params))
	for name, value := range canonical.Members(params) {
		if slices.Contains(names, string(name[1:len(name)-1])) {
			out = append(append(append(append(out, ','), name...), ':'), value...)
		}
	}
	if len(out) == 0 || len(out) >= maxRemembered {
		return nil
	}
	out[0] = '{'
	return append(out, '}')
}

// resume opens the session that the request names, and its record.
func (v *visit) resume(ctx context.Context, id string) error {
	if err := v.unseal(ctx, id); err != nil {
		return err
	}
	return v.loadRecord(ctx)
}

// unseal opens the session's ID. What the request says of operation, subject and
// target must agree with it.
func (v *visit) unseal(ctx context.Context, id string) error {
	keys, err := v.e.keys(ctx, v.s.Now)
	if err != nil {
		return err
	}
	t, k, digest, err := seal.OpenTicket(keys, id)
	if err != nil || v.s.Now.UnixMilli() >= t.Expires {
		return errUnknownSession
	}
	if t.Operation != v.s.Operation || t.Subject != v.s.Subject || t.Target != v.s.Target {
		return errOtherSession
	}
	v.ticket, v.keys = t, k
	v.s.ID, v.s.Key, v.s.openings = id, sessionKey(t.Operation, digest), t.Openings
	v.s.Expires = time.UnixMilli(t.Expires).UTC()
	if v.op.FlowsFor == nil {
		// A flow that the configuration no longer offers ends its sessions at once:
		// that is how registration is closed.
		if !bytes.Equal(t.Flows, v.op.digest) {
			return errUnknownSession
		}
		v.flows, v.s.Flows = v.op.Flows, v.op.Flows
		return nil
	}
	if json.Unmarshal(t.Flows, &v.flows) != nil || len(v.flows) == 0 || v.e.checkFlows(v.flows, v.op.AnyOrder) != nil {
		return errUnknownSession
	}
	v.s.Flows = v.flows
	return nil
}

// poll reports whether the request carries nothing but the session.
func (v *visit) poll() bool { return v.auth.typ == "" }

// settleParams decides which parameters count. It reports whether they are those
// that the session already had.
func (v *visit) settleParams() (known bool, err error) {
	remembered := []byte(v.data.Params)
	if remembered == nil {
		remembered = v.ticket.Remembered
	}
	if len(v.params) == len("{}") {
		switch {
		case remembered != nil:
			v.s.Params = remembered
		case len(v.ticket.Digest) > 0 && v.data.Params == nil:
			v.lost = true
			if !v.poll() || complete(v.flows, v.s.Completed, v.op.AnyOrder) {
				return false, errMissingParams // a poll before that runs nothing
			}
		}
		return true, nil
	}
	if !v.op.Mutable {
		digest := paramsDigest(v.params)
		switch {
		case len(v.data.Params) > len("{}"):
			known = bytes.Equal(digest, paramsDigest(v.data.Params))
			if !known && !bytes.Equal(digest, v.ticket.Digest) {
				return false, errChangedParams
			}
		case len(v.ticket.Digest) > 0 && !bytes.Equal(digest, v.ticket.Digest):
			return false, errChangedParams
		}
	}
	return known || bytes.Equal(v.params, remembered), nil
}

// resettle settles the parameters once more when another request may have changed
// the record: it may have frozen others than this one brings.
func (v *visit) resettle() error {
	if v.rec.State == Done || v.rec.Revision == 0 {
		return nil
	}
	_, err := v.settleParams()
	return err
}

// replay answers a request to a finished session: the request that finished it,
// sent again, gets the same response, and so does a poll that repeats its
// parameters. A poll without any proves nothing: session IDs reach proxy logs.
func (v *visit) replay() (*Grant, error) {
	switch {
	case v.data.Dead:
		return nil, errUnknownSession
	case v.data.Response == nil, v.s.Now.UnixMilli()-v.data.Finished >= replayWindow.Milliseconds():
		return nil, errFinished
	case hmac.Equal(v.data.Request, v.keys.MAC(v.s.Key, v.body)),
		v.poll() && v.data.Sent != nil && hmac.Equal(v.data.Sent, v.keys.MAC(v.s.Key, v.params)):
		return &Grant{v: v, response: v.data.Response}, nil
	}
	return nil, errFinished
}

// challenge returns the 401 that the session's state calls for. why may be nil.
func (v *visit) challenge(ctx context.Context, why *Error) error {
	c := &Challenge{Flows: v.flows, Session: v.s.ID, Completed: v.s.Completed}
	stages := v.op.params
	if v.op.FlowsFor != nil {
		stages = v.e.stagesOf(v.flows)
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
