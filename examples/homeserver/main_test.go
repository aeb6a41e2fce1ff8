package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/examples/internal/testdb"
	"github.com/matrix-uia/uia/internal/testenv"
)

// start runs the homeserver on a free port and returns the lines that it prints
// before it serves, without the first. stop tells it to stop, and waits for it.
func start(t *testing.T, lines int, args ...string) (printed []string, stop func()) {
	t.Helper()
	printed, stop = startAll(t, lines+1, args...)
	return printed[1:], stop
}

// startAll is start with the first line, which is the link to the page for newcomers.
func startAll(t *testing.T, lines int, args ...string) (printed []string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	stopped := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"-listen", "127.0.0.1:0"}, args...), in, io.Discard)
		in.Close()
		stopped <- err
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-stopped, "it stops when it is told to")
	})
	t.Cleanup(stop)
	scanner := bufio.NewScanner(out)
	for len(printed) < lines && scanner.Scan() {
		printed = append(printed, scanner.Text())
	}
	require.Len(t, printed, lines)
	require.Contains(t, printed[0], "sign up     http")
	go io.Copy(io.Discard, out)
	return printed, stop
}

// runCommands runs what was printed and returns the user that it registered.
func runCommands(t *testing.T, commands []string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Join(commands, "\n")).Output()
	require.NoError(t, err)
	var registered struct {
		UserID      string `json:"user_id"`
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.Unmarshal(out, &registered), "%s", out)
	require.NotEmpty(t, registered.AccessToken, "%s", out)
	return registered.UserID
}

func needTools(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"bash", "curl", "sed"} {
		_, err := exec.LookPath(tool)
		testenv.Need(t, err)
	}
}

// The commands that are printed register an account, with every flow that they
// are printed for.
func TestPrintedCommands(t *testing.T) {
	needTools(t)
	for name, args := range map[string][]string{
		"T":  {"-flow", "m.login.registration_token"},
		"TD": {"-flow", "m.login.registration_token,m.login.dummy", "-token", "it~has-1.use:1"},
		"DT": {"-flow", "m.login.dummy,m.login.registration_token", "-token", "unlimited"},
	} {
		t.Run(name, func(t *testing.T) {
			lines, _ := start(t, 6, append(args, "-db", "memory")...)
			require.Contains(t, lines[0], "http://127.0.0.1:")
			require.Equal(t, "database    memory", lines[1])
			require.Contains(t, lines[2], "token ")
			require.Equal(t, "@alice:localhost", runCommands(t, lines[4:]))
		})
	}
	t.Run("D", func(t *testing.T) {
		lines, _ := start(t, 5, "-flow", "m.login.dummy", "-db", "memory")
		require.Equal(t, "@alice:localhost", runCommands(t, lines[3:]))
	})
}

// Without any flag everything is in a file, and what is printed works at every
// start.
func TestPrintedCommandsAgain(t *testing.T) {
	needTools(t)
	t.Chdir(t.TempDir())
	var users, tokens []string
	for range 3 {
		lines, stop := start(t, 6)
		require.Equal(t, "database    homeserver.db", lines[1])
		require.Contains(t, lines[2], "(1 use(s), until ")
		tokens = append(tokens, strings.Fields(lines[2])[1])
		users = append(users, runCommands(t, lines[4:]))
		stop()
	}
	require.Equal(t, "@alice:localhost", users[0])
	require.Regexp(t, `^@alice-[a-z2-7]{6}:localhost$`, users[1])
	require.Regexp(t, `^@alice-[a-z2-7]{6}:localhost$`, users[2])
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(tokens))), 3, "a fresh token each time")
	info, err := os.Stat("homeserver.db")
	require.NoError(t, err)
	require.True(t, info.Mode().IsRegular())
}

// A token that is there already is not made again, and what is printed says so.
func TestTokenThatExists(t *testing.T) {
	needTools(t)
	for name, db := range map[string]string{
		"SQLite": filepath.Join(t.TempDir(), "homeserver.db"), "PostgreSQL": testdb.PostgreSQL(t),
	} {
		t.Run(name, func(t *testing.T) {
			lines, stop := start(t, 6, "-db", db, "-token", "twice:2")
			require.Equal(t, "token       twice (2 use(s))", lines[2])
			runCommands(t, lines[4:])
			stop()
			lines, stop = start(t, 7, "-db", db, "-token", "twice:5", "-token", "any")
			require.Equal(t, "token       twice (2 use(s), 1 left; it was there already and is left as it is)", lines[2])
			require.Equal(t, "token       any (any number of uses)", lines[3])
			runCommands(t, lines[5:])
			stop()
			lines, _ = start(t, 4, "-db", db, "-token", "twice:5")
			require.Equal(t, "token       twice (2 use(s), none left; it was there already and is left as it is)", lines[2])
			require.Equal(t, "register    with a new token: none of these is valid", lines[3])
		})
	}
}

