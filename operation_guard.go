package uia

import (
	"context"

	"github.com/matrix-uia/uia/internal/panics"
)

// guarded makes errors of the panics of a function that the host has put into an
// Operation. A nil function stays nil.
func guarded[A, R any](name string, f func(context.Context, A) (R, error)) func(context.Context, A) (R, error) {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, a A) (result R, err error) {
		defer panics.In(name, &err)
		return f(ctx, a)
	}
}

// guardedCheck is guarded for a function that returns nothing but an error.
func guardedCheck(name string, f func(context.Context, *Session) error) func(context.Context, *Session) error {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, s *Session) (err error) {
		defer panics.In(name, &err)
		return f(ctx, s)
	}
}

// guard makes errors of the panics of all functions of the operation that return one.
func (o *Operation) guard() {
	where := "operation " + o.Name + ": "
	o.FlowsFor = guarded(where+"FlowsFor", o.FlowsFor)
	o.Check = guardedCheck(where+"Check", o.Check)
	o.Admit = guardedCheck(where+"Admit", o.Admit)
	o.Prepare = guarded(where+"Prepare", o.Prepare)
	o.Resolve = guarded(where+"Resolve", o.Resolve)
}
