package limit_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
)

var alice, bob = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")

func newLimiter(t testing.TB, o *limit.Options) *limit.Limiter {
	t.Helper()
	l, err := limit.New(o)
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
	return nil
}

func retryAfter(t testing.TB, err error) time.Duration {
	t.Helper()
	limited, ok := errors.AsType[*uia.LimitError](err)
	require.True(t, ok, "not a *LimitError: %v", err)
	return limited.RetryAfter
}

func TestLimiterForgivesOneFailureEachRefill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, nil)
		for range 60 {
			require.NoError(t, guess(t, l, alice, true))
		}
		assert.Equal(t, 10*time.Second, retryAfter(t, guess(t, l, alice, true)))
		assert.NoError(t, guess(t, l, bob, true), "another client has its own budget")
		wait(t, 10*time.Second-1)
		assert.Equal(t, time.Duration(1), retryAfter(t, guess(t, l, alice, true)))
		wait(t, 1)
		require.NoError(t, guess(t, l, alice, false))
		require.NoError(t, guess(t, l, alice, true), "a right guess is given back")
		assert.Equal(t, 10*time.Second, retryAfter(t, guess(t, l, alice, false)), "even a right guess is not looked at")
		wait(t, time.Hour)
		for range 60 {
			require.NoError(t, guess(t, l, alice, true))
		}
		assert.Error(t, guess(t, l, alice, true), "an hour forgives no more than everything")
	})
}

// wait lets the bubble's clock pass.
func wait(t testing.TB, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}

func TestLimiterLooksAtNoMoreWrongGuessesThanTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, nil)
		var looked, refused atomic.Int64
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				settle, err := l.Charge(t.Context(), alice)
				if err != nil {
					assert.Equal(t, 10*time.Second-time.Millisecond, retryAfter(t, err))
					refused.Add(1)
					return
				}
				looked.Add(1)
				wait(t, time.Duration(looked.Load()/60)*time.Millisecond) // the sixtieth is slow
				settle(true)
			})
		}
		wg.Wait()
		assert.EqualValues(t, 60, looked.Load())
		assert.EqualValues(t, 40, refused.Load())
	})
}

func TestLimiterNeverRefusesHonestUsers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, nil)
		for range 59 {
			require.NoError(t, guess(t, l, alice, true)) // a single turn is left
		}
		var order []int
		var wg sync.WaitGroup
		for i := range 1000 {
			wg.Go(func() {
				settle, err := l.Charge(t.Context(), alice)
				if assert.NoError(t, err) {
					order = append(order, i) // the race detector proves that it is one at a time
					settle(false)
				}
			})
			synctest.Wait()
		}
		wg.Wait()
		for i := range order {
			require.Equal(t, i, order[i], "first come, first served")
		}
		assert.Len(t, order, 1000)
	})
}

func TestLimiterQueue(t *testing.T) {
	one := &limit.Options{Burst: 1}
	start := func(t *testing.T, l uia.Limiter, ctx context.Context) (answer chan error, settle chan func(bool)) {
		answer, settle = make(chan error, 1), make(chan func(bool), 1)
		go func() {
			s, err := l.Charge(ctx, alice)
			answer <- err
			settle <- s
		}()
		synctest.Wait()
		return answer, settle
	}
	t.Run("a wrong guess turns away those who wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(t, one)
			settle, err := l.Charge(t.Context(), alice)
			require.NoError(t, err)
			a, _ := start(t, l, t.Context())
			b, _ := start(t, l, t.Context())
			settle(true)
			assert.Equal(t, 10*time.Second, retryAfter(t, <-a))
			assert.Equal(t, 10*time.Second, retryAfter(t, <-b))
		})
	})
	t.Run("who gives up waiting takes no turn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(t, one)
			settle, err := l.Charge(t.Context(), alice)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			a, _ := start(t, l, ctx)
			b, _ := start(t, l, t.Context())
			cancel()
			assert.ErrorIs(t, <-a, context.Canceled)
			settle(false)
			assert.NoError(t, <-b)
		})
	})
	t.Run("served and cancelled at once", func(t *testing.T) {
		// Whichever of the two the waiter sees first, the turn must not be lost.
		for range 200 {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(t, one)
				settle, err := l.Charge(t.Context(), alice)
				require.NoError(t, err)
				ctx, cancel := context.WithCancel(t.Context())
				a, s := start(t, l, ctx)
				cancel()
				settle(false)
				if <-a == nil {
					(<-s)(false)
				}
				b, _ := start(t, l, t.Context())
				select {
				case err := <-b:
					assert.NoError(t, err)
				default:
					t.Fatal("the turn was lost")
				}
			})
		}
	})
	t.Run("time makes room for those who wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(t, &limit.Options{Burst: 2})
			require.NoError(t, guess(t, l, alice, true))
			_, err := l.Charge(t.Context(), alice) // stuck: never settled
			require.NoError(t, err)
			a, _ := start(t, l, t.Context())
			wait(t, 10*time.Second)
			b, _ := start(t, l, t.Context())
			assert.NoError(t, <-a)
			select {
			case <-b:
				t.Fatal("a third guess is in flight")
			default:
			}
			ctx, cancel := context.WithCancel(t.Context())
			c, _ := start(t, l, ctx)
			cancel()
			assert.ErrorIs(t, <-c, context.Canceled)
		})
	})
}

