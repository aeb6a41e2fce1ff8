package dbtest

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/matrix-uia/uia"
)

var errChaos = errors.New("chaos")

// faults are what goes wrong: a call is not made, or its answer is lost, or either
// takes longer than a lease.
type faults struct {
	off   atomic.Bool
	calls atomic.Int64
	made  atomic.Int64
}

// some returns an error or takes its time, now and then.
func (f *faults) some() error {
	if f.calls.Add(1); f.off.Load() {
		return nil
	}
	switch r := rand.IntN(1000); {
	case r < 15:
		f.made.Add(1)
		return errChaos
	case r < 25:
		f.made.Add(1)
		stall()
	}
	return nil
}

// around makes a call among faults.
func (f *faults) around(call func() error) error {
	if err := f.some(); err != nil {
		return err
	}
	if err := call(); err != nil {
		return err
	}
	return f.some()
}

// stall takes up to more than twice as long as a lease.
func stall() { <-time.After(rand.N(chaosLease * 7 / 3)) }

// chaosStore is a store among faults.
type chaosStore struct {
	uia.Store
	*faults
}

// chaosTxStore is one with transactions.
type chaosTxStore struct {
	chaosStore
	inner uia.TxStore
}

var _ uia.TxStore = chaosTxStore{}

// withFaults puts faults around s.
func withFaults(s uia.Store, f *faults) uia.Store {
	c := chaosStore{s, f}
	if tx, ok := s.(uia.TxStore); ok {
		return chaosTxStore{c, tx}
	}
	return c
}

func (c chaosTxStore) InTx(ctx context.Context, fn func(context.Context) error) error {
	return c.around(func() error { return c.inner.InTx(ctx, fn) })
}

func (c chaosTxStore) Group(ctx context.Context, fn func(context.Context) error) error {
	return c.around(func() error { return c.inner.(uia.Grouper).Group(ctx, fn) })
}

func (c chaosStore) Token(ctx context.Context, value string, now time.Time) (t uia.Token, err error) {
	err = c.around(func() (err error) { t, err = c.Store.Token(ctx, value, now); return err })
	return t, err
}

func (c chaosStore) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	return c.around(func() error { return c.Store.Reserve(ctx, h, now) })
}

func (c chaosStore) Pin(ctx context.Context, cl uia.Claim, now time.Time) error {
	return c.around(func() error { return c.Store.Pin(ctx, cl, now) })
}

func (c chaosStore) Unpin(ctx context.Context, cl uia.Claim, until, now time.Time) error {
	return c.around(func() error { return c.Store.Unpin(ctx, cl, until, now) })
}

func (c chaosStore) Commit(ctx context.Context, cl uia.Claim, user string, now time.Time) error {
	return c.around(func() error { return c.Store.Commit(ctx, cl, user, now) })
}

func (c chaosStore) Release(ctx context.Context, cl uia.Claim) error {
	return c.around(func() error { return c.Store.Release(ctx, cl) })
}

func (c chaosStore) PinnedUses(ctx context.Context, before time.Time, limit int) (uses []uia.Use, err error) {
	err = c.around(func() (err error) { uses, err = c.Store.PinnedUses(ctx, before, limit); return err })
	return uses, err
}

func (c chaosStore) LoadSession(ctx context.Context, key string, now time.Time) (r uia.Record, err error) {
	err = c.around(func() (err error) { r, err = c.Store.LoadSession(ctx, key, now); return err })
	return r, err
}

func (c chaosStore) SaveSession(ctx context.Context, r uia.Record, now time.Time) (saved uia.Record, err error) {
	err = c.around(func() (err error) { saved, err = c.Store.SaveSession(ctx, r, now); return err })
	return saved, err
}
