package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// start runs the homeserver on a free port and returns the lines that it prints
// before it serves.
func start(t *testing.T, lines int, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	stopped := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), in, io.Discard)
		in.Close()
		stopped <- err
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-stopped, "it stops when it is told to")
	})
	var printed []string
	scanner := bufio.NewScanner(out)
	for len(printed) < lines && scanner.Scan() {
		printed = append(printed, scanner.Text())
	}
	require.Len(t, printed, lines)
	go io.Copy(io.Discard, out)
	return printed
}

// The commands that are printed register an account, with every flow that they
// are printed for.
func TestPrintedCommands(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	for name, args := range map[string][]string{
		"default": nil,
		"T":       {"-flow", "m.login.registration_token"},
		"TD":      {"-flow", "m.login.registration_token,m.login.dummy", "-token", "it~has-1.use:1"},
		"DT":      {"-flow", "m.login.dummy,m.login.registration_token", "-token", "unlimited"},
	} {
		t.Run(name, func(t *testing.T) {
			lines := start(t, 5, args...)
			require.Contains(t, lines[0], "http://127.0.0.1:")
			require.Contains(t, lines[1], "token ")
			if name == "default" {
				require.Contains(t, lines[1], "(1 use(s))")
			}
			out, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Join(lines[3:], "\n")).Output()
			require.NoError(t, err)
			var registered struct {
				UserID      string `json:"user_id"`
				AccessToken string `json:"access_token"`
			}
			require.NoError(t, json.Unmarshal(out, &registered), "%s", out)
			require.Equal(t, "@alice:localhost", registered.UserID, "%s", out)
			require.NotEmpty(t, registered.AccessToken)
		})
	}
	t.Run("D", func(t *testing.T) {
		lines := start(t, 4, "-flow", "m.login.dummy")
		out, err := exec.CommandContext(t.Context(), "bash", "-c", strings.Join(lines[2:], "\n")).Output()
		require.NoError(t, err)
		require.Contains(t, string(out), `"@alice:localhost"`)
	})
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-token", "not a token"}, {"-token", "x:many"}, {"-token", "x:-1"}, {"-token", ""},
		{"-flow", "m.login.unheard_of"}, {"-flow", ""}, {"-failures", "-1"}, {"-db", "floppy"}, {"argument"},
		{"-listen", "nowhere at all"}, {"-server-name", ""},
	} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard), "%q", args)
	}
}
