package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/testenv"
)

// eventually waits for something that another process or goroutine does.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			t.Fatal("it has not come to this: " + what)
		case <-tick.C:
		}
	}
}

// free returns an address at which nobody listens.
func free(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

// uiagateway runs the command line in this process.
func uiagateway(t testing.TB, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), errs.String()
}

const (
	sharedSecret  = "the secret of the homeserver"
	adminPassword = "password of the administrator"
)

var homeserverOnce = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "uia")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "homeserver")
	out, err := exec.Command("go", "build", "-o", file, "github.com/matrix-uia/uia/examples/homeserver").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: "go build: " + string(out), Err: err}
	}
	return file, nil
})

func TestMain(m *testing.M) {
	status := m.Run()
	if file, err := homeserverOnce(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(status)
}

// homeserver starts the example homeserver, which has the administrator @root:localhost.
func homeserver(t testing.TB) (url string, stop func()) {
	t.Helper()
	file, err := homeserverOnce()
	require.NoError(t, err)
	address := free(t)
	cmd := exec.CommandContext(t.Context(), file, "-listen", address, "-db", "memory", "-registration-shared-secret", sharedSecret,
		"-admin", "root:"+adminPassword)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	require.NoError(t, cmd.Start())
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait() // that it was killed
		})
	}
	t.Cleanup(stop)
	url = "http://" + address
	eventually(t, "the homeserver answers", func() bool {
		res, err := http.Get(url + "/_matrix/client/versions")
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == 200
	})
	return url, stop
}

// configured writes a configuration for the homeserver at this URL, with further values.
func configured(t testing.TB, upstream string, set ...string) (file string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "gateway.yaml")
	args := []string{"-generate-config", "-config", file}
	given := []string{
		"server_name=localhost", "upstream=" + upstream, "listen=" + free(t), "monitor=" + free(t),
		"database=" + filepath.Join(dir, "gateway.db"), "admins=@root:localhost",
	}
	if !strings.Contains(strings.Join(set, "\n"), "registration_") {
		given = append(given, "registration_shared_secret="+sharedSecret)
	}
	for _, one := range set { // what comes later replaces what is there
		key, _, _ := strings.Cut(one, "=")
		for i := range given {
			if strings.HasPrefix(given[i], key+"=") {
				given[i] = one
				one = ""
				break
			}
		}
		if one != "" {
			given = append(given, one)
		}
	}
	for _, one := range given {
		args = append(args, "-set", one)
	}
	status, _, stderr := uiagateway(t, args...)
	require.Zero(t, status, stderr)
	return file
}

// running is a gateway that runs in this process.
type running struct {
	t            testing.TB
	file         string
	url, monitor string
	log          *testenv.Log
	stop         func() int // tells it to stop, waits, and returns its exit status
}

// start runs the gateway, and waits until it listens.
func start(t testing.TB, file string) *running {
	t.Helper()
	c, _, err := load(file)
	require.NoError(t, err)
	g := &running{t: t, file: file, url: "http://" + c.listen, monitor: "http://" + c.monitor, log: &testenv.Log{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"-config", file}, io.Discard, g.log) }()
	g.stop = sync.OnceValue(func() int {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		g.stop()
		if t.Failed() {
			t.Log(g.log.String())
		}
	})
	eventually(t, "the gateway is ready", func() bool { return strings.Contains(g.log.String(), "ready") })
	return g
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   string
	JSON   map[string]any
}

// call sends a request with a JSON body, or none if it is nil.
func call(t testing.TB, client *http.Client, method, url, token string, body any) answer {
	t.Helper()
	var reader io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		reader = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, reader)
	require.NoError(t, err)
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return send(t, client, r)
}

func send(t testing.TB, client *http.Client, r *http.Request) answer {
	t.Helper()
	res, err := client.Do(r)
	require.NoError(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	a := answer{Status: res.StatusCode, Header: res.Header, Body: string(text)}
	_ = json.Unmarshal(text, &a.JSON) // a page is none
	return a
}

type dict = map[string]any

// registers registers with a token at a gateway.
func registers(t testing.TB, client *http.Client, url, name, password, token string) answer {
	t.Helper()
	params := dict{"username": name, "password": password, "auth": dict{"type": "m.login.registration_token", "token": token}}
	a := call(t, client, "POST", url+"/_matrix/client/v3/register", "", params)
	if a.Status != 401 || a.JSON["errcode"] != nil {
		return a
	}
	params["auth"] = dict{"type": "m.login.dummy", "session": a.JSON["session"]}
	return call(t, client, "POST", url+"/_matrix/client/v3/register", "", params)
}

// login returns an access token.
func login(t testing.TB, client *http.Client, url, name, password string) string {
	t.Helper()
	a := call(t, client, "POST", url+"/_matrix/client/v3/login", "", dict{
		"type": "m.login.password", "identifier": dict{"type": "m.id.user", "user": name}, "password": password,
	})
	require.Equal(t, 200, a.Status, a.Body)
	return a.JSON["access_token"].(string)
}

// newToken makes a token from the shell.
func (g *running) newToken(flags ...string) string {
	g.t.Helper()
	status, stdout, stderr := uiagateway(g.t, append([]string{"token", "create", "-config", g.file, "-json"}, flags...)...)
	require.Zero(g.t, status, stderr)
	var made struct{ Token string }
	require.NoError(g.t, json.Unmarshal([]byte(stdout), &made))
	return made.Token
}
