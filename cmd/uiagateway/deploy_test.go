package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/internal/testenv"
)

// program returns the path of a program, of those that CI installs.
func program(t *testing.T, name string) string {
	t.Helper()
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin")
	path, err := exec.LookPath(name)
	testenv.Need(t, err)
	return path
}

func deployed(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy", name))
	require.NoError(t, err)
	return string(text)
}

// changed replaces what depends on the machine. Each thing has to be there.
func changed(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		require.Contains(t, text, pairs[i])
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

func TestSystemd(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	unit := filepath.Join(t.TempDir(), "uiagateway.service")
	here, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(unit, []byte(changed(t, deployed(t, "uiagateway.service"), "/usr/local/bin/uiagateway", here)), 0o644))
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.Empty(t, string(out))
	// 10 is what no sandbox has, and 0 what can do nothing.
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=yes", "--threshold=20", "--no-pager", unit).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

// certificate makes one for localhost, in two files.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	require.NoError(t, os.WriteFile(cert, certPEM, 0o644))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600))
	pool = x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(certPEM))
	return cert, key, pool
}

// behind starts a proxy and waits until it listens.
func behind(t *testing.T, address string, cmd *exec.Cmd) {
	t.Helper()
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // that it was interrupted
	})
	eventually(t, "the proxy listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

func TestNginx(t *testing.T) {
	nginx := program(t, "nginx")
	throughProxy(t, func(t *testing.T, address, gateway, cert, key string) {
		dir := t.TempDir()
		site := changed(t, deployed(t, "nginx.conf"), "listen 443", "listen "+address, "listen [::]:443", "listen [::1]:"+port(address),
			"matrix.example.org;", "localhost;", "/etc/letsencrypt/live/matrix.example.org/fullchain.pem", cert,
			"/etc/letsencrypt/live/matrix.example.org/privkey.pem", key, "127.0.0.1:8009", gateway)
		main := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; events {}
http { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
%[2]s }`, dir, site)
		file := filepath.Join(dir, "nginx.conf")
		require.NoError(t, os.WriteFile(file, []byte(main), 0o644))
		out, err := exec.CommandContext(t.Context(), nginx, "-t", "-q", "-c", file).CombinedOutput()
		require.NoError(t, err, "%s", out)
		behind(t, address, exec.Command(nginx, "-c", file))
	})
}

func TestCaddy(t *testing.T) {
	caddy := program(t, "caddy")
	throughProxy(t, func(t *testing.T, address, gateway, cert, key string) {
		site := changed(t, deployed(t, "Caddyfile"), "matrix.example.org {", "https://localhost:"+port(address)+" {\n\ttls "+cert+" "+key+"\n", "127.0.0.1:8009", gateway)
		file := filepath.Join(t.TempDir(), "Caddyfile")
		require.NoError(t, os.WriteFile(file, []byte("{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}\n"+site), 0o644))
		cmd := exec.Command(caddy, "run", "--config", file, "--adapter", "caddyfile")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		behind(t, address, cmd)
	})
}

// throughProxy puts a proxy in front of a gateway, and looks at what gets through.
func throughProxy(t *testing.T, proxy func(t *testing.T, address, gateway, cert, key string)) {
	upstream, _ := homeserver(t)
	g := start(t, configured(t, upstream))
	address := "127.0.0.1:" + port(free(t))
	cert, key, pool := certificate(t)
	proxy(t, address, strings.TrimPrefix(g.url, "http://"), cert, key)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client, url := &http.Client{Transport: transport}, "https://localhost:"+port(address)

	a := registers(t, client, url, "alice", "wonderland", g.newToken())
	require.Equal(t, 200, a.Status, a.Body)
	assert.Equal(t, 401, registers(t, client, url, "bob", "wonderland", "wrong").Status)

	// Wrong guesses are counted for each client, whatever it says about itself.
	assert.Contains(t, g.log.String(), "client=127.0.0.1")
	r, err := http.NewRequestWithContext(t.Context(), "POST", url+"/_matrix/client/v3/register",
		strings.NewReader(`{"auth":{"type":"m.login.registration_token","token":"wrong"}}`))
	require.NoError(t, err)
	r.Header.Set("X-Forwarded-For", "192.0.2.99")
	r.Header.Set("Forwarded", "for=192.0.2.98")
	res, err := client.Do(r)
	require.NoError(t, err)
	_ = res.Body.Close()
	assert.Equal(t, "HTTP/2.0", res.Proto)
	assert.NotContains(t, g.log.String(), "192.0.2.")

	// Another spelling of a path is as closed as the path itself.
	for _, path := range []string{"/_matrix/client/r0//register", "/_matrix/client/v3/%72egister", "/_matrix/client/v3/x/../register", "/_matrix//client/v3/register"} {
		r, err := http.NewRequestWithContext(t.Context(), "POST", url+path, strings.NewReader(`{}`))
		require.NoError(t, err)
		a := send(t, client, r)
		assert.NotEqual(t, 200, a.Status, path)
		if a.Status == 401 {
			assert.Contains(t, a.Body, "m.login.registration_token", path)
		}
	}
}

// What is not buffered: a long poll whose answer comes in parts, and an upload of 50 MB
// that the homeserver reads while it comes.
func TestStreams(t *testing.T) {
	for _, name := range []string{"nginx", "caddy"} {
		t.Run(name, func(t *testing.T) {
			path := program(t, name)
			first, gone := make(chan struct{}), make(chan struct{})
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case strings.HasSuffix(r.URL.Path, "/upload"):
					begin := make([]byte, 1)
					_, err := io.ReadFull(r.Body, begin)
					close(first)
					n, rest := io.Copy(io.Discard, r.Body)
					fmt.Fprint(w, n+1, err, rest)
				case strings.HasSuffix(r.URL.Path, "/sync"):
					fmt.Fprint(w, "part 1")
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done() // the client has seen it, and hangs up
					close(gone)
				default:
					http.NotFound(w, r)
				}
			}))
			t.Cleanup(upstream.Close) // after the gateway has gone, whose connections it waits for
			g := start(t, configured(t, upstream.URL, "stop_timeout=0s"))
			address := "127.0.0.1:" + port(free(t))
			gateway := strings.TrimPrefix(g.url, "http://")
			dir := t.TempDir()
			file := filepath.Join(dir, "conf")
			if name == "nginx" {
				site := changed(t, deployed(t, "nginx.conf"), "listen 443 ssl http2", "listen "+address, "listen [::]:443 ssl http2", "listen [::1]:"+port(address), "127.0.0.1:8009", gateway)
				site = regexp.MustCompile(`ssl_certificate.*\n`).ReplaceAllString(site, "\n")
				require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "daemon off; pid %[1]s/pid; error_log stderr; events {}\nhttp { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n%[2]s }", dir, site), 0o644))
				behind(t, address, exec.Command(path, "-c", file))
			} else {
				site := changed(t, deployed(t, "Caddyfile"), "matrix.example.org {", "http://127.0.0.1:"+port(address)+" {", "127.0.0.1:8009", gateway)
				require.NoError(t, os.WriteFile(file, []byte("{\n\tadmin off\n}\n"+site), 0o644))
				cmd := exec.Command(path, "run", "--config", file, "--adapter", "caddyfile")
				cmd.Env = append(os.Environ(), "HOME="+dir)
				behind(t, address, cmd)
			}
			ctx, hangUp := context.WithCancel(t.Context())
			r, err := http.NewRequestWithContext(ctx, "GET", "http://"+address+"/_matrix/client/v3/sync", nil)
			require.NoError(t, err)
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			part := make([]byte, 6)
			_, err = io.ReadFull(res.Body, part)
			assert.Equal(t, []any{"part 1", nil}, []any{string(part), err})
			hangUp()
			_ = res.Body.Close()
			eventually(t, "the homeserver is told that the client has gone", func() bool {
				select {
				case <-gone:
					return true
				default:
					return false
				}
			})

			const size = 50 << 20
			reader, writer := io.Pipe()
			go func() {
				_, _ = writer.Write([]byte("x"))
				<-first // the homeserver has it before the rest is sent
				_, err := io.Copy(writer, io.LimitReader(zeros{}, size-1))
				_ = writer.CloseWithError(err)
			}()
			r, err = http.NewRequestWithContext(t.Context(), "POST", "http://"+address+"/_matrix/media/v3/upload", reader)
			require.NoError(t, err)
			r.ContentLength = size
			a := send(t, http.DefaultClient, r)
			assert.Equal(t, fmt.Sprint(size, nil, nil), a.Body)
		})
	}
}

// zeros is read without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// What the README shows works as it is written there, but for the ports.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(readme), "\n## In front of your homeserver\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	assert.LessOrEqual(t, strings.Count(strings.TrimSpace(section), "\n")+1, 15)
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, found = strings.Cut(block, "```")
	require.True(t, found)

	upstream, listen, monitor := free(t), free(t), free(t)
	file, err := homeserverOnce()
	require.NoError(t, err)
	dir := t.TempDir()
	own := filepath.Join(dir, "uiagateway")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", own, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	script := changed(t, block, "go run ./examples/homeserver", file+" -db memory -listen "+upstream, "go run ./cmd/uiagateway", own,
		"-generate-config", "-generate-config -set upstream=http://"+upstream+" -set listen="+listen+" -set monitor="+monitor, "127.0.0.1:8009", listen)
	// A person looks at what has been printed before they go on.
	waitFor := func(url string) string {
		return "\nuntil curl -s -o /dev/null " + url + "/_matrix/client/versions; do sleep 0.1; done\n"
	}
	script = "set -e\n" + regexp.MustCompile(`(?m)^(\S+/homeserver .*&.*)$`).ReplaceAllString(script, "$1"+waitFor("http://"+upstream)) + waitFor("http://"+listen)
	script = strings.Replace(script, "\n"+own+" &\n", "\n"+own+" & GATEWAY=$!\n", 1) + "kill -TERM $GATEWAY; wait $GATEWAY; echo \"the gateway has ended: $?\"\n"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = dir
	// Files, and not pipes: what runs in the background keeps them open.
	name := filepath.Join(t.TempDir(), "printed")
	printed, err := os.Create(name)
	require.NoError(t, err)
	defer printed.Close()
	cmd.Stdout, cmd.Stderr = printed, printed
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	failed := cmd.Run()
	assert.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)) // what is in the background
	out, err = os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, failed, "%s\n%s", script, out)
	assert.Contains(t, string(out), "TOKEN")
	assert.Contains(t, string(out), "http://"+listen+"/register?token=")
	assert.NotContains(t, string(out), "level=ERROR")
	assert.Contains(t, string(out), "msg=stopping")
	assert.Contains(t, string(out), "the gateway has ended: 0")
}