// The commands of a hint that is out of date show what the server says, and nothing of
// the shell's.
func TestPrintedCommandsForANameThatIsTaken(t *testing.T) {
	needTools(t)
	for _, flow := range []string{"m.login.registration_token", "m.login.registration_token,m.login.dummy", "m.login.dummy"} {
		lines, _ := start(t, 6, "-flow", flow, "-db", "memory", "-token", "abcd")
		commands := lines[len(lines)-2:]
		runCommands(t, commands)
		out, err := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.Join(commands, "\n")).CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), `"errcode":"M_USER_IN_USE"`)
		require.Equal(t, 1, strings.Count(string(out), "errcode"), "%s", out)
	}
}

// The first thing that is printed is the link that a newcomer follows, and it is the one
// that administrators hand out.
func TestPrintedLink(t *testing.T) {
	lines, _ := startAll(t, 8, "-db", "memory", "-token", "abcd", "-admin", "root:secret")
	link := strings.Fields(lines[0])[2]
	require.Regexp(t, `^http://127\.0\.0\.1:\d+/register\?token=abcd$`, link)
	get := func(link, accessToken string) string {
		req, err := http.NewRequestWithContext(t.Context(), "GET", link, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+accessToken)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		require.Equal(t, 200, res.StatusCode, "%s", body)
		return string(body)
	}
	require.Contains(t, get(link, ""), "Create your account")
	base := strings.TrimSuffix(link, "/register?token=abcd")
	res, err := http.Post(base+"/_matrix/client/v3/login", "application/json",
		strings.NewReader(`{"type":"m.login.password","identifier":{"type":"m.id.user","user":"root"},"password":"secret"}`))
	require.NoError(t, err)
	defer res.Body.Close()
	var login struct {
		AccessToken string `json:"access_token"`
	}
	require.NoError(t, json.NewDecoder(res.Body).Decode(&login))
	require.Contains(t, get(base+"/_synapse/admin/v1/registration_tokens/abcd", login.AccessToken), `"invite_url":"`+link+`"`)
	require.Contains(t, get(base+"/_synapse/admin/v1/registration_tokens/abcd/qr", login.AccessToken), "PNG")

	lines, _ = startAll(t, 5, "-db", "memory", "-flow", "m.login.dummy")
	require.Regexp(t, `/register$`, lines[0])
	require.Contains(t, get(strings.Fields(lines[0])[2], ""), "Create your account")
}

// What is printed can be opened in a browser.
func TestPrintedAddress(t *testing.T) {
	for listen, want := range map[string]string{
		":0": "http://localhost:", "0.0.0.0:0": "http://localhost:", "[::]:0": "http://localhost:", "127.0.0.1:0": "http://127.0.0.1:",
	} {
		lines, stop := start(t, 6, "-db", "memory", "-listen", listen)
		address := strings.Fields(lines[0])[1]
		require.Contains(t, address, want)
		require.NotContains(t, address, want+"0")
		req, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		require.NoError(t, err)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		page, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		res.Body.Close()
		require.Equal(t, 200, res.StatusCode)
		require.Equal(t, "text/plain; charset=utf-8", res.Header.Get("Content-Type"))
		require.Contains(t, string(page), "This is localhost, a Matrix homeserver")
		stop()
	}
}

