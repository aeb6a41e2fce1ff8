package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/matrix-uia/uia"
)

// inTxOf returns a mutant's InTx: what model's would be, but for what f does.
func inTxOf(f func(b *broken, ctx context.Context, fn func(context.Context) error) error) func(*broken) {
	return func(b *broken) {
		b.inTx = func(ctx context.Context, fn func(context.Context) error) error { return f(b, ctx, fn) }
	}
}

var txMutants = []mutant{
	{"has transactions that are none", inTxOf(func(_ *broken, ctx context.Context, fn func(context.Context) error) error { return fn(ctx) })},
	{"has transactions that others see", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		undo := b.copied()
		err := fn(context.WithValue(ctx, inTx{}, true))
		if err != nil {
			undo()
		}
		return err
	})},
	{"loses what a transaction has done", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		if ctx.Value(inTx{}) == nil {
			defer b.copied()()
		}
		return b.model.InTx(ctx, fn)
	})},
	{"undoes a transaction but for a session record", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		err := b.model.InTx(ctx, fn)
		if err != nil && ctx.Value(inTx{}) == nil {
			b.model.SaveSession(context.WithoutCancel(ctx), uia.Record{Key: "k", State: uia.Open, Expires: at(hour)}, epoch)
		}
		return err
	})},
	{"swallows the error of a transaction", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		_ = b.model.InTx(ctx, fn)
		return nil
	})},
	{"returns another error than the transaction's", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		if err := b.model.InTx(ctx, fn); err != nil {
			return errors.New("the transaction failed")
		}
		return nil
	})},
	{"begins a transaction with another context", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		return b.model.InTx(context.WithoutCancel(ctx), fn)
	})},
	{"knows no transaction in another", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		if ctx.Value(inTx{}) != nil {
			return errors.New("there is a transaction already")
		}
		return b.model.InTx(ctx, fn)
	})},
	{"runs a transaction again without undoing it", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) error {
		return b.model.InTx(ctx, func(ctx context.Context) error {
			if err := fn(ctx); err != nil {
				return err
			}
			return fn(ctx)
		})
	})},
	{"fails when two transactions meet", func(b *broken) {
		busy := make(chan struct{}, 1)
		b.inTx = func(ctx context.Context, fn func(context.Context) error) error {
			if ctx.Value(inTx{}) != nil {
				return fn(ctx)
			}
			select {
			case busy <- struct{}{}:
				defer func() { <-busy }()
				return b.model.InTx(ctx, func(ctx context.Context) error { gosched(); return fn(ctx) })
			default:
				return errors.New("database is locked")
			}
		}
	}},
	{"commits a transaction that panics", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) (err error) {
		var panicked any
		defer func() {
			if panicked != nil {
				panic(panicked)
			}
		}()
		return b.model.InTx(ctx, func(ctx context.Context) (err error) {
			defer func() { panicked = recover() }()
			return fn(ctx)
		})
	})},
	{"swallows what a transaction panics with", inTxOf(func(b *broken, ctx context.Context, fn func(context.Context) error) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v", p)
			}
		}()
		return b.model.InTx(ctx, fn)
	})},
	{"spoils a transaction by a refusal", func(b *broken) {
		var spoilt error
		b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
			err := b.model.Reserve(ctx, h, now)
			if err != nil && ctx.Value(inTx{}) != nil {
				spoilt = errors.New("the transaction is aborted")
			}
			return err
		}
		b.inTx = func(ctx context.Context, fn func(context.Context) error) error {
			return b.model.InTx(ctx, func(ctx context.Context) error {
				spoilt = nil
				return errors.Join(fn(ctx), spoilt)
			})
		}
	}},
	{"puts a Commit off in a transaction and loses its refusal", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			err := b.model.Commit(ctx, c, user, now)
			if ctx.Value(inTx{}) != nil {
				return nil
			}
			return err
		}
	}},
	{"puts a Commit off and refuses it after the transaction", func(b *broken) {
		var late error
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			err := b.model.Commit(ctx, c, user, now)
			if ctx.Value(inTx{}) != nil && !errors.Is(err, uia.ErrInvalid) {
				late = errors.Join(late, err)
				return nil
			}
			return err
		}
		b.inTx = func(ctx context.Context, fn func(context.Context) error) error {
			var after error
			err := b.model.InTx(ctx, func(ctx context.Context) error {
				late = nil
				err := fn(ctx)
				after = late
				return err
			})
			return cmp.Or(err, after)
		}
	}},
	{"spends in a transaction what another run has taken over", func(b *broken) {
		b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
			if ctx.Value(inTx{}) != nil {
				b.first(ctx, c, func(u *modelUse) {
					if u.State == uia.Pinned {
						c.Run = u.Run
					}
				})
			}
			return b.model.Commit(ctx, c, user, now)
		}
	}},
}

