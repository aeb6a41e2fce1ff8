package dbtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/simtest"
	"github.com/matrix-uia/uia/sqlstore"
)

// This file lets package simtest decide which of several connections of PostgreSQL goes
// on before each statement: a driver stops before it sends one. An actor whose statement
// waits for a lock is one that cannot go on until whoever has the lock does.

// scheduledConn is a connection of pgx on which actors stop.
type scheduledConn struct{ *stdlib.Conn }

type scheduledConnector struct{ driver.Connector }

func (c scheduledConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	return scheduledConn{conn.(*stdlib.Conn)}, nil
}

func (c scheduledConn) stop(a *sqlActor, statement string) {
	if a != nil {
		a.stop(statement, c.Conn.Conn().PgConn().PID())
	}
}

func (c scheduledConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.stop(sqlActorOf(ctx), query)
	return c.Conn.ExecContext(ctx, query, args)
}

func (c scheduledConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.stop(sqlActorOf(ctx), query)
	return c.Conn.QueryContext(ctx, query, args)
}

// BeginTx stops nobody: a transaction sees and locks nothing before its first statement.
func (c scheduledConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.Conn.BeginTx(ctx, opts)
	return scheduledTx{tx, c, sqlActorOf(ctx)}, err
}

type scheduledTx struct {
	driver.Tx
	c scheduledConn
	a *sqlActor
}

func (t scheduledTx) Commit() error {
	t.c.stop(t.a, "COMMIT")
	return t.Tx.Commit()
}

func (t scheduledTx) Rollback() error {
	t.c.stop(t.a, "ROLLBACK")
	return t.Tx.Rollback()
}

// sqlActor is a goroutine whose statements the scheduler orders. Its context carries it.
type sqlActor struct {
	p    *sqlPlay
	goOn chan struct{}

	// Under p.mu.
	at   string // the statement that it is about to send; "" while it runs, or waits for a lock
	pid  uint32
	done bool
}

type sqlActorKey struct{}

func sqlActorOf(ctx context.Context) *sqlActor {
	a, _ := ctx.Value(sqlActorKey{}).(*sqlActor)
	return a
}

func (a *sqlActor) stop(statement string, pid uint32) {
	a.p.mu.Lock()
	a.at, a.pid = statement, pid
	a.p.mu.Unlock()
	a.p.stirred <- struct{}{}
	<-a.goOn
}

// sqlPlay is one schedule.
type sqlPlay struct {
	ctx     context.Context
	admin   *sql.DB
	stirred chan struct{}
	actors  []*sqlActor

	mu sync.Mutex
}

// start starts the actors.
func (p *sqlPlay) start(scripts []func(ctx context.Context)) {
	for _, script := range scripts {
		a := &sqlActor{p: p, goOn: make(chan struct{})}
		p.actors = append(p.actors, a)
		ctx := context.WithValue(p.ctx, sqlActorKey{}, a)
		go func() {
			script(ctx)
			p.mu.Lock()
			a.done = true
			p.mu.Unlock()
			p.stirred <- struct{}{}
		}()
	}
}

// stopped returns the actors that stand before a statement, and the process IDs of the
// connections of those that do not and have not ended.
func (p *sqlPlay) stopped() (at []int, busy []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, a := range p.actors {
		switch {
		case a.done:
		case a.at != "":
			at = append(at, i)
		default:
			busy = append(busy, int32(a.pid))
		}
	}
	return at, busy
}

// settle waits until every actor stands before a statement, has ended, or waits for a
// lock of one that stands.
func (p *sqlPlay) settle() ([]int, error) {
	for {
		at, busy := p.stopped()
		if len(busy) == 0 {
			return at, nil
		}
		select {
		case <-p.stirred:
			continue
		case <-time.After(2 * time.Millisecond):
		case <-p.ctx.Done():
			return nil, p.ctx.Err()
		}
		waits, err := p.waiting(at, busy)
		if err != nil || waits {
			return at, err
		}
	}
}

// waiting reports whether each of the busy connections waits for one that stands, perhaps
// through others. If they wait for each other the database is about to end one of them.
func (p *sqlPlay) waiting(at []int, busy []int32) (bool, error) {
	rows, err := p.admin.QueryContext(p.ctx, `SELECT pid, unnest(pg_blocking_pids(pid)) FROM unnest($1::int[]) AS pid`, busy)
	if err != nil {
		return false, err
	}
	defer rows.Close()
	blockers := map[int32][]int32{}
	for rows.Next() {
		var pid, by int32
		if err := rows.Scan(&pid, &by); err != nil {
			return false, err
		}
		blockers[pid] = append(blockers[pid], by)
	}
	stands := map[int32]bool{}
	p.mu.Lock()
	for _, i := range at {
		stands[int32(p.actors[i].pid)] = true
	}
	p.mu.Unlock()
	for _, pid := range busy {
		reached, todo := map[int32]bool{}, []int32{pid}
		for len(todo) > 0 {
			next := todo[0]
			todo = todo[1:]
			for _, by := range blockers[next] {
				if !reached[by] {
					reached[by] = true
					todo = append(todo, by)
				}
			}
		}
		if !anyIn(reached, stands) {
			return false, rows.Err()
		}
	}
	return true, rows.Err()
}

func anyIn(a, b map[int32]bool) bool {
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// run plays the schedule.
func (p *sqlPlay) run(choose simtest.Chooser, out *simtest.Outcome) error {
	current := -1
	for step := 0; ; step++ {
		at, err := p.settle()
		if err != nil || len(at) == 0 {
			return err
		}
		m := simtest.Moment{Step: step, Current: current}
		cost := simtest.Budget{}
		if i := slices.Index(at, current); i >= 0 {
			at = slices.Insert(slices.Delete(at, i, i+1), 0, current)
			cost.Preemptions = 1
		}
		for i, who := range at {
			o := simtest.Option{Choice: simtest.Go(who)}
			if i > 0 {
				o.Cost = cost
			}
			m.Options = append(m.Options, o)
		}
		c, _ := choose(m)
		if !slices.ContainsFunc(m.Options, func(o simtest.Option) bool { return o.Choice == c }) {
			c = m.Options[0].Choice // a statement that was sent again, and now is not
		}
		out.Schedule = append(out.Schedule, c)
		current = int(c.Who)
		a := p.actors[current]
		p.mu.Lock()
		out.Trace = append(out.Trace, fmt.Sprintf("%v %.90s", c, strings.Join(strings.Fields(a.at), " ")))
		a.at = ""
		p.mu.Unlock()
		a.goOn <- struct{}{}
	}
}

// scheduledStore opens a database of PostgreSQL whose actors stop, beside one in which
// nobody does.
func scheduledStore(t *testing.T) (admin *sql.DB, s *sqlstore.Store) {
	t.Helper()
	// Where actors wait for each other, this is how soon one of them gets an error.
	dsn := onPostgres("pgx", "deadlock_timeout = '20ms'").dsn(t)
	admin, plain := onPostgres("pgx").open(t, dsn)
	require.NoError(t, plain.Migrate(t.Context()))
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	db := sql.OpenDB(scheduledConnector{stdlib.GetConnector(*config)})
	t.Cleanup(func() { db.Close() })
	db.SetMaxIdleConns(8)
	s, err = sqlstore.New(db, sqlstore.PostgreSQL)
	require.NoError(t, err)
	return admin, s
}
