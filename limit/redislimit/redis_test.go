package redislimit_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/testenv"
)

// server is a Redis of one test, reached through a unix socket.
type server struct {
	socket  string
	process *testenv.Process
}

func startRedis(t testing.TB) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		testenv.Need(t, fmt.Errorf("no Redis: %w", err))
	}
	dir, err := os.MkdirTemp("/tmp", "uia-redis-") // a short path, because a socket's may have about a hundred bytes
	require.NoError(t, err)
	s := &server{socket: filepath.Join(dir, "sock")}
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(path, "--port", "0", "--unixsocket", s.socket, "--save", "", "--appendonly", "no", "--dir", dir)
	s.process, err = testenv.Start(cmd, log, dir)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.process.Kill()
		os.RemoveAll(dir)
	})
	c := s.client(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = testenv.Poll(ctx, func() bool { return c.Ping(ctx).Err() == nil }, s.process.Done())
	require.NoError(t, err)
	return s
}

func (s *server) client(t testing.TB) *redis.Client {
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, MaxRetries: -1, PoolSize: 8, PoolTimeout: time.Minute})
	t.Cleanup(func() { c.Close() })
	return c
}

// wait waits for a moment of the server's clock, which no test can set.
func wait(t testing.TB, d time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	<-ctx.Done()
}
