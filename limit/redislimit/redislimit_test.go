package redislimit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit/redislimit"
)

var alice, bob = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

// process is a limiter with a connection of its own, as another process has.
func process(t testing.TB, s *server, o redislimit.Options) *redislimit.Limiter {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = time.Minute // the machine may be busy
	}
	l, err := redislimit.New(s.client(t), &o)
	require.NoError(t, err)
	return l
}

// guess makes one guess from the address and reports what Charge said of it.
func guess(t testing.TB, l uia.Limiter, from netip.Addr, wrong bool) error {
	t.Helper()
	settle, err := l.Charge(t.Context(), from)
	if err != nil {
		assert.Nil(t, settle)
		return err
	}
	settle(wrong)
	settle(!wrong) // does nothing
	return nil
}

func retryAfter(t testing.TB, err error) time.Duration {
	t.Helper()
	limited, ok := errors.AsType[*uia.LimitError](err)
	require.True(t, ok, "not a *LimitError: %v", err)
	return limited.RetryAfter
}

func TestOneBudget(t *testing.T) {
	s := startRedis(t)
	a, b := process(t, s, redislimit.Options{Burst: 4, Refill: time.Hour}), process(t, s, redislimit.Options{Burst: 4, Refill: time.Hour})
	for range 2 {
		require.NoError(t, guess(t, a, alice, false), "a right guess is given back")
		require.NoError(t, guess(t, a, alice, true))
		require.NoError(t, guess(t, b, alice, true))
	}
	for _, l := range []uia.Limiter{a, b, process(t, s, redislimit.Options{Burst: 4, Refill: time.Hour})} {
		assert.InDelta(t, time.Hour, retryAfter(t, guess(t, l, alice, true)), float64(10*time.Minute))
	}
	assert.NoError(t, guess(t, a, bob, true), "another client")
	assert.NoError(t, guess(t, process(t, s, redislimit.Options{Burst: 4, Refill: time.Hour, Prefix: "other:"}), alice, true), "another homeserver")
	assert.ErrorIs(t, guess(t, a, netip.Addr{}, true), uia.ErrNoClient)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := b.Charge(cancelled, bob)
	assert.ErrorIs(t, err, context.Canceled)
}

// TestForgiven shows that failures are forgiven one by one, and that nothing stays.
func TestForgiven(t *testing.T) {
	s := startRedis(t)
	o := redislimit.Options{Burst: 3, Refill: 400 * time.Millisecond}
	l := process(t, s, o)
	for range 3 {
		require.NoError(t, guess(t, l, alice, true))
	}
	left := retryAfter(t, guess(t, process(t, s, o), alice, true))
	assert.LessOrEqual(t, left, 400*time.Millisecond)
	wait(t, left)
	require.NoError(t, guess(t, process(t, s, o), alice, true))
	redis := s.client(t)
	require.Eventually(t, func() bool { return redis.DBSize(t.Context()).Val() == 0 }, time.Minute, 20*time.Millisecond, "the keys expire")
}

// TestSlash48 guesses from all over a /48 through two processes.
func TestSlash48(t *testing.T) {
	s := startRedis(t)
	o := redislimit.Options{Burst: 3, Refill: time.Hour}
	limiters := []uia.Limiter{process(t, s, o), process(t, s, o)}
	looked := 0
	for i := range 40 {
		from := netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%x::1", i))
		for _, l := range limiters {
			for guess(t, l, from, true) == nil {
				looked++
			}
		}
	}
	assert.Equal(t, 8*3, looked)
	assert.NoError(t, guess(t, limiters[0], netip.MustParseAddr("2001:db8:2::1"), true))
}

// TestStorm has 10,000 guesses at once over three processes, all of them wrong.
func TestStorm(t *testing.T) {
	s := startRedis(t)
	var looked, refused atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		l := process(t, s, redislimit.Options{Refill: time.Hour})
		for range 10_000 / 3 {
			wg.Go(func() {
				switch err := guess(t, l, alice, true); {
				case err == nil:
					looked.Add(1)
				default:
					retryAfter(t, err)
					refused.Add(1)
				}
			})
		}
	}
	wg.Wait()
	assert.EqualValues(t, 60, looked.Load())
	assert.EqualValues(t, 9999-60, refused.Load())
}

