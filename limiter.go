package uia

import (
	"container/list"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"
)

// Limiter bounds how many wrong guesses a client may make. One limiter serves
// every place where a secret can be guessed, so that all of them draw on one
// budget.
type Limiter interface {
	// Charge takes one failure from the client's budget before a guess is looked
	// at, so that a thousand guesses at once are no cheaper than a thousand in a
	// row. The caller then looks at the guess and calls settle: true if it was
	// wrong, false to give the charge back (it was right, or could not be looked
	// at). Settle must be called, on every path; calls after the first do
	// nothing. It is nil if err is not.
	//
	// The error is a *LimitError if the budget is spent, ErrNoClient if client is
	// no address, or the context's. With any error the guess must not be looked
	// at. Charge may wait, within the context, for guesses that are in flight.
	Charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error)
}

// ErrNoClient says that it is not known who asks. It is a mistake of the host or
// of its proxies: letting such requests share one budget would let one of them
// lock all the others out.
var ErrNoClient = errors.New("uia: no client address to limit failures by")

// LimitError says that the client's budget of failures is spent.
type LimitError struct {
	// RetryAfter is how long it takes until the client may guess once more.
	RetryAfter time.Duration
}

// Error says how long the client has to wait.
func (e *LimitError) Error() string {
	return fmt.Sprintf("uia: too many failures, retry after %v", e.RetryAfter)
}

