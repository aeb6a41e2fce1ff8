package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/testenv"
)

// memory returns how much of a process is in memory, in KiB.
func memory(t *testing.T, pid int) (kib int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	testenv.Need(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			_, err = fmt.Sscan(rest, &kib)
			require.NoError(t, err)
		}
	}
	require.Positive(t, kib)
	return kib
}

// A thousand clients that wait for something to happen take less than 64 KiB each,
// and all of them get it.
func TestIdleSyncs(t *testing.T) {
	const clients = 1000
	var waiting atomic.Int64
	happens := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/sync") {
			waiting.Add(1)
			<-happens
		}
		fmt.Fprint(w, `{"next_batch":"s1"}`)
	}))
	defer upstream.Close()
	p := start(t, upstream.URL, "shared", file(t), 0, longLease)
	u, err := url.Parse(p.url)
	require.NoError(t, err)

	sync := func() net.Conn {
		c, err := net.Dial("tcp", u.Host)
		require.NoError(t, err)
		_, err = fmt.Fprint(c, "GET /_matrix/client/v3/sync?timeout=30000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n")
		require.NoError(t, err)
		return c
	}
	arrived := func(n int64) {
		for deadline := time.Now().Add(2 * time.Minute); waiting.Load() < n; {
			require.True(t, time.Now().Before(deadline), "%d of %d have arrived", waiting.Load(), n)
			<-time.After(10 * time.Millisecond)
		}
	}
	var conns []net.Conn
	for range 10 { // what everything needs once
		conns = append(conns, sync())
	}
	arrived(10)
	before := memory(t, p.cmd.Process.Pid)
	for range clients {
		conns = append(conns, sync())
	}
	arrived(clients + 10)
	each := (memory(t, p.cmd.Process.Pid) - before) / clients
	t.Logf("%d KiB before, %d KiB for each of %d idle syncs", before, each, clients)
	if !raceDetector { // which takes several times as much
		assert.Less(t, each, 64)
	}
	close(happens)
	for _, c := range conns {
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		assert.Equal(t, 200, res.StatusCode)
		res.Body.Close()
		c.Close()
	}
}
