// Package storetest tests implementations of [uia.Store]. It needs nothing but
// the standard library:
//
//	func TestStore(t *testing.T) {
//		storetest.TestStore(t, func(t *testing.T) uia.Store {
//			s, err := mystore.Open(t.TempDir() + "/uia.db")
//			if err != nil {
//				t.Fatal(err)
//			}
//			t.Cleanup(func() { s.Close() })
//			return s
//		})
//	}
//
// Each case is a promise: a short name, the sentence of the interface's
// documentation that it tests, and a function that tests it on an empty store of
// its own. A case which fails prints the sentence. Run one with
//
//	go test -run 'TestStore/displaces-the-oldest'
//
// A store that survives a restart is tested for it with [TestStoreWith]. One that
// implements [uia.Grouper], [uia.TxStore] or [uia.InviteStore] is tested as such without being asked.
// [Benchmark] measures what a homeserver does most.
//
// The kit asserts nothing that the documentation leaves open. In particular a page may be
// followed by an empty one, JSON may come back in another spelling, and an error may be
// wrapped. It is itself tested with broken stores: for each case there is one that fails
// it, and for each of them a case that notices.
package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/kitrun"
)

// Options are the options of [TestStoreWith].
type Options struct {
	// Reopen stops using the store, as if the process ended, and returns another
	// one on the same data. Nil means that the store does not outlive its
	// process, and the cases on durability are left out.
	Reopen func(*testing.T, uia.Store) uia.Store
}

// TestStore runs all cases that apply to the store. Open returns an empty store,
// another one each time; what needs to be closed is closed with t.Cleanup. The
// cases run one after the other.
func TestStore(t *testing.T, open func(*testing.T) uia.Store) {
	TestStoreWith(t, open, nil)
}

// TestStoreWith is TestStore with options. Nil means none.
func TestStoreWith(t *testing.T, open func(*testing.T) uia.Store, opts *Options) {
	var o Options
	if opts != nil {
		o = *opts
	}
	has := offers(open(t))
	if o.Reopen != nil {
		has |= aRestart
	}
	for _, c := range cases() {
		if c.needs&^has != 0 {
			continue
		}
		kitrun.Run(t, c.name, c.says, func(t *testing.T) {
			k := &kit{TB: t, Store: open(t), ctx: t.Context()}
			k.reopen = func() { k.Store = o.Reopen(t, k.Store) }
			c.test(k)
		})
	}
}

// promise is a case of the kit.
type promise struct {
	name string
	says string // a quotation from the documentation of package uia
	test func(k *kit)
	needs
}

// needs is what a case needs beyond uia.Store: a set.
type needs int

const (
	aGrouper needs = 1 << iota
	aTxStore
	anInviteStore
	aRestart
)

// offers returns what the store implements of it.
func offers(s uia.Store) (has needs) {
	if _, ok := s.(uia.Grouper); ok {
		has |= aGrouper
	}
	if _, ok := s.(uia.TxStore); ok {
		has |= aTxStore
	}
	if _, ok := s.(uia.InviteStore); ok {
		has |= anInviteStore
	}
	return has
}

// cases returns the cases in the order of the documentation.
func cases() []promise {
	return slices.Concat(generalCases, createCases, updateCases, listCases, reserveCases,
		displaceCases, claimCases, useCases, sessionCases, walkCases, stormCases, durableCases, groupCases, txCases, inviteCases)
}

// kit is what a case works with: an empty store and helpers that fail the test.
type kit struct {
	kitrun.TB
	uia.Store
	ctx    context.Context
	reopen func() // only for cases that need aRestart
}
