package limit

import (
	"container/list"
	"time"

	"github.com/matrix-uia/uia"
)

// bucket is one client's budget. Each failure moves full ahead by one refill, so
// that nothing needs to run for failures to be forgiven.
type bucket struct {
	full  time.Duration // when the whole budget is back
	busy  int           // guesses in flight
	queue *list.List    // of chan error: those that wait for one of them; nil if none has waited yet
}

// serve lets waiting guesses in while there is room. If settled failures have spent the
// budget, it turns all of them away.
func (t *table) serve(b *bucket, now time.Duration) {
	for b.waiting() > 0 {
		err := t.spent(b, now)
		if err == nil && !t.room(b, now) {
			return
		}
		if err == nil {
			b.busy++
		}
		b.queue.Remove(b.queue.Front()).(chan error) <- err
	}
}

// debt is how long it takes until the whole budget is back. A clock that was set
// back cannot make it more than the budget.
func (t *table) debt(b *bucket, now time.Duration) time.Duration {
	return min(max(b.full-now, 0), t.budget)
}

// room reports whether one more guess can be let in even if all that are in
// flight turn out to be wrong.
func (t *table) room(b *bucket, now time.Duration) bool {
	return t.debt(b, now)+time.Duration(b.busy+1)*t.refill <= t.budget
}

// spent returns a *uia.LimitError if not even the settled failures leave room.
func (t *table) spent(b *bucket, now time.Duration) error {
	if wait := t.debt(b, now) + t.refill - t.budget; wait > 0 {
		return &uia.LimitError{RetryAfter: wait}
	}
	return nil
}

func (b *bucket) waiting() int {
	if b.queue == nil {
		return 0
	}
	return b.queue.Len()
}
