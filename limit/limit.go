// Package limit bounds how many wrong guesses each client may make, in one process:
// it is the usual [uia.Config.Limiter].
package limit

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/matrix-uia/uia"
)

// Options are the options of [New]. A zero field means the default.
type Options struct {
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

// Limiter is the [uia.Limiter] of a single process: a budget of failures for
// each IPv4 address and for each IPv6 /64, which is what one customer of a
// provider has. An IPv4 address mapped to IPv6 counts as the former.
//
// Guesses in flight never cost a client its turn: Charge waits for them, first
// come first served, and refuses only when settled failures alone have spent the
// budget. So any number of users behind one address can register at once, and
// still no more wrong guesses than the budget are ever looked at.
//
// It starts no goroutine, and its memory is bounded.
type Limiter struct {
	refill, budget time.Duration // budget is what a client may owe: burst times refill
	max            int
	now            func() time.Time
	start          time.Time // instants are kept as durations since start: 8 bytes instead of 24

	mu       sync.Mutex
	clients  map[clientKey]*bucket
	overflow bucket        // for everybody for whom there is no room in clients
	scanned  time.Duration // when clients was last searched for forgiven ones
}

// New returns a limiter for one process. Nil means the default options; a
// negative one is an error.
func New(opts *Options) (*Limiter, error) {
	var o Options
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
	for _, option := range [...]struct {
		name  string
		value int64
	}{{"Burst", int64(o.Burst)}, {"Refill", int64(o.Refill)}, {"MaxClients", int64(o.MaxClients)}} {
		if option.value < 0 {
			errs = append(errs, fmt.Errorf("limit: %s is negative", option.name))
		}
	}
	if len(errs) == 0 && int64(o.Burst) > math.MaxInt64/4/int64(o.Refill) {
		errs = append(errs, errors.New("limit: Burst times Refill is over 73 years"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Limiter{
		refill:  o.Refill,
		budget:  time.Duration(o.Burst) * o.Refill,
		max:     o.MaxClients,
		now:     o.Now,
		start:   o.Now(),
		clients: make(map[clientKey]*bucket),
		scanned: math.MinInt64 / 2,
	}, nil
}

var _ uia.Limiter = (*Limiter)(nil)

// Charge implements [uia.Limiter].
func (l *Limiter) Charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error) {
	key, ok := keyOf(client)
	if !ok {
		return nil, uia.ErrNoClient
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
func (l *Limiter) settler(key clientKey, b *bucket) func(bool) {
	var once sync.Once
	return func(failed bool) {
		once.Do(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.settle(key, b, failed)
		})
	}
}

func (l *Limiter) settle(key clientKey, b *bucket, failed bool) {
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

// bucket returns the client's budget, or the shared one if there is no room for
// another client.
func (l *Limiter) bucket(key clientKey, now time.Duration) *bucket {
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

func (l *Limiter) elapsed() time.Duration { return l.now().Sub(l.start) }