func TestLimiterCancelledContextTakesNothing(t *testing.T) {
	l := newLimiter(t, &limit.Options{Burst: 1})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := l.Charge(ctx, alice)
	assert.ErrorIs(t, err, context.Canceled)
	assert.NoError(t, guess(t, l, alice, true))
}

func TestLimiterSettlesOnce(t *testing.T) {
	l := newLimiter(t, &limit.Options{Burst: 2})
	settle, err := l.Charge(t.Context(), alice)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { settle(true) })
	}
	wg.Wait()
	settle(false) // neither gives it back
	assert.NoError(t, guess(t, l, alice, true))
	assert.Error(t, guess(t, l, alice, true))
}

func TestLimiterClients(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"192.0.2.1", "::ffff:192.0.2.2", false},
		{"2001:db8::1", "2001:db8:0:0:ffff::1", true},
		{"2001:db8::1", "2001:db8:0:1::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", true},
		{"fe80::1%eth0", "fe80::2", true},
		{"::1", "127.0.0.1", false},
		{"64:ff9b::c000:201", "192.0.2.1", true},
		{"64:ff9b::c000:201", "64:ff9b::c000:202", false},
		{"64:ff9b::c000:201%eth0", "192.0.2.1", true},
		{"64:ff9b:0:1::c000:201", "192.0.2.1", false},
		{"192.0.2.1", "0:0:0:0:0:fffe:c000:201", false},
	} {
		l := newLimiter(t, &limit.Options{Burst: 1})
		require.NoError(t, guess(t, l, netip.MustParseAddr(c.a), true))
		err := guess(t, l, netip.MustParseAddr(c.b), true)
		assert.Equal(t, c.same, err != nil, "%s and %s", c.a, c.b)
	}
	l := newLimiter(t, nil)
	for _, a := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified(), netip.MustParseAddr("::ffff:0.0.0.0"), netip.MustParseAddr("64:ff9b::")} {
		assert.ErrorIs(t, guess(t, l, a, true), uia.ErrNoClient, "%v", a)
	}
}

func TestLimiterSharesBudgetsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(t, &limit.Options{Burst: 2, MaxClients: 10}) // and so one bucket is shared
		addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
		for i := range 10 {
			require.NoError(t, guess(t, l, addr(i), i != 0)) // the first guessed right, and is forgotten
		}
		require.NoError(t, guess(t, l, addr(10), true))
		require.NoError(t, guess(t, l, addr(11), true))
		require.NoError(t, guess(t, l, addr(12), true))
		assert.Error(t, guess(t, l, addr(13), true), "11 and 12 have spent the budget of all newcomers")
		assert.NoError(t, guess(t, l, addr(1), true), "who was there before is not affected")
		wait(t, 10*time.Second)
		assert.NoError(t, guess(t, l, addr(14), true), "2 to 10 are forgiven, and there is room again")
		assert.NoError(t, guess(t, l, addr(14), true))
		assert.Error(t, guess(t, l, addr(14), true), "its own budget")
		assert.NoError(t, guess(t, l, addr(1), true), "1 owed two, and owes one")
	})
}

// in48 is an address in a /64 of a /48.
func in48(network, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::1", network, n))
}

// TestGuessesPerSlash48 guesses from all of a /48, at once and for an hour.
func TestGuessesPerSlash48(t *testing.T) {
	now := time.Now()
	l := newLimiter(t, &limit.Options{Now: func() time.Time { return now }})
	storm := func(networks int) (looked int) {
		for i := range networks {
			for guess(t, l, in48(1, i), true) == nil {
				looked++
			}
		}
		return looked
	}
	assert.Equal(t, 8*60, storm(65536))
	assert.Equal(t, 1250*time.Millisecond, retryAfter(t, guess(t, l, in48(1, 65535), true)))
	for range 20 {
		now = now.Add(time.Minute)
		assert.Equal(t, 8*6, storm(100), "in a minute")
	}
	for range 60 {
		assert.NoError(t, guess(t, l, in48(2, 0), true), "another /48 is another customer")
	}
	assert.Error(t, guess(t, l, in48(2, 0), true), "a /64 has the budget of an IPv4 address")
}

