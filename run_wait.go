package uia

import (
	"context"
	"time"
)

const (
	// maxWait is how long a final request waits for another one of its session.
	maxWait = 30 * time.Second
	// The owner of a lease may be in another process, which is asked at growing
	// intervals.
	minPoll = 50 * time.Millisecond
	maxPoll = 500 * time.Millisecond
)

// enter records that the run is in this process, so that the waiting requests of this
// process need not ask the store. Calling leave wakes them.
func (e *Engine) enter(key string) (leave func()) {
	done := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[key] = done
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.running[key] == done { // otherwise another request has taken the lease over
			delete(e.running, key)
		}
		close(done)
	}
}

// await returns when the record of a running session may have changed, or its lease has
// ended, with the record as it is then. If the run is in another process, only one of the
// waiting requests of this process asks the store, for all of them.
func (v *visit) await(ctx context.Context, timeout *time.Timer) error {
	v.e.mu.Lock()
	here, watched := v.e.running[v.s.Key], v.e.watched[v.s.Key] // nil blocks for ever
	watch := here == nil && watched == nil
	if watch {
		watched = make(chan struct{})
		v.e.watched[v.s.Key] = watched
	}
	v.e.mu.Unlock()
	if watch {
		defer func() {
			v.e.mu.Lock()
			defer v.e.mu.Unlock()
			delete(v.e.watched, v.s.Key)
			close(watched)
		}()
		return v.watch(ctx, timeout)
	}
	select {
	case <-here:
	case <-watched:
	case <-timeout.C:
		return errBusy
	case <-ctx.Done():
		return ctx.Err()
	}
	return v.loadRecord(ctx)
}

// watch asks the store for the record until it has changed, or its lease has ended.
func (v *visit) watch(ctx context.Context, timeout *time.Timer) error {
	revision := v.rec.Revision
	for pause := minPoll; ; pause = min(2*pause, maxPoll) {
		poll := time.NewTimer(min(pause, max(v.rec.LeaseEnd.Sub(v.e.now()), time.Millisecond)))
		select {
		case <-poll.C:
		case <-timeout.C:
			poll.Stop()
			return errBusy
		case <-ctx.Done():
			poll.Stop()
			return ctx.Err()
		}
		if err := v.loadRecord(ctx); err != nil {
			return err
		}
		if v.rec.Revision != revision || !v.e.now().Before(v.rec.LeaseEnd) {
			return nil
		}
	}
}
