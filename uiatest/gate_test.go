package uiatest

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowly is an answer that asks to wait.
func slowly(wait time.Duration) *answer {
	return &answer{status: http.StatusTooManyRequests, json: decoded(map[string]any{"retry_after_ms": wait.Milliseconds()})}
}

// decoded is a value as it is after it was sent.
func decoded(v any) any {
	a, err := readAnswer(&message{}, &http.Response{Body: io.NopCloser(bytes.NewReader(encode(v)))})
	if err != nil {
		panic(err)
	}
	return a.json
}

// entered returns how long a client waits before an endpoint.
func entered(t *testing.T, g *gates, from *origin, endpoint string) time.Duration {
	begun := time.Now()
	leave, err := g.gate(from, endpoint).enter(t.Context(), nil)
	require.NoError(t, err)
	leave()
	return time.Since(begun)
}

// A client that has been let through before has reached its own limit, which is nobody
// else's. One that is limited at its first request has met a limit of all.
func TestWhoseLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gates
		ann, bob, eve := &origin{address: "192.0.2.1"}, &origin{address: "192.0.2.2"}, &origin{address: "192.0.2.3"}
		g.note(ann, "register", &answer{status: http.StatusOK})
		g.note(ann, "register", slowly(time.Minute))
		require.Zero(t, entered(t, &g, bob, "register"), "a limit of one client holds up another")
		require.False(t, g.shut([]string{"register"}))
		require.Equal(t, time.Minute, entered(t, &g, ann, "register"))

		g.note(eve, "login", slowly(time.Minute))
		require.True(t, g.shut([]string{"login"}))
		require.False(t, g.shut([]string{"register"}), "a limit of one endpoint holds up another")
		require.Equal(t, time.Minute, entered(t, &g, bob, "login"))
	})
}

// Where no client has an address of its own all wait together, and cases that would have
// to wait are known to.
func TestOneAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gates
		require.False(t, g.shut([]string{"register"}))
		g.note(&origin{}, "register", slowly(time.Minute))
		require.True(t, g.shut([]string{"login", "register"}))
		require.False(t, g.shut([]string{"login"}))
		require.Equal(t, time.Minute, entered(t, &g, &origin{}, "register"))
		require.False(t, g.shut([]string{"register"}))
	})
}

// The longest time that was asked for counts.
func TestLongestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gates
		ann := &origin{}
		g.note(ann, "register", slowly(time.Minute))
		g.note(ann, "register", slowly(time.Second))
		require.Equal(t, time.Minute, entered(t, &g, ann, "register"))
	})
}

// After a limit, requests go one at a time until one is answered with something else:
// a limit that lets one through every ten seconds refuses none of them twice.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gates
		ann := &origin{}
		g.note(ann, "register", slowly(10*time.Second))
		begun := time.Now()
		var inside, most atomic.Int64
		var mu sync.Mutex
		var at []time.Duration
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				leave, err := g.gate(ann, "register").enter(t.Context(), nil)
				if !assert.NoError(t, err) {
					return
				}
				most.Store(max(most.Load(), inside.Add(1)))
				mu.Lock()
				at = append(at, time.Since(begun))
				mu.Unlock()
				_ = sleep(t.Context(), time.Second) // until it is answered
				g.note(ann, "register", slowly(9*time.Second))
				inside.Add(-1)
				leave()
			})
		}
		all.Wait()
		require.Equal(t, int64(1), most.Load())
		require.Equal(t, []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second}, at)

		g.note(ann, "register", &answer{status: http.StatusOK})
		require.NoError(t, sleep(t.Context(), 9*time.Second))
		first, err := g.gate(ann, "register").enter(t.Context(), nil)
		require.NoError(t, err)
		require.Zero(t, entered(t, &g, ann, "register"), "two may be on their way when nothing is limited")
		first()
	})
}

// As long as somebody waits before a gate, it counts as shut for new cases, even while it
// lets one after the other through.
func TestNobodyQueuesBehindThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gates
		ann := &origin{address: "192.0.2.1"}
		g.note(ann, "register", slowly(10*time.Second))
		made := 0
		waiting := func() func() { made++; return func() { made-- } }
		first, err := g.gate(ann, "register").enter(t.Context(), waiting)
		require.NoError(t, err)
		require.False(t, g.shut([]string{"register"}), "who is let through waits no longer")
		var second sync.WaitGroup
		second.Go(func() {
			if leave, err := g.gate(ann, "register").enter(t.Context(), waiting); assert.NoError(t, err) {
				leave()
			}
		})
		synctest.Wait()
		require.Equal(t, 1, made, "who waits makes room for others")
		require.True(t, g.shut([]string{"register"}))
		first()
		second.Wait()
		require.Zero(t, made)
		require.False(t, g.shut([]string{"register"}))
	})
}
