// Package waiting lets requests of a session wait until a run of its operation ends, in
// this process or in another.
package waiting

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrTimeout says that somebody has waited for as long as he may.
var ErrTimeout = errors.New("waiting: it takes too long")

// Runs knows the sessions whose operation runs in this process, and those for which a
// request of this process watches a run in another process. The zero value is ready.
type Runs struct {
	mu      sync.Mutex
	here    map[string]chan struct{} // by session key: closed when the run ends
	watched map[string]chan struct{} // by session key: closed when the run may have ended
}

// Enter records that a run of the session is in this process, so that the requests that
// wait for it here need not ask the store. Calling leave wakes them.
func (r *Runs) Enter(key string) (leave func()) {
	done := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.here == nil {
		r.here = make(map[string]chan struct{})
	}
	r.here[key] = done
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.here[key] == done { // otherwise another request has taken the run over
			delete(r.here, key)
		}
		close(done)
	}
}

// Wait returns when the run of the session has ended, or may have. look asks the store:
// it returns true once the run has ended. If the run is in another process, only one of
// the requests that wait in this process asks, for all of them, and again after left at
// the latest. Wait returns ErrTimeout after the timeout, and otherwise the error of look
// or of the context.
func (r *Runs) Wait(ctx context.Context, key string, timeout <-chan time.Time, left func() time.Duration, look func() (ended bool, err error)) error {
	r.mu.Lock()
	here, watched := r.here[key], r.watched[key] // nil blocks for ever
	watch := here == nil && watched == nil
	if watch {
		watched = make(chan struct{})
		if r.watched == nil {
			r.watched = make(map[string]chan struct{})
		}
		r.watched[key] = watched
	}
	r.mu.Unlock()
	if watch {
		defer func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.watched, key)
			close(watched)
		}()
		return Until(ctx, timeout, left, look)
	}
	select {
	case <-here:
	case <-watched:
	case <-timeout:
		return ErrTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := look()
	return err
}
