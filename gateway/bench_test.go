package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
)

// targets are a homeserver that answers at once, a proxy in front of it that does
// nothing else, and a gateway.
func targets(tb testing.TB) map[string]string {
	answer := []byte(`{"next_batch":"` + strings.Repeat("x", 500) + `"}`)
	upstream := serve(tb, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	}))
	u, err := url.Parse(upstream)
	require.NoError(tb, err)
	proxy := serve(tb, &httputil.ReverseProxy{
		Rewrite:   func(p *httputil.ProxyRequest) { p.SetURL(u) },
		Transport: gateway.NewTransport(),
	})
	return map[string]string{"direct": upstream, "proxy": proxy, "gateway": newFront(tb, upstream, frontOptions{}).URL}
}

// load sends requests over this many connections, and returns how long it took.
func load(tb testing.TB, target string, conns, requests int) time.Duration {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: conns}}
	defer client.CloseIdleConnections()
	get := func() {
		res, err := client.Get(target + "/_matrix/client/v3/sync?since=s1&timeout=0")
		if !assert.NoError(tb, err) {
			return
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	get()
	var wg sync.WaitGroup
	start := time.Now()
	for range conns {
		wg.Go(func() {
			for range requests / conns {
				get()
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// TestThroughput compares the gateway with a proxy that does nothing else, in turn and
// in one run, and both with the upstream itself.
func TestThroughput(t *testing.T) {
	rounds, requests := 3, 200
	if full && !raceDetector {
		rounds, requests = 15, 1600
	}
	urls := targets(t)
	for _, conns := range []int{1, 32} {
		var toProxy, toDirect []float64
		for range rounds {
			took := map[string]time.Duration{}
			for _, name := range []string{"direct", "proxy", "gateway", "proxy"} { // before it and after it
				took[name] += load(t, urls[name], conns, requests)
			}
			toProxy = append(toProxy, took["proxy"].Seconds()/2/took["gateway"].Seconds())
			toDirect = append(toDirect, took["direct"].Seconds()/took["gateway"].Seconds())
		}
		slices.Sort(toProxy)
		slices.Sort(toDirect)
		t.Logf("%d connections: %.2f of the proxy's throughput (%.2f to %.2f), %.2f of the upstream's",
			conns, toProxy[rounds/2], toProxy[rounds/4], toProxy[rounds*3/4], toDirect[rounds/2])
		if full && !raceDetector {
			assert.Greater(t, toProxy[rounds/2], 0.9)
		}
	}
}

func BenchmarkThroughput(b *testing.B) {
	urls := targets(b)
	for _, conns := range []int{1, 32} {
		for _, name := range []string{"direct", "proxy", "gateway"} {
			b.Run(fmt.Sprintf("%s/%d", name, conns), func(b *testing.B) {
				b.ReportAllocs()
				load(b, urls[name], conns, b.N)
			})
		}
	}
}
