package uia_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// txStore adds optimistic transactions to a Store: what is written in one is
// checked again when it is committed, and then written as a whole. A transaction
// that has lost is run again, as PostgreSQL asks for with 40001.
type txStore struct {
	uia.Store
	mu sync.Mutex // of each write, and of each commit as a whole
	// defers makes a Commit in a transaction wait for the next save or the end, where
	// its refusal then comes from, as sqlstore does on PostgreSQL.
	defers bool
}

type txKey struct{}

// tx is a transaction: writes that are checked and, if all can be made, made.
type tx struct {
	writes   []txWrite
	saved    map[string]uia.Record
	deferred []txWrite
}

type txWrite struct {
	check func() error
	apply func()
}

// add makes a write if it can be made now.
func (t *tx) add(w txWrite) error {
	if err := w.check(); err != nil {
		return err
	}
	t.writes = append(t.writes, w)
	return nil
}

// flush makes the writes that were put off. Once one is refused, none is made.
func (t *tx) flush() error {
	writes := t.deferred
	t.deferred = nil
	for _, w := range writes {
		if err := t.add(w); err != nil {
			return err
		}
	}
	return nil
}

var errSerialization = errors.New("could not serialize access")

// inTx runs fn in a transaction. commit runs its COMMIT.
func (s *txStore) inTx(ctx context.Context, fn func(context.Context) error, commit func(do func() error) error) error {
	for {
		t := &tx{saved: map[string]uia.Record{}}
		if err := fn(context.WithValue(ctx, txKey{}, t)); err != nil {
			return err
		}
		if err := t.flush(); err != nil {
			return err
		}
		err := commit(func() error {
			s.mu.Lock()
			defer s.mu.Unlock()
			for _, w := range t.writes {
				if w.check() != nil {
					return errSerialization
				}
			}
			for _, w := range t.writes {
				w.apply()
			}
			return nil
		})
		if !errors.Is(err, errSerialization) {
			return err
		}
	}
}

func (s *txStore) write(do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return do()
}

func (s *txStore) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	return s.write(func() error { return s.Store.Reserve(ctx, h, now) })
}

func (s *txStore) Pin(ctx context.Context, c uia.Claim, now time.Time) error {
	return s.write(func() error { return s.Store.Pin(ctx, c, now) })
}

func (s *txStore) Unpin(ctx context.Context, c uia.Claim, until, now time.Time) error {
	return s.write(func() error { return s.Store.Unpin(ctx, c, until, now) })
}

func (s *txStore) Release(ctx context.Context, c uia.Claim) error {
	return s.write(func() error { return s.Store.Release(ctx, c) })
}

func (s *txStore) Commit(ctx context.Context, c uia.Claim, userID string, now time.Time) error {
	t, ok := ctx.Value(txKey{}).(*tx)
	if !ok {
		return s.write(func() error { return s.Store.Commit(ctx, c, userID, now) })
	}
	background := context.WithoutCancel(ctx)
	spend := txWrite{
		check: func() error {
			page, err := s.ListUses(background, uia.UseQuery{Token: c.Token})
			if err != nil {
				return err
			}
			for _, u := range page.Uses {
				switch {
				case u.Session != c.Session:
				case u.State == uia.Spent:
					return uia.ErrSpent
				case u.State == uia.Pinned && u.Run == c.Run:
					return nil
				}
			}
			return uia.ErrNotHeld
		},
		apply: func() { must(s.Store.Commit(background, c, userID, now)) },
	}
	if s.defers {
		t.deferred = append(t.deferred, spend)
		return nil
	}
	return t.add(spend)
}

func (s *txStore) LoadSession(ctx context.Context, key string, now time.Time) (uia.Record, error) {
	if t, ok := ctx.Value(txKey{}).(*tx); ok {
		if r, ok := t.saved[key]; ok {
			return r, nil
		}
	}
	return s.Store.LoadSession(ctx, key, now)
}

func (s *txStore) SaveSession(ctx context.Context, r uia.Record, now time.Time) (out uia.Record, err error) {
	t, ok := ctx.Value(txKey{}).(*tx)
	if !ok {
		return out, s.write(func() error { out, err = s.Store.SaveSession(ctx, r, now); return err })
	}
	if err := t.flush(); err != nil {
		return out, err
	}
	background := context.WithoutCancel(ctx)
	err = t.add(txWrite{
		check: func() error {
			if found, _ := s.Store.LoadSession(background, r.Key, now); found.Revision != r.Revision {
				return uia.ErrConflict
			}
			return nil
		},
		apply: func() {
			_, err := s.Store.SaveSession(background, r, now)
			must(err)
		},
	})
	if err == nil {
		out = r
		out.Revision++
		t.saved[r.Key] = out
	}
	return out, err
}

// createTx is create in a transaction.
func (a *accounts) createTx(ctx context.Context, s *uia.Session) (uia.Effect, error) {
	var username string
	if _, err := s.Param("username", &username); err != nil {
		return uia.Effect{}, err
	}
	a.mu.Lock()
	a.runs++
	user := "@" + username + ":test"
	if username == "" {
		user = fmt.Sprintf("@u%d:test", a.runs)
	}
	a.mu.Unlock()
	err := ctx.Value(txKey{}).(*tx).add(txWrite{
		check: func() error {
			a.mu.Lock()
			defer a.mu.Unlock()
			if _, taken := a.byName[user]; taken || a.byKey[s.Key] != "" {
				return uia.NewError(400, spec.UserInUse("taken"))
			}
			return nil
		},
		apply: func() {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.byKey[s.Key], a.byName[user] = user, s.Key
		},
	})
	return a.result(user), err
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
