// Package claimtest tests implementations of [gateway.ClaimStore]. It needs nothing
// but the standard library:
//
//	func TestClaims(t *testing.T) {
//		claimtest.Test(t, func(t *testing.T) gateway.ClaimStore { return myclaims.Open(t.TempDir()) }, nil)
//	}
//
// Each case is a promise: a short name, the sentence of the interface's
// documentation that it tests, and a function that tests it on an empty store of its
// own. A case which fails prints the sentence. The kit is itself tested with broken
// stores: each case catches one, and each of them is caught.
package claimtest

import (
	"context"
	"slices"
	"testing"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/internal/kitrun"
)

// Options are the options of [Test].
type Options struct {
	// Reopen stops using the store, as if the process ended, and returns another one
	// on the same data. Nil means that the store does not outlive its process, and the
	// cases on durability are left out.
	Reopen func(*testing.T, gateway.ClaimStore) gateway.ClaimStore
}

// Test runs all cases that apply. Open returns an empty store, another one each time;
// what needs to be closed is closed with t.Cleanup. opts may be nil.
func Test(t *testing.T, open func(*testing.T) gateway.ClaimStore, opts *Options) {
	var o Options
	if opts != nil {
		o = *opts
	}
	for _, c := range cases() {
		if c.restarts && o.Reopen == nil {
			continue
		}
		kitrun.Run(t, c.name, c.says, func(t *testing.T) {
			k := &kit{TB: t, ClaimStore: open(t), ctx: t.Context()}
			k.reopen = func() { k.ClaimStore = o.Reopen(t, k.ClaimStore) }
			c.test(k)
		})
	}
}

// promise is a case of the kit.
type promise struct {
	name     string
	says     string // a quotation from the documentation of gateway.ClaimStore
	restarts bool
	test     func(k *kit)
}

func cases() []promise {
	return slices.Concat(reserveCases, saveCases, otherCases, raceCases)
}

// kit is what a case works with: an empty store and helpers that fail the test.
type kit struct {
	kitrun.TB
	gateway.ClaimStore
	ctx    context.Context
	reopen func() // only for cases that restart
}
