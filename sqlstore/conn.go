package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
)

// conn runs statements: in a transaction, or each on its own on whatever
// connection the pool has. Nothing here yields while rows are open, so a pool of
// one connection is enough.
type conn struct {
	s  *Store
	st *txState // nil: no transaction
}

// on returns the conn for ctx: its transaction, if it carries one.
func (s *Store) on(ctx context.Context) conn { return conn{s, s.state(ctx)} }

// note remembers whether the error allows running the transaction again. If a table is
// missing, it adds that Migrate makes the tables.
func (c conn) note(err error) error {
	if err != nil && noTable(err) {
		return fmt.Errorf("%w (has Store.Migrate been called?)", err)
	}
	if c.st != nil && err != nil && repeatable(err) {
		c.st.repeat = true
	}
	return err
}

// exec runs a statement and returns the number of rows that it changed.
func (c conn) exec(ctx context.Context, query string, args ...any) (int64, error) {
	var res sql.Result
	var err error
	if stmt := c.stmt(ctx, query); stmt != nil {
		res, err = stmt.ExecContext(ctx, args...)
	} else if c.st != nil {
		res, err = c.st.tx.ExecContext(ctx, query, args...)
	} else {
		res, err = c.s.db.ExecContext(ctx, query, args...)
	}
	if err != nil {
		return 0, c.note(err)
	}
	if c.st != nil {
		c.st.unlocked = false
	}
	n, err := res.RowsAffected()
	return n, c.note(err)
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// each runs a query and calls scan for each row. scan must run no statement.
func (c conn) each(ctx context.Context, query string, args []any, scan func(scanner) error) (err error) {
	var rows *sql.Rows
	if stmt := c.stmt(ctx, query); stmt != nil {
		rows, err = stmt.QueryContext(ctx, args...)
	} else if c.st != nil {
		rows, err = c.st.tx.QueryContext(ctx, query, args...)
	} else {
		rows, err = c.s.db.QueryContext(ctx, query, args...)
	}
	if err != nil {
		return c.note(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return c.note(err)
		}
	}
	if err := rows.Err(); err != nil {
		return c.note(err)
	}
	return c.note(rows.Close())
}

// one runs a query for at most one row; found says whether there was one. It
// reads to the end, because some drivers report a write's error only there.
func (c conn) one(ctx context.Context, query string, args []any, dest ...any) (found bool, err error) {
	err = c.each(ctx, query, args, func(row scanner) error {
		found = true
		return row.Scan(dest...)
	})
	return found && err == nil, err
}

// stmtCache keeps prepared statements.
type stmtCache struct {
	all  atomic.Pointer[map[string]*sql.Stmt] // nil until they are prepared
	busy sync.Mutex                           // held by the goroutine that prepares them
}

// frequent are the statements of a registration.
var frequent = map[Dialect][]string{
	SQLite: {
		readToken, takeToken, takeTokenPinned, insertUse, insertPinned, pinHeld, countHeld, commitUse, loadRecord, createRecord, saveRecord, takeWriteLock,
	},
	PostgreSQL: {
		readToken, takeUse, pinUse, commitUse, loadRecord, createRecord, saveRecord, spendAndSave,
		joint.createAndPin, joint.saveAndPin, joint.holdAndCreate, joint.holdAndSave, joint.holdCreatePin, joint.holdSavePin,
	},
}

// prepare prepares the frequent statements, once, if the Store keeps prepared statements.
// It is called outside of any transaction, because the pool may have a single connection.
func (s *Store) prepare(ctx context.Context) {
	if !s.prepares || s.stmts.all.Load() != nil || !s.stmts.busy.TryLock() {
		return
	}
	defer s.stmts.busy.Unlock()
	if s.stmts.all.Load() != nil {
		return
	}
	stmts := make(map[string]*sql.Stmt)
	for _, query := range frequent[s.dialect] {
		stmt, err := s.db.PrepareContext(ctx, query)
		if err != nil {
			// There may be no tables yet. The first call that needs them reports that.
			for _, stmt := range stmts {
				_ = stmt.Close()
			}
			return
		}
		stmts[query] = stmt
	}
	s.stmts.all.Store(&stmts)
}

// stmt returns the prepared statement for query, or nil.
func (c conn) stmt(ctx context.Context, query string) *sql.Stmt {
	stmts := c.s.stmts.all.Load()
	if stmts == nil {
		return nil
	}
	stmt := (*stmts)[query]
	if stmt != nil && c.st != nil {
		return c.st.tx.StmtContext(ctx, stmt)
	}
	return stmt
}

// read runs fn, which only reads, in the transaction of ctx or on its own.
func (s *Store) read(ctx context.Context, fn func(conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	c := s.on(ctx)
	if c.st != nil {
		if c.st.unlocked {
			if _, err := c.exec(ctx, takeWriteLock); err != nil {
				return err
			}
		}
		return fn(c)
	}
	if s.dialect == PostgreSQL {
		s.prepare(ctx) // on SQLite a writer does
	}
	return s.retry(ctx, func() error { return fn(c) })
}

// write runs fn, whose statements are each right on their own, in the transaction
// of ctx or without one.
func (s *Store) write(ctx context.Context, fn func(conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.group(ctx).writes()
	c := s.on(ctx)
	if c.st != nil {
		return fn(c)
	}
	return s.retry(ctx, func() error {
		unlock, err := s.lock(ctx)
		if err != nil {
			return err
		}
		defer unlock()
		s.prepare(ctx)
		return fn(c)
	})
}

// atomic runs fn, whose statements belong together, in the transaction of ctx or
// in one of its own. The latter is READ COMMITTED on PostgreSQL whatever the
// default: each statement behind the one that locks the token then sees
// everything that was committed before the lock was granted, so nothing has to
// be run again. (In a caller's transaction of a higher level the statement that
// locks fails with 40001 instead of seeing less.)
func (s *Store) atomic(ctx context.Context, fn func(context.Context, conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.group(ctx).writes()
	if s.state(ctx) != nil {
		return fn(ctx, s.on(ctx))
	}
	level := sql.LevelDefault
	if s.dialect == PostgreSQL {
		level = sql.LevelReadCommitted
	}
	return s.retry(ctx, func() error {
		return s.runTx(ctx, level, func(ctx context.Context) error { return fn(ctx, s.on(ctx)) })
	})
}
