package uia

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Operation is one guarded endpoint.
type Operation struct {
	// Name is sealed into the sessions of the operation, and begins their keys: 1
	// to 32 of the characters a-z 0-9 _
	Name string
	// Flows are offered in this order. Either they or FlowsFor are required.
	Flows []Flow
	// FlowsFor returns the flows for one request, where they depend on the user.
	// It is called when a session is opened, and the session keeps them.
	FlowsFor func(ctx context.Context, r Request) ([]Flow, error)
	// Mutable lets the parameters of a later request replace those of an earlier
	// one, as /register needs: clients send username and password when they have
	// them. Otherwise a session is good for the parameters it was opened with, or
	// if it was opened without any, for those of the first completed stage.
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
	// Resolve tells whether the operation of the session with this key took
	// effect. It is asked after a crash, a timeout or an unexpected error, and may
	// answer "no" only once that key can never succeed again: for example after
	// putting a tombstone under the unique index of the keys. Required if a flow
	// has a TxStage. Where the operation runs under FinishTx, use [NotDone].
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

// NotDone is the Resolve of an operation that runs under [Grant.FinishTx]: what
// its transaction did not commit has not happened, and never will, because the
// transaction carries the run.
func NotDone(context.Context, string) (Outcome, error) { return Outcome{}, nil }

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
	if (len(o.Flows) > 0) == (o.FlowsFor != nil) {
		mistake("exactly one of Flows and FlowsFor is required")
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
	if mayHold && o.Resolve == nil {
		mistake("Resolve is required, because a stage sets something aside")
	}
	for _, f := range o.Flows {
		if len(f) > 0 && f[0] == (DummyStage{}).Type() {
			e.log.Warn("uia: a flow begins with a stage that proves nothing: its sessions cost a database write each", "operation", o.Name, "flow", f)
		}
	}
	return op, errors.Join(mistakes...)
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
