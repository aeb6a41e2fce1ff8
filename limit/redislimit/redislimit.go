// Package redislimit is a [uia.Limiter] for a homeserver of several processes: they share
// each client's budget of failures in Redis, so that a stranger whose requests go to
// several processes has no more guesses than with one. It is a module of its own, so that
// nobody else requires a Redis client.
//
// Package limit says what a client is, and what it may do. Every guess is charged
// before it is looked at, by one script that is run atomically and by Redis' own
// clock, and given back when it was right. It needs Redis 5 or later; in a cluster the
// keys of one client are on one node. What is kept of a client, under its address,
// expires when its failures are forgiven: by default after ten minutes.
package redislimit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
)

// Options are the options of [New]. A zero field means the default.
type Options struct {
	// Burst, Refill and MaxClients are those of [limit.Options]. All processes must
	// have the same Burst and Refill.
	Burst      int
	Refill     time.Duration
	MaxClients int
	// Prefix is what the keys in Redis begin with. Empty means "uia:limit:".
	Prefix string
	// Timeout is how long one call of Redis may take. Zero means one second.
	Timeout time.Duration
	// Alone says what happens to a guess while Redis does not answer. If it is true, each
	// process counts by itself: strangers then have one budget for each process. If it is
	// false, Charge returns an error, so that nobody can guess or register until Redis
	// answers again.
	Alone bool
	// Logger gets a warning, at most once a minute, while Redis does not answer. Nil
	// discards it.
	Logger *slog.Logger
}

// Limiter is a [uia.Limiter]. Make one with New.
type Limiter struct {
	opts    Options
	redis   redis.Scripter
	process *limit.Limiter // counts too, and keeps the queue of this process
	warned  atomic.Int64   // Unix time
}

var _ uia.Limiter = (*Limiter)(nil)

// lease is how long a guess may be in flight. One that has not been settled by then,
// because its process died perhaps, counts as wrong.
const lease = 2 * time.Minute

// New returns a limiter on a Redis client, which it does not close. Nil means the
// default options; a negative one is an error. It sends nothing.
func New(client redis.Scripter, opts *Options) (*Limiter, error) {
	if client == nil {
		return nil, errors.New("redislimit: no Redis client")
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	process, err := limit.New(&limit.Options{Burst: o.Burst, Refill: o.Refill, MaxClients: o.MaxClients})
	if err != nil {
		return nil, err
	}
	if o.Burst == 0 {
		o.Burst = limit.DefaultBurst
	}
	if o.Refill == 0 {
		o.Refill = limit.DefaultRefill
	}
	if o.Prefix == "" {
		o.Prefix = "uia:limit:"
	}
	if o.Timeout == 0 {
		o.Timeout = time.Second
	}
	// The scripts count microseconds.
	if o.Timeout < 0 || o.Refill < limit.Wide*time.Microsecond {
		return nil, errors.New("redislimit: Timeout is negative, or Refill shorter than 8 microseconds")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Limiter{opts: o, redis: client, process: process}, nil
}

// Charge implements [uia.Limiter]. It first asks the limiter of this process, which knows
// some of the failures and serves waiting guesses in their order, and then Redis, which
// knows all failures.
func (l *Limiter) Charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error) {
	settleHere, err := l.process.Charge(ctx, client)
	if err != nil {
		return nil, err
	}
	keys, refills := l.units(client)
	guess := rand.Text()
	switch err := l.wait(ctx, keys, refills, guess); {
	case err == nil:
	case ctx.Err() != nil:
		settleHere(false)
		l.settle(ctx, keys, refills, guess, false) // Redis may have charged it
		return nil, ctx.Err()
	case errors.Is(err, errAway) && l.opts.Alone:
		return settleHere, nil
	default:
		settleHere(false)
		return nil, err
	}
	var once sync.Once
	return func(failed bool) {
		once.Do(func() {
			l.settle(ctx, keys, refills, guess, failed)
			settleHere(failed)
		})
	}, nil
}

// units returns the keys of the client's budgets, two for each, and how long it takes
// until a failure in each is forgiven.
func (l *Limiter) units(client netip.Addr) (keys []string, refills []time.Duration) {
	narrow, wide, _ := limit.Units(client) // the process' limiter has looked at it
	node := narrow
	if wide.IsValid() {
		node = wide
	}
	add := func(p netip.Prefix, refill time.Duration) {
		key := fmt.Sprintf("%s{%s}%s", l.opts.Prefix, node.Addr(), p)
		keys = append(keys, key, key+":busy")
		refills = append(refills, refill)
	}
	add(narrow, l.opts.Refill)
	if wide.IsValid() {
		add(wide, max(l.opts.Refill/limit.Wide, time.Microsecond))
	}
	return keys, refills
}

// wait charges the guess as soon as those in flight leave room for it.
func (l *Limiter) wait(ctx context.Context, keys []string, refills []time.Duration, guess string) error {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		answer, err := l.run(ctx, charge, keys, refills, guess, lease.Microseconds())
		switch {
		case err != nil:
			return err
		case answer == 0:
			return nil
		case answer > 0:
			return &uia.LimitError{RetryAfter: time.Duration(answer) * time.Microsecond}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// settle ends a guess, also when the client has gone. If Redis does not answer the
// guess counts as wrong when its lease ends.
func (l *Limiter) settle(ctx context.Context, keys []string, refills []time.Duration, guess string, failed bool) {
	_, _ = l.run(context.WithoutCancel(ctx), settle, keys, refills, guess, failed)
}

// errAway says that Redis did not answer.
var errAway = errors.New("redislimit: Redis does not answer")

func (l *Limiter) run(ctx context.Context, script *redis.Script, keys []string, refills []time.Duration, args ...any) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, l.opts.Timeout, errAway)
	defer cancel()
	args = append(args, (time.Duration(l.opts.Burst) * l.opts.Refill).Microseconds())
	for _, r := range refills {
		args = append(args, r.Microseconds())
	}
	answer, err := script.Run(ctx, l.redis, keys, args...).Int64()
	if err != nil {
		err = fmt.Errorf("%w: %w", errAway, err)
		if now, last := time.Now().Unix(), l.warned.Load(); now-last >= 60 && l.warned.CompareAndSwap(last, now) {
			l.opts.Logger.WarnContext(ctx, "redislimit: Redis does not answer", "alone", l.opts.Alone, "error", err)
		}
	}
	return answer, err
}
