package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/matrix-uia/uia/internal/dbtest"
	"github.com/matrix-uia/uia/internal/testenv"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The whole: a token from the shell, an account, the administration, monitoring, and an
// end that lets nobody down.
func TestServe(t *testing.T) {
	upstream, stop := homeserver(t)
	g := start(t, configured(t, upstream))
	client := http.DefaultClient
	token := g.newToken("-username", "alice")
	a := registers(t, client, g.url, "alice", "wonderland", token)
	require.Equal(t, 200, a.Status, a.Body)
	assert.Equal(t, "@alice:localhost", a.JSON["user_id"])
	access := login(t, client, g.url, "alice", "wonderland")
	assert.Equal(t, 200, call(t, client, "GET", g.url+"/_matrix/client/v3/account/whoami", access, nil).Status, "it is passed on")

	tokens := g.url + "/_synapse/admin/v1/registration_tokens"
	assert.Equal(t, 401, call(t, client, "GET", tokens, "", nil).Status)
	assert.Equal(t, 403, call(t, client, "GET", tokens, access, nil).Status, "alice is no administrator")
	root := login(t, client, g.url, "root", adminPassword)
	a = call(t, client, "POST", tokens+"/new", root, dict{"token": "from-a-tool", "uses_allowed": 1})
	require.Equal(t, 200, a.Status, a.Body)
	_, list, _ := uiagateway(t, "token", "list", "-all", "-config", g.file)
	assert.Contains(t, list, "from-a-tool")
	assert.Contains(t, list, "used up")

	// What is refused: a short password, a name of the operator's, a wrong token.
	assert.Equal(t, "M_WEAK_PASSWORD", registers(t, client, g.url, "bob", "short", "from-a-tool").JSON["errcode"])
	assert.Equal(t, 400, registers(t, client, g.url, "4dm1n", "wonderland", "from-a-tool").Status)
	assert.Equal(t, 401, registers(t, client, g.url, "bob", "wonderland", "wrong").Status)
	page := call(t, client, "GET", g.url+"/register?token=from-a-tool", "", nil)
	assert.Equal(t, 200, page.Status)
	assert.Contains(t, page.Body, "<form")

	metrics := call(t, client, "GET", g.monitor+"/metrics", "", nil).Body
	assert.Contains(t, metrics, `uia_events_total{event="use_spent"} 1`)
	assert.Contains(t, metrics, "uiagateway_severe_findings 0")
	health := func() answer { return call(t, client, "GET", g.monitor+"/healthz", "", nil) }
	assert.Equal(t, []any{200, "ok\n"}, []any{health().Status, health().Body})
	stop()
	assert.Equal(t, []any{503, "the homeserver does not answer\n"}, []any{health().Status, health().Body})
	assert.Equal(t, 502, call(t, client, "GET", g.url+"/_matrix/client/versions", "", nil).Status)
	assert.Equal(t, 0, g.stop())
	for _, secret := range []string{sharedSecret, "wonderland", adminPassword, token, "from-a-tool", access, root} {
		assert.NotContains(t, g.log.String(), secret)
	}
}

// A wrong secret is told at the start, and not by the first user.
func TestWrongSecret(t *testing.T) {
	upstream, _ := homeserver(t)
	file := configured(t, upstream, "registration_shared_secret=another one")
	status, stdout, stderr := uiagateway(t, "-check", "-config", file)
	assert.Equal(t, exitFailed, status, stderr)
	assert.Contains(t, stdout, "severe: ")
	assert.Contains(t, stdout, "secret")
	assert.NotContains(t, stdout+stderr, "another one")
	g := start(t, file)
	eventually(t, "the log says so", func() bool { return strings.Contains(g.log.String(), "level=ERROR") })
	assert.NotContains(t, g.log.String(), "another one")
}

func TestCheck(t *testing.T) {
	upstream, _ := homeserver(t)
	status, stdout, stderr := uiagateway(t, "-check", "-config", configured(t, upstream))
	assert.Equal(t, []any{0, "ok: nobody registers past the gateway, and passwords log in\n"}, []any{status, stdout}, stderr)

	// Clients that come to the homeserver itself register past the gateway.
	g := start(t, configured(t, upstream))
	for public, want := range map[string]int{g.url: 0, upstream: exitFailed} {
		file := configured(t, upstream, "public_url="+public, "database="+strings.TrimSuffix(g.file, "gateway.yaml")+"gateway.db")
		status, stdout, _ = uiagateway(t, "-check", "-config", file)
		assert.Equal(t, want, status, stdout)
	}
	status, stdout, _ = uiagateway(t, "-check", "-config", configured(t, "http://127.0.0.1:1"))
	assert.Equal(t, exitFailed, status)
	assert.Contains(t, stdout, "severe: ")
}

