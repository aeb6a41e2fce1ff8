package simtest

import (
	"context"
	"errors"
	"fmt"
)

// transaction is one of SQLite or PostgreSQL. Until it commits its writes are made
// on a copy.
type transaction struct {
	w        *world
	a        *actor // nil: nobody's
	ctx      context.Context
	writes   []write
	copy     *database // SQLite: nobody else writes meanwhile
	held     []string
	spending *spending // a Commit that is put off
	broken   bool
	again    bool // the database has given it up
	over     bool
}

// writerLock is SQLite's.
const writerLock = "writer"

var (
	errAborted = errors.New("current transaction is aborted")
	errGivenUp = errors.New("the transaction was given up for another (40001)")
)

type txKey struct{}

func txOf(ctx context.Context) *transaction {
	t, _ := ctx.Value(txKey{}).(*transaction)
	return t
}

func (t *transaction) usable() error {
	if t.broken || t.over {
		return errAborted
	}
	return t.ctx.Err()
}

// view is what the transaction reads: what is committed by now, and its own writes.
func (t *transaction) view() *database {
	if t.copy != nil {
		return t.copy
	}
	return t.w.rebuild(t.writes)
}

func (t *transaction) write(p point, do write) error {
	err := do(t.view())
	if err == nil {
		t.writes = append(t.writes, do)
		t.lock(p.locks)
	}
	return err
}

func (t *transaction) lock(names []string) {
	for _, l := range names {
		if t.w.locks[l] != t {
			t.w.locks[l] = t
			t.held = append(t.held, l)
		}
	}
}

// end releases the locks. What is not committed is forgotten.
func (t *transaction) end() {
	if t.over {
		return
	}
	t.over = true
	for _, l := range t.held {
		if t.w.locks[l] == t {
			delete(t.w.locks, l)
		}
	}
	if t.a != nil && t.a.tx == t {
		t.a.tx = nil
	}
}

// blocked reports whether the actor waits for another transaction's lock. That of a
// transaction whose context is over is about to be released.
func (w *world) blocked(a *actor) bool {
	for _, l := range a.at.locks {
		if t := w.locks[l]; t != nil && t != a.tx && t.ctx.Err() == nil {
			return true
		}
	}
	return false
}

// InTx runs fn in a transaction, again if the database gives it up.
func (s Store) InTx(ctx context.Context, fn func(context.Context) error) error {
	if txOf(ctx) != nil {
		return fn(ctx)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	for {
		again, err := s.runTx(ctx, fn)
		if !again {
			return err
		}
	}
}

func (s Store) runTx(ctx context.Context, fn func(context.Context) error) (again bool, err error) {
	w := s.w
	t := &transaction{w: w, a: actorOf(ctx), ctx: ctx}
	defer t.end()
	if w.kind.writer {
		err := w.call(ctx, point{name: "BEGIN", locks: []string{writerLock}}, func() (string, error) {
			t.copy = w.rebuild(nil)
			t.lock([]string{writerLock})
			return "", nil
		})
		if err != nil {
			return false, err
		}
	}
	if t.a != nil {
		t.a.tx = t
	}
	in := context.WithValue(ctx, txKey{}, t)
	if err = fn(in); err == nil {
		err = s.flush(in)
	}
	if err != nil {
		return t.again, err
	}
	err = w.call(ctx, point{name: "COMMIT", write: true}, func() (string, error) {
		if err := t.usable(); err != nil {
			return "", err
		}
		for _, f := range t.writes {
			if err := f(w.db); err != nil {
				panic(fmt.Sprintf("a locked row has changed: %v", err))
			}
		}
		w.journal = append(w.journal, t.writes...)
		t.end()
		w.checkStep()
		return "", nil
	})
	return t.again, err
}
