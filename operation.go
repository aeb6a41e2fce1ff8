package uia

import (
	"context"
	"maps"
	"net/http"
	"reflect"
	"slices"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/flow"
	"github.com/matrix-uia/uia/internal/mistake"
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
	// requests: a session with a flow that is no longer offered is answered like an
	// unknown one. It must depend on nothing of the request but Subject and Target. If it
	// returns no flows, the operation is closed for the request.
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
	// Prepare does what takes long before the operation runs, such as hashing a password:
	// with Tx before the transaction begins. It is called once for each run. The
	// operation finds its result in Session.Prepared; its errors count as errors of the
	// operation. Nil prepares nothing.
	Prepare func(ctx context.Context, s *Session) (any, error)
	// Tx has the operation run in a transaction of Config.Sessions, which must be a
	// [TxStore] and the Store of the TokenStages: what it writes, what the stages spend
	// and the session's record are committed together. Then nothing is ever in doubt, and
	// neither Resolve nor a unique index on Session.Key is needed. If the database has
	// the transaction repeated, the operation is called again. Any error of the operation
	// rolls back.
	Tx bool
	// Resolve tells whether the operation of the session with this key took
	// effect. It is asked after a crash, a timeout or an unexpected error, and may
	// answer "no" only once that key can never succeed again: for example after
	// putting a tombstone under the unique index of the keys. Required if a flow
	// has a TxStage, unless Tx is set.
	Resolve func(ctx context.Context, key string) (Outcome, error)
	// Configured reports what is wrong with what the operation is made of, so that New
	// finds it together with every other mistake. Nil reports nothing.
	Configured func() error
	// Describe says in a few words what is being authorised, for the fallback page:
	//
	//	return say("create the account {user}", "user", "@alice:example.org")
	//
	// say translates what package catalog has. Nil shows the Name.
	Describe func(s *Session, say form.Say) string
}

// Outcome is what became of an operation.
type Outcome struct {
	// Done says that it took effect, for UserID.
	Done   bool
	UserID string
	// Body is the response for the client, if Resolve can still make it; nil if not.
	Body any
	// Again says that the operation can make the response, if Body is nil: it is run again
	// in the session, and returns what it has made. A client that comes back after a crash
	// then gets a response, with a new login for example. If the first response was told
	// and could not be recorded, the client gets two that differ.
	Again bool
}

// NotDone is the Resolve of an operation that runs in a transaction; Operation.Tx sets
// it. What the transaction did not commit has not happened, and never will, because the
// transaction carries the run's number.
func NotDone(context.Context, string) (Outcome, error) { return Outcome{}, nil }

// errClosed answers for an operation without flows.
var errClosed = NewError(http.StatusForbidden, spec.Forbidden("This is not available."))

// operation is an Operation with everything that can be computed when the engine is made.
type operation struct {
	Operation
	digest    []byte // of the static flows
	flowsJSON []byte
	opening   []*stage // the stages of the static flows that remember something
	params    []*stage // those that have public parameters
}

// newOperation checks an Operation and computes what can be computed before the first
// request. The error joins the mistakes. The flows name stages of this set, and
// transactions are those of sessions.
func newOperation(o Operation, stages stageSet, sessions SessionStore) (*operation, error) {
	var m mistake.List
	if !validOperationName(o.Name) {
		m.Addf("a name is 1 to 32 of the characters a-z 0-9 _")
	}
	if len(o.Flows) > 0 && o.FlowsFor != nil {
		m.Addf("Flows and FlowsFor cannot both be set")
	}
	m.Add("", flow.Check(o.Flows, o.AnyOrder, stages.has))
	o.Flows = slices.Clone(o.Flows)
	for i, f := range o.Flows {
		o.Flows[i] = slices.Clone(f)
	}
	op := &operation{Operation: o, digest: flow.Digest(o.Flows, o.AnyOrder), flowsJSON: flow.Encode(o.Flows)}
	for _, s := range stages.of(o.Flows) {
		if s.opening != nil {
			op.opening = append(op.opening, s)
		}
		if s.params != nil {
			op.params = append(op.params, s)
		}
	}
	if o.Configured != nil {
		m.Add("", o.Configured())
	}
	op.settleDoubt(stages, sessions, &m)
	op.guard()
	return op, m.Err()
}

// settleDoubt makes sure that the operation can say whether one of its runs took effect.
func (op *operation) settleDoubt(stages stageSet, sessions SessionStore, m *mistake.List) {
	if op.Tx {
		if op.Resolve == nil {
			op.Resolve = NotDone
		}
		checkTx(stages, sessions, m)
		return
	}
	mayHold := holds(slices.Values(stages.of(op.Flows))) || op.FlowsFor != nil && holds(maps.Values(stages))
	if mayHold && op.Resolve == nil {
		m.Addf("Resolve is required, because a stage sets something aside; or Tx, if the operation writes in a transaction of Sessions")
	}
}

// checkTx finds what keeps operations from running in a transaction.
func checkTx(stages stageSet, sessions SessionStore, m *mistake.List) {
	if mistake.IsNil(sessions) {
		return // a missing Store is reported elsewhere
	}
	if _, ok := sessions.(TxStore); !ok {
		m.Addf("Tx: %T in Sessions has no InTx", sessions)
		return
	}
	for _, typ := range slices.Sorted(maps.Keys(stages)) {
		if t, ok := stages[typ].Stage.(*TokenStage); ok && t != nil && t.Store != nil && !same(t.Store, sessions) {
			m.Addf("Tx: the Store of stage %q is not Sessions, and so is not in its transactions", t.Type())
		}
	}
}

// same reports whether two stores are the same value.
func same(a, b any) bool {
	t := reflect.TypeOf(a)
	return t == reflect.TypeOf(b) && t.Comparable() && a == b
}

// freeFirst returns the auth types of the stages that everybody passes and with which
// a session of the operation can begin.
func (op *operation) freeFirst(stages stageSet) (out []string) {
	first := slices.Sorted(maps.Keys(stages)) // FlowsFor may return any of them
	if op.FlowsFor == nil {
		first = flow.Next(op.Flows, nil, op.AnyOrder)
	}
	for _, typ := range first {
		if s := stages[typ]; s != nil && s.free {
			out = append(out, typ)
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
