package sqlstore

import (
	"context"
	"database/sql"
)

// txKey is the context key of a Store's transaction. It holds the Store, so that
// a second Store on another database does not join.
type txKey struct{ s *Store }

// txState is what a context carries.
type txState struct {
	tx *sql.Tx
	// repeat is set once a statement of ours in this transaction has failed in
	// such a way that the whole may succeed when it is run again. Only the
	// goroutine that runs the transaction uses it.
	repeat bool
	// spending is a Commit that waits for the save that follows it; nil if none does.
	// Only a transaction of InTx puts a Commit off: of a transaction of the host the
	// Store does not learn when it ends.
	spending *spending
	defers   bool
	// unlocked is set while a transaction on SQLite has not written. It must not read
	// before it does.
	unlocked bool
}

// WithTx returns a context whose transaction is tx: every method of s that is
// called with it runs inside tx. It is for a transaction that the host began on
// the same database itself; [Store.InTx] is usually what you want. The host
// commits, and repeats the whole if an error says so: inside a caller's
// transaction nothing is retried, and the database's errors come unwrapped.
//
// On SQLite such a transaction must write first, or be begun with
// _txlock=immediate: one that has read before it writes gets "database is
// locked" at once when another process has written in between.
func (s *Store) WithTx(ctx context.Context, tx *sql.Tx) context.Context {
	return context.WithValue(ctx, txKey{s}, &txState{tx: tx})
}

// Tx returns the transaction that ctx carries, for the host's own statements
// inside [Store.InTx].
func (s *Store) Tx(ctx context.Context) (*sql.Tx, bool) {
	if st := s.state(ctx); st != nil {
		return st.tx, true
	}
	return nil, false
}

func (s *Store) state(ctx context.Context) *txState {
	st, _ := ctx.Value(txKey{s}).(*txState)
	return st
}

// takeWriteLock changes no row, and so costs no disk access. A transaction of
// SQLite that reads first and then writes fails at once, whatever the busy
// timeout, if another has written in between (369 of 400).
const takeWriteLock = `UPDATE uia_secrets SET value = value WHERE number = 0`

// InTx runs fn in a transaction and commits it if fn returns nil. The context
// that fn gets carries the transaction: every method of s that is called with it
// joins, [Store.Tx] returns it, and another InTx inside joins it too. Use only
// that context in fn, and only from one goroutine: on SQLite, or with a pool of
// one connection, a call with another context waits for the transaction to end.
//
// A transaction that the database gave up so that another could proceed
// (SQLSTATE 40001 and 40P01, SQLite's "database is locked") is run again, fn
// included, a bounded number of times: whatever fn does besides the database it
// must be able to do twice. Errors of fn are returned as they are. If the commit
// itself fails it can be unknown whether it took effect.
//
// The isolation is the database's default. On SQLite the transaction takes the
// write lock at once.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if s.state(ctx) != nil {
		return fn(ctx)
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.retry(ctx, func() error {
		return s.runTx(ctx, sql.LevelDefault, func(ctx context.Context) error {
			if s.dialect == SQLite {
				if _, err := s.on(ctx).exec(ctx, takeWriteLock); err != nil {
					return err
				}
			}
			return fn(ctx)
		})
	})
}

// runTx runs fn once in a transaction of its own. On SQLite fn must write first.
func (s *Store) runTx(ctx context.Context, level sql.IsolationLevel, fn func(ctx context.Context) error) (err error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s.prepare(ctx)
	var opts *sql.TxOptions
	if level != sql.LevelDefault {
		opts = &sql.TxOptions{Isolation: level}
	}
	tx, err := s.db.BeginTx(ctx, opts)
	if err != nil {
		return err
	}
	// After Commit this does nothing; after an error, or a panic of fn, it leaves
	// nothing behind.
	defer func() { _ = tx.Rollback() }()
	st := &txState{tx: tx, defers: s.dialect == PostgreSQL}
	ctx = context.WithValue(ctx, txKey{s}, st)
	err = fn(ctx)
	if err == nil {
		err = s.flush(ctx)
	}
	if err != nil {
		if st.repeat && !repeatable(err) {
			return &repeatError{err}
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		if st.repeat && !repeatable(err) {
			// fn has ignored an error that had already ended the transaction.
			return &repeatError{err}
		}
		return err
	}
	return nil
}