// LimiterOptions are the options of [NewLimiter]. A zero field means the default.
type LimiterOptions struct {
	// Burst is how many failures a client has at first, and at most. Zero means 60.
	Burst int
	// Refill is how long it takes until one failure is forgiven. Zero means 10
	// seconds: with the default burst a client has 8,700 guesses on its first day.
	Refill time.Duration
	// MaxClients is for how many clients a budget is kept, about 75 bytes each.
	// A client counts while it has a guess in flight or a failure that is not
	// forgiven. When there are more, the further ones share one budget until
	// others' failures are forgiven. Zero means 32,768.
	MaxClients int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// FailureLimiter is the [Limiter] of a single process: a budget of failures for
// each IPv4 address and for each IPv6 /64, which is what one customer of a
// provider has. An IPv4 address mapped to IPv6 counts as the former.
//
// Guesses in flight never cost a client its turn: Charge waits for them, first
// come first served, and refuses only when settled failures alone have spent the
// budget. So any number of users behind one address can register at once, and
// still no more wrong guesses than the budget are ever looked at.
//
// It starts no goroutine, and its memory is bounded.
type FailureLimiter struct {
	refill, budget time.Duration // budget is what a client may owe: burst times refill
	max            int
	now            func() time.Time
	start          time.Time // instants are kept as durations since start: 8 bytes instead of 24

	mu       sync.Mutex
	clients  map[clientKey]*bucket
	overflow bucket        // for everybody for whom there is no room in clients
	scanned  time.Duration // when clients was last searched for forgiven ones
}

// bucket is one client's budget. Each failure moves full ahead by one refill, so
// that nothing needs to run for failures to be forgiven.
type bucket struct {
	full  time.Duration // when the whole budget is back
	busy  int           // guesses in flight
	queue *list.List    // of chan error: who waits for one of them; nil if nobody did yet
}

// clientKey is an IPv4 address mapped to IPv6, or an IPv6 address without its
// lower half.
type clientKey struct{ hi, lo uint64 }

// NewLimiter returns a limiter for one process. Nil means the default options; a
// negative one is an error.
func NewLimiter(opts *LimiterOptions) (*FailureLimiter, error) {
	var o LimiterOptions
	if opts != nil {
		o = *opts
	}
	if o.Burst == 0 {
		o.Burst = 60
	}
	if o.Refill == 0 {
		o.Refill = 10 * time.Second
	}
	if o.MaxClients == 0 {
		o.MaxClients = 32768
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var errs []error
	for name, v := range map[string]int64{"Burst": int64(o.Burst), "Refill": int64(o.Refill), "MaxClients": int64(o.MaxClients)} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("uia: LimiterOptions.%s is negative", name))
		}
	}
	if len(errs) == 0 && int64(o.Burst) > math.MaxInt64/4/int64(o.Refill) {
		errs = append(errs, errors.New("uia: LimiterOptions.Burst times Refill is over 73 years"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &FailureLimiter{
		refill:  o.Refill,
		budget:  time.Duration(o.Burst) * o.Refill,
		max:     o.MaxClients,
		now:     o.Now,
		start:   o.Now(),
		clients: make(map[clientKey]*bucket),
		scanned: math.MinInt64 / 2,
	}, nil
}

var _ Limiter = (*FailureLimiter)(nil)

// Charge implements [Limiter].
func (l *FailureLimiter) Charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error) {
	key, ok := keyOf(client)
	if !ok {
		return nil, ErrNoClient
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	now := l.elapsed()
	b := l.bucket(key, now)
	l.serve(b, now) // time may have made room for those who wait already
	if err := l.spent(b, now); err != nil {
		l.mu.Unlock()
		return nil, err
	}
	if l.room(b, now) { // and so nobody waits
		b.busy++
		l.mu.Unlock()
		return l.settler(key, b), nil
	}
	if b.queue == nil {
		b.queue = list.New()
	}
	turn := make(chan error, 1)
	place := b.queue.PushBack(turn)
	l.mu.Unlock()

	select {
	case err := <-turn:
		if err != nil {
			return nil, err
		}
		return l.settler(key, b), nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-turn: // served at the same moment
		if err == nil {
			l.settle(key, b, false)
		}
	default:
		b.queue.Remove(place)
	}
	return nil, ctx.Err()
}

// settler returns the function which settles one charge.
func (l *FailureLimiter) settler(key clientKey, b *bucket) func(bool) {
	var once sync.Once
	return func(failed bool) {
		once.Do(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.settle(key, b, failed)
		})
	}
}

func (l *FailureLimiter) settle(key clientKey, b *bucket, failed bool) {
	now := l.elapsed()
	b.busy--
	if failed {
		b.full = now + l.debt(b, now) + l.refill
	}
	l.serve(b, now)
	if b.busy == 0 && l.debt(b, now) == 0 && l.clients[key] == b {
		delete(l.clients, key)
	}
}

// serve lets in those who wait while there is room, or turns all of them away
// if what has settled meanwhile spent the budget.
func (l *FailureLimiter) serve(b *bucket, now time.Duration) {
	for b.waiting() > 0 {
		err := l.spent(b, now)
		if err == nil && !l.room(b, now) {
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
func (l *FailureLimiter) debt(b *bucket, now time.Duration) time.Duration {
	return min(max(b.full-now, 0), l.budget)
}

// room reports whether one more guess can be let in even if all that are in
// flight turn out to be wrong.
func (l *FailureLimiter) room(b *bucket, now time.Duration) bool {
	return l.debt(b, now)+time.Duration(b.busy+1)*l.refill <= l.budget
}

// spent returns a *LimitError if not even the settled failures leave room.
func (l *FailureLimiter) spent(b *bucket, now time.Duration) error {
	if wait := l.debt(b, now) + l.refill - l.budget; wait > 0 {
		return &LimitError{RetryAfter: wait}
	}
	return nil
}

func (b *bucket) waiting() int {
	if b.queue == nil {
		return 0
	}
	return b.queue.Len()
}

// bucket returns the client's budget, or the shared one if there is no room for
// another client.
func (l *FailureLimiter) bucket(key clientKey, now time.Duration) *bucket {
	if b := l.clients[key]; b != nil {
		return b
	}
	// A scan takes about a millisecond, and between two of them less than one
	// refill's worth of failures is forgiven: more often would be wasted on a flood.
	if len(l.clients) >= l.max && now-l.scanned >= l.refill {
		l.scanned = now
		for k, b := range l.clients {
			if b.busy == 0 && l.debt(b, now) == 0 {
				delete(l.clients, k)
			}
		}
	}
	if len(l.clients) >= l.max {
		return &l.overflow
	}
	b := new(bucket)
	l.clients[key] = b
	return b
}

func (l *FailureLimiter) elapsed() time.Duration { return l.now().Sub(l.start) }

// keyOf returns what the client's budget is kept under. It is false for what
// cannot be the address of a client.
func keyOf(client netip.Addr) (clientKey, bool) {
	client = client.Unmap()
	if !client.IsValid() || client.IsUnspecified() {
		return clientKey{}, false
	}
	a := client.As16()
	key := clientKey{hi: binary.BigEndian.Uint64(a[:8])}
	if client.Is4() {
		key.lo = binary.BigEndian.Uint64(a[8:])
	}
	return key, true
}