// Behind a proxy, clients are told apart by what the proxy says, and not by what they say
// themselves.
func TestBehindAProxy(t *testing.T) {
	address := func(args ...string) string {
		// What is printed is where clients reach it; what it listens at is chosen here.
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		at := listener.Addr().String()
		require.NoError(t, listener.Close())
		lines, _ := start(t, 6, append(args, "-db", "memory", "-listen", at, "-failures", "2", "-public-url", "https://matrix.example.org")...)
		require.Contains(t, lines[0], " https://matrix.example.org ")
		return "http://" + at
	}
	guess := func(base, forwarded string) int {
		body := `{"auth":{"type":"m.login.registration_token","token":"wrong"}}`
		req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/_matrix/client/v3/register", strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("X-Forwarded-For", forwarded)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	trusted := address("-trusted-proxy", "127.0.0.1", "-trusted-proxy", "10.0.0.0/8")
	for i, want := range []int{401, 401, 429} {
		// Whatever the client puts before its own address.
		require.Equal(t, want, guess(trusted, []string{"192.0.2.1", "192.0.2.2", "10.0.0.1"}[i]+", 198.51.100.1, 10.9.9.9"))
	}
	require.Equal(t, 401, guess(trusted, "198.51.100.2"), "another client")
	direct := address()
	for i, want := range []int{401, 401, 429} {
		require.Equal(t, want, guess(direct, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}[i]), "nobody is trusted")
	}
	res, err := http.Get(direct + "/.well-known/matrix/client")
	require.NoError(t, err)
	defer res.Body.Close()
	found, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.JSONEq(t, `{"m.homeserver":{"base_url":"https://matrix.example.org"}}`, string(found))
}

// A start that fails leaves nothing behind.
func TestNothingIsMadeByAStartThatFails(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	taken := listener.Addr().String()
	db := filepath.Join(t.TempDir(), "homeserver.db")
	for _, args := range [][]string{
		{"-listen", taken}, {"-listen", "nowhere at all"}, {"-admin", "not a name"}, {"-server-name", "not a name"}, {"-flow", "m.login.unheard_of"},
		{"-audit", "/nowhere/at/all"},
	} {
		var out strings.Builder
		err := run(t.Context(), append([]string{"-db", db, "-admin", "root", "-token", "abcd", "-listen", "127.0.0.1:0"}, args...), &out, io.Discard)
		require.Error(t, err, "%q", args)
		require.Empty(t, out.String(), "%q", args)
	}
	lines, _ := start(t, 7, "-db", db, "-admin", "root", "-token", "abcd")
	require.Equal(t, "token       abcd (any number of uses)", lines[2])
	require.Contains(t, lines[6], "admin       root with the password ")
}

func TestExitCodes(t *testing.T) {
	for code, list := range map[int][][]string{
		0: {{"-h"}, {"--help"}},
		2: {{"-no-such-flag"}, {"argument"}, {"-token", "not a token"}, {"-failures", "many"}, {"-server-name", "bad name"}, {"-server-name", ""},
			{"-admin", "not a name"}, {"-admin", ""}, {"-token", "x:9007199254740992"}, {"-trusted-proxy", "proxy.example.org"}, {"-trusted-proxy", "10.0.0.0/99"},
			{"-public-url", "matrix.example.org"}, {"-public-url", "https://matrix.example.org/?a=b"}, {"-public-url", "https://matrix.example.org/"}},
		1: {{"-listen", "nowhere at all"}, {"-db", "no such folder/homeserver.db"}, {"-db", "floppy://a"}, {"-flow", "m.login.unheard_of"}},
	} {
		for _, args := range list {
			var stdout, stderr strings.Builder
			err := run(t.Context(), append([]string{"-db", "memory", "-listen", "127.0.0.1:0"}, args...), &stdout, &stderr)
			require.Equal(t, code, exitCode(err, &stderr), "%q: %s", args, stderr.String())
			require.Empty(t, stdout.String())
			if code == 0 {
				require.Contains(t, stderr.String(), "-registration-shared-secret")
				continue
			}
			require.Equal(t, 1, strings.Count(stderr.String(), "homeserver: "), "said once: %s", stderr.String())
			require.NotContains(t, stderr.String(), "-registration-shared-secret", "and not below the help")
		}
	}
}

func TestMain(m *testing.M) {
	if os.Getenv(asHomeserver) != "" {
		main()
		return
	}
	os.Exit(testdb.Main(m))
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{"-token", "not a token"}, {"-token", "x:many"}, {"-token", "x:-1"}, {"-token", ""},
		{"-flow", "m.login.unheard_of"}, {"-flow", ""}, {"-failures", "-1"}, {"-db", "floppy://a"}, {"-db", "no such folder/homeserver.db"}, {"-db", ""}, {"argument"},
		{"-listen", "nowhere at all"}, {"-server-name", ""},
	} {
		args = append([]string{"-db", "memory"}, args...)
		require.Error(t, run(t.Context(), args, io.Discard, io.Discard), "%q", args)
	}
}
