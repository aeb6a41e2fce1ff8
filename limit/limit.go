// Package limit bounds how many wrong guesses each client may make, in one process:
// it is the usual [uia.Config.Limiter].
package limit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/matrix-uia/uia"
)

// The defaults of [Options].
const (
	DefaultBurst  = 60
	DefaultRefill = 10 * time.Second
)

// Options are the options of [New]. A zero field means the default.
type Options struct {
	// Burst is how many failures a client has at first, and at most. Zero means
	// DefaultBurst.
	Burst int
	// Refill is how long it takes until one failure is forgiven. Zero means
	// DefaultRefill: with the default burst a client has 8,700 guesses on its first day.
	Refill time.Duration
	// MaxClients is for how many clients a budget is kept, about 75 bytes each, and for
	// how many IPv6 /48. A client counts while it has a guess in flight or a failure
	// that is not forgiven. When there are more, each of the further ones shares a
	// budget with a few others until failures are forgiven. Zero means 32,768.
	MaxClients int
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Limiter is the [uia.Limiter] of a single process: a budget of failures for each IPv4
// address and for each IPv6 /64, and eight such budgets for each IPv6 /48, which
// providers give to a single customer. An IPv4 address that is written as an IPv6 one
// counts as IPv4: mapped, or translated by a NAT64 under 64:ff9b::/96.
//
// Guesses in flight never cost a client its turn: Charge waits for them, first
// come first served, and refuses only when settled failures alone have spent the
// budget. So any number of users behind one address can register at once, and
// still no more wrong guesses than the budget are ever looked at.
//
// It starts no goroutine, and its memory is bounded.
type Limiter struct {
	now   func() time.Time
	start time.Time // instants are kept as durations since start: 8 bytes instead of 24

	mu           sync.Mutex
	narrow, wide *table
}

// New returns a limiter for one process. Nil means the default options; a
// negative one is an error.
func New(opts *Options) (*Limiter, error) {
	var o Options
	if opts != nil {
		o = *opts
	}
	if o.Burst == 0 {
		o.Burst = DefaultBurst
	}
	if o.Refill == 0 {
		o.Refill = DefaultRefill
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
	budget := time.Duration(o.Burst) * o.Refill
	return &Limiter{
		now: o.Now, start: o.Now(),
		narrow: newTable(budget, o.Refill, o.MaxClients),
		wide:   newTable(budget, max(o.Refill/Wide, 1), o.MaxClients), // whole again after the same time
	}, nil
}

var _ uia.Limiter = (*Limiter)(nil)

// Charge implements [uia.Limiter].
func (l *Limiter) Charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error) {
	small, large, ok := Units(client)
	if !ok {
		return nil, uia.ErrNoClient
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// Always take the narrow budget first: in one order, two guesses never wait for each
	// other.
	narrow, wide := keyOf(small), keyOf(large)
	near, err := l.take(ctx, l.narrow, narrow)
	if err != nil {
		return nil, err
	}
	var far *bucket
	end := func(failed bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		now := l.elapsed()
		l.narrow.settle(narrow, near, now, failed)
		if far != nil {
			l.wide.settle(wide, far, now, failed)
		}
	}
	if large.IsValid() {
		if far, err = l.take(ctx, l.wide, wide); err != nil {
			far = nil
			end(false)
			return nil, err
		}
	}
	var once sync.Once
	return func(failed bool) { once.Do(func() { end(failed) }) }, nil
}

func (l *Limiter) elapsed() time.Duration { return l.now().Sub(l.start) }
