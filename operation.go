package uia

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Operation is one guarded endpoint.
type Operation struct {
	// Name is sealed into the sessions of the operation, and begins their keys: 1
	// to 32 of the characters a-z 0-9 _
	Name string
	// Flows are offered in this order. Without any, and without FlowsFor, the operation
	// is closed: each request is answered with 403 M_FORBIDDEN.
	Flows []Flow
	// FlowsFor returns the flows for one request, where they depend on the user. It is
	// called when a session is opened, which keeps them, and again for each of its
	// requests: a session with a flow that is not offered any more is unknown. It must
	// depend on nothing of the request but Subject and Target. No flows close the
	// operation.
	FlowsFor func(ctx context.Context, r Request) ([]Flow, error)
	// Mutable lets the parameters of a later request replace those of an earlier
	// one, as /register needs: clients send username and password when they have
	// them. Otherwise a session is good for the parameters it was opened with, or
	// if it was opened without any, for those of the first completed stage, which may
	// be none.
	Mutable bool
	// Remember names the parameters that the session ID carries, so that a client
	// may leave them out later. They are remembered together, if they fit 1 KiB;
	// without Mutable only if they are all that the request had.
	Remember []string
	// AnyOrder accepts the stages of a flow out of order. The specification says
	// that they must be completed in order.
	AnyOrder bool
	// Check looks at Session.Params before any authentication, and returns an
	// *Error to refuse them. It runs for each request that brings parameters, but
	// not for a session whose operation runs or is done. Nil accepts all.
	Check func(ctx context.Context, s *Session) error
	// Admit looks at Session.Params together with what the completed stages have found
	// (Session.Result), and returns an *Error to refuse: a token that is only good for
	// another name, for example. It is called when a stage has passed, before anything
	// is set aside and without charging the client, and for each later request that
	// brings other parameters. Nil admits all.
	Admit func(ctx context.Context, s *Session) error
	// Prepare does what takes long before the operation runs, such as hashing a
	// password: with Tx before the transaction begins. It is called once a run. What it
	// returns is Session.Prepared in the operation; its errors are the operation's. Nil
	// prepares nothing.
	Prepare func(ctx context.Context, s *Session) (any, error)
	// Tx has the operation run in a transaction of Config.Sessions, which must be a
	// [TxStore] and the Store of the TokenStages: what it writes, what the stages spend
	// and the session's record are committed together. Then nothing is ever in doubt,
	// and neither Resolve nor a unique index on Session.Key is needed. The operation
	// may be called again if the transaction is, and any error of it rolls back.
	Tx bool
	// Resolve tells whether the operation of the session with this key took
	// effect. It is asked after a crash, a timeout or an unexpected error, and may
	// answer "no" only once that key can never succeed again: for example after
	// putting a tombstone under the unique index of the keys. Required if a flow
	// has a TxStage, unless Tx is set.
	Resolve func(ctx context.Context, key string) (Outcome, error)
	// Describe says in a few words what is being authorised ("create the account
	// @alice:example.org"), for the fallback page. Nil shows the Name.
	Describe func(*Session) string
}

// Outcome is what became of an operation.
type Outcome struct {
	// Done says that it took effect, for UserID.
	Done   bool
	UserID string
	// Body is the response for the client, if it can be told again; nil if not.
	Body any
}

// NotDone is the Resolve of an operation that runs in a transaction (Operation.Tx,
// which sets it): what its transaction did not commit has not happened, and never
// will, because the transaction carries the run's number.
func NotDone(context.Context, string) (Outcome, error) { return Outcome{}, nil }

// errClosed answers for an operation without flows.
var errClosed = NewError(http.StatusForbidden, spec.Forbidden("This is not available."))

// operation is an Operation with what can be worked out beforehand.
type operation struct {
	Operation
	digest    []byte // of the static flows
	flowsJSON []byte
	opening   []*stage // the stages of the static flows that remember something
	params    []*stage // those that have public parameters
}

func (e *Engine) newOperation(o Operation) (*operation, error) {
	var mistakes []error
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if !validOperationName(o.Name) {
		mistake("a name is 1 to 32 of the characters a-z 0-9 _")
	}
	if len(o.Flows) > 0 && o.FlowsFor != nil {
		mistake("Flows and FlowsFor cannot both be set")
	}
	o.Flows = slices.Clone(o.Flows)
	for i, f := range o.Flows {
		o.Flows[i] = slices.Clone(f)
	}
	mistakes = append(mistakes, e.checkFlows(o.Flows, o.AnyOrder))
	mayHold := o.FlowsFor != nil && slices.ContainsFunc(e.cfg.Stages, func(s Stage) bool { _, ok := s.(TxStage); return ok })
	op := &operation{Operation: o, digest: flowsDigest(o.Flows, o.AnyOrder), flowsJSON: encodeFlows(o.Flows)}
	for _, s := range e.stagesOf(o.Flows) {
		mayHold = mayHold || s.tx != nil
		if s.opening != nil {
			op.opening = append(op.opening, s)
		}
		if s.params != nil {
			op.params = append(op.params, s)
		}
	}
	switch {
	case o.Tx:
		if o.Resolve == nil {
			op.Resolve = NotDone
		}
		if err := e.checkTx(); err != nil {
			mistake("Tx: %w", err)
		}
	case mayHold && o.Resolve == nil:
		mistake("Resolve is required, because a stage sets something aside; or Tx, if the operation writes in a transaction of Sessions")
	}
	for _, typ := range e.freeFirst(o) {
		e.log.Warn("uia: sessions may begin with a stage that everybody passes: each costs a database write", "operation", o.Name, "stage", typ)
	}
	return op, errors.Join(mistakes...)
}

// checkTx returns what keeps operations from running in a transaction.
func (e *Engine) checkTx() error {
	if e.cfg.Sessions == nil {
		return nil // which is reported by itself
	}
	txs, ok := e.cfg.Sessions.(TxStore)
	if !ok {
		return fmt.Errorf("%T in Sessions has no InTx", e.cfg.Sessions)
	}
	e.txs = txs
	for _, s := range e.cfg.Stages {
		if t, ok := s.(*TokenStage); ok && t != nil && t.Store != nil && !same(t.Store, e.cfg.Sessions) {
			return fmt.Errorf("the Store of stage %q is not Sessions, and so is not in its transactions", t.Type())
		}
	}
	return nil
}

// same reports whether two stores are one.
func same(a, b any) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Comparable() && a == b
}

// freeFirst returns the auth types of the stages that everybody passes and with which
// a session of the operation can begin.
func (e *Engine) freeFirst(o Operation) (out []string) {
	note := func(typ string) {
		if st := e.stages[typ]; st != nil && st.free && !slices.Contains(out, typ) {
			out = append(out, typ)
		}
	}
	for _, f := range o.Flows {
		for i, typ := range f {
			if i == 0 || o.AnyOrder {
				note(typ)
			}
		}
	}
	if o.FlowsFor != nil {
		for _, s := range e.cfg.Stages {
			if s != nil {
				note(s.Type())
			}
		}
	}
	return out
}

func validOperationName(name string) bool {
	if name == "" || len(name) > 32 {
		return false
	}
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return true
}
