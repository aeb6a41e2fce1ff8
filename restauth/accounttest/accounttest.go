// Package accounttest tests implementations of [restauth.AccountStore]. It needs nothing
// but the standard library:
//
//	func TestAccounts(t *testing.T) {
//		accounttest.Test(t, func(t *testing.T) restauth.AccountStore { return myaccounts.Open(t.TempDir()) }, nil)
//	}
//
// Each case is a promise: a short name, the sentence of the interface's documentation that
// it tests, and a function that tests it on an empty store of its own. A case which fails
// prints the sentence. The kit is itself tested with broken stores.
package accounttest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/matrix-uia/uia/internal/kitrun"
	"github.com/matrix-uia/uia/restauth"
)

// Options are the options of [Test].
type Options struct {
	// Reopen stops using the store, as if the process ended, and returns another one on
	// the same data. Nil means that the store does not outlive its process, and the case
	// on durability is left out.
	Reopen func(*testing.T, restauth.AccountStore) restauth.AccountStore
}

// Test runs all cases that apply. Open returns an empty store, another one each time; what
// needs to be closed is closed with t.Cleanup. opts may be nil.
func Test(t *testing.T, open func(*testing.T) restauth.AccountStore, opts *Options) {
	var o Options
	if opts != nil {
		o = *opts
	}
	for _, c := range cases {
		if c.restarts && o.Reopen == nil {
			continue
		}
		kitrun.Run(t, c.name, c.says, func(t *testing.T) {
			k := &kit{TB: t, AccountStore: open(t), ctx: t.Context()}
			k.reopen = func() { k.AccountStore = o.Reopen(t, k.AccountStore) }
			c.test(k)
		})
	}
}

// promise is a case of the kit.
type promise struct {
	name     string
	says     string // a quotation from the documentation of restauth.AccountStore
	restarts bool
	test     func(k *kit)
}

// kit is what a case works with: an empty store and helpers that fail the test.
type kit struct {
	kitrun.TB
	restauth.AccountStore
	ctx    context.Context
	reopen func() // only for cases that restart
}

// epoch is when the accounts of the cases are made, but for a fraction of a millisecond that
// no store keeps.
var epoch = time.UnixMilli(1_700_000_000_000).UTC()

// outcome is the result of a call.
type outcome struct {
	k       *kit
	call    string
	account restauth.Account
	err     error
}

func (k *kit) create(key, name, hash string, run int64) outcome {
	a, err := k.Create(k.ctx, restauth.Account{Key: key, Localpart: name, Hash: hash, Run: run, Created: epoch.Add(time.Nanosecond)})
	return outcome{k, fmt.Sprintf("Create(%s, %s, %s, run %d)", key, name, hash, run), a, err}
}

func (k *kit) find(name string) outcome {
	a, err := k.Find(k.ctx, name)
	return outcome{k, fmt.Sprintf("Find(%s)", name), a, err}
}

func (k *kit) made(key string) outcome {
	a, err := k.Made(k.ctx, key)
	return outcome{k, fmt.Sprintf("Made(%s)", key), a, err}
}

func (k *kit) bury(key string) outcome {
	a, err := k.Bury(k.ctx, key)
	return outcome{k, fmt.Sprintf("Bury(%s)", key), a, err}
}

func (k *kit) setPassword(name, hash string) outcome {
	return outcome{k: k, call: fmt.Sprintf("SetPassword(%s, %s)", name, hash), err: k.SetPassword(k.ctx, name, hash)}
}

func (k *kit) deactivate(name string) outcome {
	return outcome{k: k, call: fmt.Sprintf("Deactivate(%s)", name), err: k.Deactivate(k.ctx, name)}
}

// is ends the test unless the call returned this error.
func (o outcome) is(want error) {
	o.k.Helper()
	if !errors.Is(o.err, want) {
		o.k.Fatalf("%s: got error %v, want %v", o.call, o.err, want)
	}
}

// shows ends the test unless the call returned this account, in the form "a alice hash run
// 4 active"; no hash is "-".
func (o outcome) shows(want string) {
	o.k.Helper()
	o.is(nil)
	a := o.account
	states := map[restauth.State]string{restauth.Active: "active", restauth.Deactivated: "deactivated", restauth.Buried: "buried"}
	hash := a.Hash
	if hash == "" {
		hash = "-"
	}
	got := fmt.Sprintf("%s %s %s run %d %s", a.Key, a.Localpart, hash, a.Run, states[a.State])
	if a.Created != epoch {
		got += fmt.Sprint(" at ", a.Created)
	}
	if got != want {
		o.k.Fatalf("%s: got %s, want %s", o.call, got, want)
	}
}
