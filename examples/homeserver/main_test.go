package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
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

// An admin is made at the start, and can log in with the password that is printed.
func TestAdminFlag(t *testing.T) {
	audit := filepath.Join(t.TempDir(), "audit.log")
	for name, args := range map[string][]string{"generated": {"-admin", "root"}, "given": {"-admin", "root:a:b"}} {
		t.Run(name, func(t *testing.T) {
			args = append(args, "-token", "abcd", "-audit", audit, "-invite", "https://chat.example.org/#/register?token={token}")
			lines := start(t, 6, args...)
			_, password, printed := strings.Cut(lines[5], "admin       root with the password ")
			require.Equal(t, name == "generated", printed, lines[5])
			if !printed {
				password = "a:b"
			}
			base := strings.Fields(lines[0])[1]
			post := func(path, token, body string) map[string]any {
				r, err := http.NewRequestWithContext(t.Context(), "POST", base+path, strings.NewReader(body))
				require.NoError(t, err)
				r.Header.Set("Authorization", "Bearer "+token)
				res, err := http.DefaultClient.Do(r)
				require.NoError(t, err)
				defer res.Body.Close()
				var out map[string]any
				require.NoError(t, json.NewDecoder(res.Body).Decode(&out))
				return out
			}
			login := post("/_matrix/client/v3/login", "", `{"type":"m.login.password","user":"root","password":"`+password+`"}`)
			token, _ := login["access_token"].(string)
			require.NotEmpty(t, token, "%v", login)
			made := post("/_synapse/admin/v1/registration_tokens/new", token, `{"token":"made-`+name+`"}`)
			require.Equal(t, "https://chat.example.org/#/register?token=made-"+name, made["invite_url"])
			log, err := os.ReadFile(audit)
			require.NoError(t, err)
			require.Contains(t, string(log), `"msg":"token_created","token":"`+uia.Fingerprint("made-"+name)+`","by":"@root:localhost"`)
			require.NotContains(t, string(log), "made-")
		})
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-token", "not a token"}, {"-token", "x:many"}, {"-token", "x:-1"}, {"-token", ""},
		{"-flow", "m.login.unheard_of"}, {"-flow", ""}, {"-failures", "-1"}, {"-db", "floppy"}, {"argument"},
		{"-admin", ""}, {"-admin", "root:"}, {"-admin", ":x"}, {"-admin", "not a name"}, {"-invite", "https://chat.example.org"},
		{"-audit", "/nowhere/at/all"}, {"-listen", "nowhere at all"}, {"-server-name", ""},
	} {
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard), "%q", args)
	}
}
