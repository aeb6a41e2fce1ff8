package sqlstore

import (
	"context"
	"errors"
	"time"
)

// Queue makes the Store take its turn in the queue by which the host serialises its
// own writes to SQLite. lock waits for the turn, within the context, and returns the
// function that ends it; it need not be reentrant.
//
// A host that has such a queue must pass it. Its transactions may then read first and
// write later, as they could before, because nobody else writes in between. If the Store
// does not use the queue, one in ten of such transactions gets "database is locked", at
// once and whatever the busy timeout.
//
// The host must not have its turn when it calls the Store: the Store would wait for it,
// for 15 seconds, and then fail. That goes for [Store.InTx] too: it takes the turn before
// it begins, and what the host writes inside InTx needs no further turn. A host that has
// its turn and a transaction already uses [Store.WithTx].
//
// On PostgreSQL it is not used.
func Queue(lock func(ctx context.Context) (unlock func(), err error)) Option {
	return func(s *Store) { s.queue = lock }
}

// lockWait is how long a writer queues on SQLite before it gives up. It ends the wait of
// a host that calls the Store while it has its own turn.
const lockWait = 15 * time.Second

var errLockWait = errors.New("sqlstore: waited too long for this process's other SQLite transactions: " +
	"is the store called inside InTx with another context than InTx gave, or by a host that has its turn in Queue?")

// lock queues the writers of this process on SQLite.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	if s.dialect != SQLite {
		return func() {}, nil
	}
	patience, cancel := context.WithTimeoutCause(ctx, lockWait, errLockWait)
	defer cancel()
	unlock, err = s.queue(patience)
	if err != nil && context.Cause(patience) == errLockWait {
		err = errLockWait
	}
	return unlock, err
}

// inOrder returns a queue that serves waiting writers in the order in which they came.
func inOrder() func(context.Context) (func(), error) {
	turn := make(chan struct{}, 1)
	return func(ctx context.Context) (func(), error) {
		select {
		case turn <- struct{}{}:
			return func() { <-turn }, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
