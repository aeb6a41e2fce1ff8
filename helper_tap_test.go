package uia_test

import (
	"context"
	"time"

	"github.com/matrix-uia/uia"
)

// call is one call of a store, or of the accounts beside it.
type call struct {
	name  string
	write bool
	args  []any
}

// tap is a Store that passes each call through a function: to count it, to record
// it, to let it fail before or after it took effect, or to let it stall.
type tap struct {
	uia.Store
	around func(ctx context.Context, c call, do func() error) error
}

func (s *tap) Token(ctx context.Context, value string, now time.Time) (out uia.Token, err error) {
	err = s.around(ctx, call{"Token", false, []any{value}}, func() (err error) {
		out, err = s.Store.Token(ctx, value, now)
		return err
	})
	return kept(out, err)
}

func (s *tap) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	return s.around(ctx, call{"Reserve", true, []any{h}}, func() error { return s.Store.Reserve(ctx, h, now) })
}

func (s *tap) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	return s.around(ctx, call{"Pin", true, []any{c}}, func() error { return s.Store.Pin(ctx, c, now) })
}

func (s *tap) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	return s.around(ctx, call{"Unpin", true, []any{c}}, func() error { return s.Store.Unpin(ctx, c, until, now) })
}

func (s *tap) Commit(ctx context.Context, c uia.Claim, userID string, now time.Time) error {
	return s.around(ctx, call{"Commit", true, []any{c, userID}}, func() error { return s.Store.Commit(ctx, c, userID, now) })
}

func (s *tap) Release(ctx context.Context, c uia.Claim) error {
	return s.around(ctx, call{"Release", true, []any{c}}, func() error { return s.Store.Release(ctx, c) })
}

func (s *tap) PinnedUses(ctx context.Context, before time.Time, limit int) (out []uia.Use, err error) {
	err = s.around(ctx, call{"PinnedUses", false, nil}, func() (err error) {
		out, err = s.Store.PinnedUses(ctx, before, limit)
		return err
	})
	return kept(out, err)
}

func (s *tap) SweepHolds(ctx context.Context, before time.Time, limit int) (out int, err error) {
	err = s.around(ctx, call{"SweepHolds", true, nil}, func() (err error) {
		out, err = s.Store.SweepHolds(ctx, before, limit)
		return err
	})
	return kept(out, err)
}

func (s *tap) LoadSession(ctx context.Context, key string, now time.Time) (out uia.Record, err error) {
	err = s.around(ctx, call{"LoadSession", false, []any{key}}, func() (err error) {
		out, err = s.Store.LoadSession(ctx, key, now)
		return err
	})
	return kept(out, err)
}

func (s *tap) SaveSession(ctx context.Context, r uia.Record, now time.Time) (out uia.Record, err error) {
	err = s.around(ctx, call{"SaveSession", true, []any{r}}, func() (err error) {
		out, err = s.Store.SaveSession(ctx, r, now)
		return err
	})
	return kept(out, err)
}

func (s *tap) SweepSessions(ctx context.Context, now time.Time, limit int) (out int, err error) {
	err = s.around(ctx, call{"SweepSessions", true, nil}, func() (err error) {
		out, err = s.Store.SweepSessions(ctx, now, limit)
		return err
	})
	return kept(out, err)
}

// txTap is a tap of a store with transactions.
type txTap struct {
	uia.Store
	inTx func(context.Context, func(context.Context) error) error
}

func (s *txTap) InTx(ctx context.Context, fn func(context.Context) error) error {
	return s.inTx(ctx, fn)
}

// kept returns nothing beside an error: what took effect is not told.
func kept[T any](out T, err error) (T, error) {
	if err != nil {
		return *new(T), err
	}
	return out, nil
}
