package redislimit_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/limit/redislimit"
	"github.com/matrix-uia/uia/memstore"
)

// TestMain is a process of a homeserver instead, if it is told the socket of a Redis.
func TestMain(m *testing.M) {
	if socket := os.Getenv("UIA_REDIS_SOCKET"); socket != "" {
		if err := tryTokens(context.Background(), socket); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// tryTokens tries 60 wrong tokens, and prints how many were looked at.
func tryTokens(ctx context.Context, socket string) error {
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: socket})
	defer client.Close()
	limiter, err := redislimit.New(client, &redislimit.Options{Refill: time.Hour, Timeout: time.Minute})
	if err != nil {
		return err
	}
	store := memstore.New(nil)
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(make([]byte, 32)), Sessions: store, Limiter: limiter, Client: func(*http.Request) netip.Addr { return alice },
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}},
		Operations: []uia.Operation{{Name: "register", Flows: []uia.Flow{{uia.TokenType}}, Mutable: true, Resolve: uia.NotDone}},
	})
	if err != nil {
		return err
	}
	looked := 0
	for i := range 60 {
		body := fmt.Appendf(nil, `{"auth":{"type":"m.login.registration_token","token":"wrong%d"}}`, i)
		_, err := engine.Authenticate(ctx, uia.Request{Operation: "register", Client: alice, Body: body})
		if c, ok := errors.AsType[*uia.Challenge](err); ok && c.ErrCode != "" {
			looked++
		} else if refused, ok := errors.AsType[*uia.Error](err); !ok || refused.Status != http.StatusTooManyRequests {
			return fmt.Errorf("attempt %d: %w", i, err)
		}
	}
	fmt.Println(looked)
	return nil
}

// TestThreeProcesses has three processes of a homeserver be tried 60 wrong tokens each,
// at once: they look at 60 together.
func TestThreeProcesses(t *testing.T) {
	s := startRedis(t)
	var outputs [3]*outcome
	for i := range outputs {
		outputs[i] = start(t, s)
	}
	total := 0
	for _, o := range outputs {
		require.NoError(t, o.cmd.Wait(), o.stderr.String())
		var n int
		_, err := fmt.Sscan(o.stdout.String(), &n)
		require.NoError(t, err)
		total += n
	}
	assert.Equal(t, 60, total)
}

func start(t *testing.T, s *server) *outcome {
	self, err := os.Executable()
	require.NoError(t, err)
	o := &outcome{cmd: exec.CommandContext(t.Context(), self)}
	o.cmd.Env = append(os.Environ(), "UIA_REDIS_SOCKET="+s.socket)
	o.cmd.Stdout, o.cmd.Stderr = &o.stdout, &o.stderr
	require.NoError(t, o.cmd.Start())
	return o
}

// outcome is a process and what it prints.
type outcome struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}
