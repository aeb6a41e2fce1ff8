package uia_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit"
)

// limiting is a homeserver with the default limiter, whose clock is ahead by this
// much.
func limiting(t *testing.T, ahead *atomic.Int64, s setup) *homeserver {
	s.change = func(c *uia.Config) {
		c.Logger = slog.New(slog.DiscardHandler)
		c.Limiter = newLimiter(t, &limit.Options{Now: func() time.Time {
			return time.Now().Add(time.Duration(ahead.Load()))
		}})
	}
	return newHomeserver(t, s)
}

// from returns the i-th of many addresses: of IPv4, or of a network of IPv6.
func from(i int) string {
	if i%2 == 0 {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String()
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(i >> 16), byte(i >> 8), byte(i)}), 1).String()
}

// blackhole is a client that does not read its answer, but for the status.
type blackhole struct {
	header http.Header
	status int
}

func (b *blackhole) Header() http.Header         { return b.header }
func (b *blackhole) Write(p []byte) (int, error) { return len(p), nil }
func (b *blackhole) WriteHeader(status int)      { b.status = status }

// flood sends n requests from n addresses by two senders at once, and counts the
// answers by their status.
func (h *homeserver) flood(n int, body func(i int) string) map[int]int {
	counts := together(2, func(half int) map[int]int {
		count, w := map[int]int{}, &blackhole{header: http.Header{}}
		for i := half * n / 2; i < (half+1)*n/2; i++ {
			text := body(i)
			h.handler.ServeHTTP(w, &http.Request{
				Method: "POST", URL: &url.URL{Path: "/register"}, RemoteAddr: from(i),
				Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)),
			})
			count[w.status]++
		}
		return count
	})
	for status, n := range counts[1] {
		counts[0][status] += n
	}
	return counts[0]
}

func TestFloodLeavesNothingBehind(t *testing.T) {
	const n, room = 200_000, 8 << 20
	const params = `"username":"alice","password":"a password","initial_device_display_name":"a phone"`
	var session string
	for name, flood := range map[string]struct {
		body  func(i int) string
		reads int64
		wants []int
	}{
		"first legs": {func(i int) string {
			if i%4 < 2 {
				return `{}`
			}
			return `{` + params + `}`
		}, 0, []int{401}},
		"wrong tokens": {func(i int) string {
			if i%4 < 2 { // in a session of its own
				return `{` + params + `,"auth":{"type":"m.login.registration_token","token":"guess` + strconv.Itoa(i) + `"}}`
			}
			return `{"auth":{"type":"m.login.registration_token","token":"guess` + strconv.Itoa(i) + `","session":"` + session + `"}}`
		}, n * 3 / 2, []int{401, 429}}, // a token each, and in one half a session
	} {
		t.Run(name, func(t *testing.T) {
			var calls counting
			var ahead atomic.Int64
			h := limiting(t, &ahead, setup{store: calls.store()})
			h.token("abc", 1)
			session = h.post(dict{}).session()
			h.flood(100, flood.body) // what is made once is made now
			calls.reads.Store(0)
			before := heap()
			count := h.flood(n, flood.body)
			grown := int64(heap()) - int64(before)
			t.Logf("heap grew by %d KiB; answers %v; %d reads", grown>>10, count, calls.reads.Load())
			assert.Less(t, grown, int64(room))
			assert.Zero(t, calls.writes.Load())
			assert.LessOrEqual(t, calls.reads.Load(), flood.reads)
			for _, status := range flood.wants {
				delete(count, status)
			}
			assert.Empty(t, count, "other answers")
			ahead.Store(int64(time.Hour)) // until then a newcomer shares one budget with the flood
			assert.Equal(t, 200, h.register("honest", "abc").Status)
		})
	}
}

// However many users share an address, each has the right token, and none of them
// is refused.
func TestHonestUsersBehindOneAddress(t *testing.T) {
	const users = 1000
	bothFlows(t, func(t *testing.T, flow uia.Flow) {
		h := limiting(t, new(atomic.Int64), setup{flows: []uia.Flow{flow}})
		h.token("abc", users)
		var refused atomic.Int64
		together(users, func(i int) any {
			if a := h.register(fmt.Sprint("user", i), "abc"); a.Status != http.StatusOK {
				refused.Add(1)
				t.Log(a.Body)
			}
			return nil
		})
		assert.Zero(t, refused.Load())
		require.Equal(t, users, h.accounts.count())
		token, err := h.store.Token(t.Context(), "abc", h.uses("abc")[0].Made)
		require.NoError(t, err)
		assert.EqualValues(t, users, token.Completed)
		assert.Zero(t, token.Pending)
	})
}