// TestOverflowLockout has strangers fill the table of clients from whole networks:
// whoever comes then has hardly anything to share with them.
func TestOverflowLockout(t *testing.T) {
	l := newLimiter(t, nil)
	refused := func() (n int) {
		for i := range 1000 {
			if guess(t, l, netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), false) != nil {
				n++
			}
		}
		return n
	}
	for i := range 65536 {
		_ = guess(t, l, in48(1, i), true)
	}
	assert.Zero(t, refused(), "one /48 has not even filled it")
	for network := range 80 {
		for i := range 480 {
			_ = guess(t, l, in48(2+network, i), true)
		}
	}
	assert.Zero(t, refused(), "eighty of them have, and spent a few of the shared budgets")
}

func TestLimiterForgetsWhoGuessedRight(t *testing.T) {
	l := newLimiter(t, &limit.Options{Burst: 1, MaxClients: 1})
	for i := range 4 {
		assert.NoError(t, guess(t, l, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), i >= 2))
	}
}

func TestLimiterMemoryIsBounded(t *testing.T) {
	now := time.Now()
	l := newLimiter(t, &limit.Options{Now: func() time.Time { return now }})
	before := heap()
	var looked int
	for i := range 200_000 {
		for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), in48(i>>2, i&3)} {
			if guess(t, l, addr, true) == nil {
				looked++
			}
		}
	}
	grown := int64(heap()) - int64(before)
	t.Logf("400,000 wrong guesses from as many addresses: %d looked at, heap grew by %d KiB", looked, grown>>10)
	assert.Less(t, grown, int64(8<<20))
	now = now.Add(time.Hour)
	assert.NoError(t, guess(t, l, alice, true))
	runtime.KeepAlive(l)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestLimiterClockSetBack(t *testing.T) {
	now := time.Now()
	l := newLimiter(t, &limit.Options{Burst: 1, Now: func() time.Time { return now }})
	require.NoError(t, guess(t, l, alice, true))
	now = now.Add(-time.Hour)
	assert.Equal(t, 10*time.Second, retryAfter(t, guess(t, l, alice, true)), "not an hour and ten seconds")
}

func TestLimiterOptions(t *testing.T) {
	_, err := limit.New(&limit.Options{Burst: -1, Refill: -1, MaxClients: -1})
	assert.EqualError(t, err, "limit: Burst is negative\nlimit: Refill is negative\nlimit: MaxClients is negative", "all mistakes at once, always in this order")
	_, err = limit.New(&limit.Options{Burst: 1 << 40, Refill: time.Hour})
	assert.ErrorContains(t, err, "Burst")
}

// TestLimiterAgainstModel compares random guesses of one client with a model
// that keeps a list of what each failure still owes.
func TestLimiterAgainstModel(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		now := time.Unix(1e9, 0)
		burst, refill := 1+rnd.IntN(5), time.Duration(1+rnd.IntN(3000))*time.Millisecond
		l := newLimiter(t, &limit.Options{Burst: burst, Refill: refill, Now: func() time.Time { return now }})
		var owed time.Duration // what the model says
		var flying []func(bool)
		for range 500 {
			step := time.Duration(rnd.IntN(1500)) * time.Millisecond
			now, owed = now.Add(step), max(0, owed-step)
			if len(flying) > 0 && rnd.IntN(2) == 0 {
				wrong := rnd.IntN(2) == 0
				flying[0](wrong)
				flying = flying[1:]
				if wrong {
					owed += refill
				}
				continue
			}
			left := time.Duration(burst)*refill - owed
			ctx, cancel := context.WithCancel(t.Context())
			if left >= refill && left < time.Duration(len(flying)+1)*refill {
				cancel() // it would wait
			}
			settle, err := l.Charge(ctx, alice)
			at := fmt.Sprintf("seed %d: %d of %d owed, %d in flight", seed, owed, time.Duration(burst)*refill, len(flying))
			switch {
			case ctx.Err() != nil:
				require.ErrorIs(t, err, context.Canceled, at)
			case left < refill:
				require.Equal(t, refill-left, retryAfter(t, err), at)
			default:
				require.NoError(t, err, at)
				flying = append(flying, settle)
			}
			cancel()
		}
	}
}

func BenchmarkLimiterCharge(b *testing.B) {
	l := newLimiter(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		settle, _ := l.Charge(b.Context(), alice)
		settle(false)
	}
}