// refusesAfterwards makes mutants that return one of the errors by which a store says
// that it has written nothing, after having written.
func refusesAfterwards() []mutant {
	late := func(b *broken, ctx context.Context, c uia.Claim, err error, write func(u *modelUse)) error {
		if errors.Is(err, uia.ErrNotHeld) || errors.Is(err, uia.ErrSpent) {
			b.first(ctx, c, write)
		}
		return err
	}
	return []mutant{
		{"says that no use is left and has reserved one", func(b *broken) {
			b.reserve = func(ctx context.Context, h uia.Hold, now time.Time) error {
				err := b.model.Reserve(ctx, h, now)
				if errors.Is(err, uia.ErrExhausted) {
					b.locked(func() { b.add(h, now) })
				}
				return err
			}
		}},
		{"refuses to pin and has pinned", func(b *broken) {
			b.pin = func(ctx context.Context, c uia.Claim, now time.Time) error {
				return late(b, ctx, c, b.model.Pin(ctx, c, now), func(u *modelUse) { u.State, u.Until = uia.Pinned, time.Time{} })
			}
		}},
		{"refuses to unpin and has unpinned", func(b *broken) {
			b.unpin = func(ctx context.Context, c uia.Claim, until, now time.Time) error {
				return late(b, ctx, c, b.model.Unpin(ctx, c, until, now), func(u *modelUse) { u.State, u.Until = uia.Held, trunc(until) })
			}
		}},
		{"refuses to commit and has committed", func(b *broken) {
			b.commit = func(ctx context.Context, c uia.Claim, user string, now time.Time) error {
				return late(b, ctx, c, b.model.Commit(ctx, c, user, now), func(u *modelUse) { u.State, u.UserID = uia.Spent, user })
			}
		}},
		{"refuses to release and has released", func(b *broken) {
			b.release = func(ctx context.Context, c uia.Claim) error {
				err := b.model.Release(ctx, c)
				if errors.Is(err, uia.ErrNotHeld) || errors.Is(err, uia.ErrSpent) {
					b.locked(func() { b.remove(1, func(u *modelUse) bool { return u.Token == c.Token && u.Session == c.Session }) })
				}
				return err
			}
		}},
		{"says that a record is in conflict and has saved it", func(b *broken) {
			b.saveSession = func(ctx context.Context, r uia.Record, now time.Time) (uia.Record, error) {
				saved, err := b.model.SaveSession(ctx, r, now)
				if errors.Is(err, uia.ErrConflict) {
					b.locked(func() {
						if old, ok := b.records[r.Key]; ok {
							old.Owner, old.Data = r.Owner, r.Data
							b.records[r.Key] = old
						}
					})
				}
				return saved, err
			}
		}},
		{"refuses a patch and has applied it", func(b *broken) {
			b.updateToken = func(ctx context.Context, v string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
				t, err := b.model.UpdateToken(ctx, v, p, now)
				if errors.Is(err, uia.ErrInvalid) {
					_, _ = b.model.UpdateToken(ctx, v, uia.TokenPatch{Label: new("applied")}, now)
				}
				return t, err
			}
		}},
	}
}