// TestHonestUsersWait has more users behind one address than the budget, at once:
// none is refused.
func TestHonestUsersWait(t *testing.T) {
	s := startRedis(t)
	o := redislimit.Options{Burst: 2, Refill: time.Hour}
	limiters := []uia.Limiter{process(t, s, o), process(t, s, o)}
	require.NoError(t, guess(t, limiters[0], alice, true)) // a single turn is left
	var at atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			settle, err := limiters[i%2].Charge(t.Context(), alice)
			if assert.NoError(t, err) {
				assert.EqualValues(t, 1, at.Add(1), "guesses in flight")
				at.Add(-1)
				settle(false)
			}
		})
	}
	wg.Wait()
}

// TestGivesUpWaiting hangs up while another guess is in flight, and takes nothing.
func TestGivesUpWaiting(t *testing.T) {
	s := startRedis(t)
	o := redislimit.Options{Burst: 1, Refill: time.Hour}
	settle, err := process(t, s, o).Charge(t.Context(), alice)
	require.NoError(t, err)
	l := process(t, s, o)
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = l.Charge(short, alice)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	settle(false)
	assert.NoError(t, guess(t, l, alice, true))
}

// TestProcessDies has a process die with a guess in flight. When its lease has ended
// the guess counts as wrong, and what the process says later counts no more.
func TestProcessDies(t *testing.T) {
	s := startRedis(t)
	o := redislimit.Options{Burst: 2, Refill: time.Hour}
	settle, err := process(t, s, o).Charge(t.Context(), alice)
	require.NoError(t, err)
	redis := s.client(t)
	busy := redis.ZRangeWithScores(t.Context(), "uia:limit:{192.0.2.1}192.0.2.1/32:busy", 0, -1).Val()
	require.Len(t, busy, 1)
	busy[0].Score -= float64(time.Hour.Microseconds()) // the server's clock cannot be set
	require.NoError(t, redis.ZAdd(t.Context(), "uia:limit:{192.0.2.1}192.0.2.1/32:busy", busy[0]).Err())
	l := process(t, s, o)
	require.NoError(t, guess(t, l, alice, false))
	settle(false)
	require.NoError(t, guess(t, l, alice, true))
	assert.InDelta(t, time.Hour, retryAfter(t, guess(t, l, alice, true)), float64(10*time.Minute))
}

// TestAway stops Redis. The host has chosen what becomes of guesses then.
func TestAway(t *testing.T) {
	s := startRedis(t)
	var log bytes.Buffer
	o := redislimit.Options{Burst: 2, Refill: time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	refuses := process(t, s, o)
	o.Alone, o.Logger = true, nil
	alone := process(t, s, o)
	require.NoError(t, guess(t, refuses, alice, true))
	require.NoError(t, guess(t, alone, alice, true))
	assert.Error(t, guess(t, alone, alice, true), "both count")
	settle, err := alone.Charge(t.Context(), bob)
	require.NoError(t, err)
	s.process.Kill()

	for range 3 {
		err := guess(t, refuses, bob, true)
		require.Error(t, err)
		_, limited := errors.AsType[*uia.LimitError](err)
		assert.False(t, limited)
	}
	assert.Equal(t, 1, bytes.Count(log.Bytes(), []byte("WARN")), log.String())
	settle(true)
	require.NoError(t, guess(t, alone, bob, true))
	assert.InDelta(t, time.Hour, retryAfter(t, guess(t, alone, bob, true)), float64(10*time.Minute), "this process counts")
}

func TestNew(t *testing.T) {
	s := startRedis(t)
	_, err := redislimit.New(nil, nil)
	assert.Error(t, err)
	for _, o := range []redislimit.Options{{Burst: -1}, {Refill: -1}, {Refill: time.Nanosecond}, {MaxClients: -1}, {Timeout: -1}} {
		_, err := redislimit.New(s.client(t), &o)
		assert.Error(t, err, "%+v", o)
	}
	l, err := redislimit.New(s.client(t), nil)
	require.NoError(t, err)
	assert.NoError(t, guess(t, l, alice, false))
	assert.Zero(t, s.client(t).DBSize(t.Context()).Val(), "who guesses right leaves nothing")
}