// A homeserver that comes up later is waited for.
func TestHomeserverThatIsDown(t *testing.T) {
	g := start(t, configured(t, "http://"+free(t)))
	assert.Equal(t, 503, call(t, http.DefaultClient, "GET", g.monitor+"/healthz", "", nil).Status)
	eventually(t, "the log says so", func() bool { return strings.Contains(g.log.String(), "level=ERROR") })
	a := registers(t, http.DefaultClient, g.url, "alice", "wonderland", g.newToken())
	assert.GreaterOrEqual(t, a.Status, 500)
	assert.NotEmpty(t, a.JSON["errcode"])
	_, list, _ := uiagateway(t, "token", "list", "-config", g.file)
	assert.Contains(t, list, "0 of 1", "the token is not lost")
}

// A stop lets a request that is under way end, and cuts one off that takes too long.
func TestStop(t *testing.T) {
	begun, release := make(chan struct{}, 2), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/sync") {
			http.NotFound(w, r)
			return
		}
		begun <- struct{}{}
		select {
		case <-release:
			fmt.Fprint(w, `{"next_batch":"s1"}`)
		case <-r.Context().Done():
		}
	}))
	defer upstream.Close()
	sync := func(ctx context.Context, g *running) chan error {
		out := make(chan error, 1)
		go func() {
			r, err := http.NewRequestWithContext(ctx, "GET", g.url+"/_matrix/client/v3/sync", nil)
			if err != nil {
				out <- err
				return
			}
			res, err := http.DefaultTransport.(*http.Transport).Clone().RoundTrip(r)
			if err == nil {
				_ = res.Body.Close()
			}
			out <- err
		}()
		<-begun
		return out
	}

	g := start(t, configured(t, upstream.URL, "stop_timeout=1m"))
	waiting := sync(t.Context(), g)
	ended := make(chan int)
	go func() { ended <- g.stop() }()
	eventually(t, "it takes no new connection", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(g.url, "http://"))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(release)
	assert.NoError(t, <-waiting)
	assert.Zero(t, <-ended)

	release = make(chan struct{})
	g = start(t, configured(t, upstream.URL, "stop_timeout=0s"))
	waiting = sync(t.Context(), g)
	assert.Zero(t, g.stop())
	assert.Error(t, <-waiting)
}

func TestPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	for _, key := range []string{"listen", "monitor"} {
		status, _, stderr := uiagateway(t, "-config", configured(t, "http://127.0.0.1:1", key+"="+l.Addr().String()))
		assert.Equal(t, exitFailed, status)
		assert.Contains(t, stderr, "uiagateway: "+key+": listen tcp "+l.Addr().String())
	}
}

// Two gateways on one database share the tokens, and continue each other's sessions.
func TestTwoGateways(t *testing.T) {
	upstream, _ := homeserver(t)
	t.Run("SQLite", func(t *testing.T) { twoGateways(t, upstream, filepath.Join(t.TempDir(), "gateway.db")) })
	t.Run("PostgreSQL", func(t *testing.T) {
		server, err := dbtest.NewServer("fsync=off")
		if errors.Is(err, dbtest.ErrNoPostgres) {
			testenv.Need(t, err)
		}
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, server.Close()) })
		twoGateways(t, upstream, server.URL("postgres"))
	})
}

func twoGateways(t *testing.T, upstream, database string) {
	a := start(t, configured(t, upstream, "database="+database))
	b := start(t, configured(t, upstream, "database="+database))
	name := strings.ToLower(filepath.Base(t.Name()))
	params := dict{"username": name, "password": "wonderland", "auth": dict{"type": "m.login.registration_token", "token": a.newToken()}}
	leg := call(t, http.DefaultClient, "POST", a.url+"/_matrix/client/v3/register", "", params)
	require.Equal(t, 401, leg.Status, leg.Body)
	params["auth"] = dict{"type": "m.login.dummy", "session": leg.JSON["session"]}
	done := call(t, http.DefaultClient, "POST", b.url+"/_matrix/client/v3/register", "", params)
	require.Equal(t, 200, done.Status, done.Body)
	again := call(t, http.DefaultClient, "POST", a.url+"/_matrix/client/v3/register", "", params)
	assert.Equal(t, done.Body, again.Body)
	assert.Contains(t, call(t, http.DefaultClient, "GET", b.monitor+"/healthz", "", nil).Body, "ok")
}
