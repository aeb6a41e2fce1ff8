// Package dendritetest starts Dendrite, a homeserver that nobody here wrote, for the
// tests that want a real one:
//
//	func TestUpstream(t *testing.T) {
//		d := dendritetest.Start(t, dendritetest.Options{Closed: true, SharedSecret: "secret"})
//		response, err := http.Get(d.URL + "/_matrix/client/versions")
//
// It has an address of its own on the loopback interface, SQLite databases in a
// temporary folder, no federation and no limits, and is gone after the test. A start
// takes a fifth of a second.
//
// # Where the program comes from
//
// The module in the folder tool has Dendrite as a Go tool. The first test that wants
// it builds it, which takes a minute or two and downloads what it is made of; from
// then on it is in Go's build cache. Where it cannot be built, and with go test -short,
// the test is skipped, and with CI=true it fails.
//
// The package needs nothing but the standard library, so tests of every module of
// this repository can import it, in go.work or not.
package dendritetest

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/matrix-uia/uia/internal/testenv"
)

// Version is Dendrite's version. The folder tool requires it.
const Version = "v0.13.8"

// Options say what kind of homeserver is wanted. The zero value is one on which
// anybody registers with m.login.dummy.
type Options struct {
	// ServerName is what stands behind the colon in user IDs; "localhost" if empty.
	ServerName string
	// Closed switches registration off, for all but those who know the shared secret.
	Closed bool
	// SharedSecret is that of /_synapse/admin/v1/register. Without one nobody is
	// registered there.
	SharedSecret string
	// Guests lets guests register.
	Guests bool
	// AppServices are registration files of application services, as YAML or JSON.
	AppServices []string
}

// Dendrite is a homeserver that runs until its test has ended.
type Dendrite struct {
	// URL is its address, without a slash at the end. It stays the same after Restart.
	URL string
	// ServerName is what stands behind the colon in user IDs.
	ServerName string

	program, dir, listen string
	process              *testenv.Process
}

// Start starts a homeserver. It fails the test if Dendrite does not answer, and shows
// what Dendrite has logged if the test fails.
func Start(t testing.TB, o Options) *Dendrite {
	t.Helper()
	program, err := build()
	testenv.Need(t, err)
	if o.ServerName == "" {
		o.ServerName = "localhost"
	}
	dir, err := os.MkdirTemp("", "dendrite")
	if err == nil {
		err = o.write(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	d := &Dendrite{ServerName: o.ServerName, program: program, dir: dir}
	t.Cleanup(func() {
		d.Kill()
		if t.Failed() {
			t.Logf("what Dendrite logged:\n%s", d.log())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	// Somebody else may get the address between its choice and Dendrite's start.
	for range 3 {
		if d.listen, err = freeAddress(); err == nil {
			d.URL = "http://" + d.listen
			err = d.start(t.Context())
		}
		if err == nil {
			return d
		}
	}
	t.Fatal(err)
	return nil
}

// Kill ends the homeserver as it stands, as a power cut would. Its databases stay
// until the test has ended. Killing it again does nothing.
func (d *Dendrite) Kill() {
	if d.process != nil {
		d.process.Kill()
		d.process = nil
	}
}

// Restart starts a homeserver that was killed, or kills it first, on the address and
// the databases that it had.
func (d *Dendrite) Restart(t testing.TB) {
	t.Helper()
	d.Kill()
	if err := d.start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// start starts the program and waits until it answers.
func (d *Dendrite) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(d.program, "-config", "dendrite.yaml", "-really-enable-open-registration", "-http-bind-address", d.listen)
	cmd.Dir = d.dir
	process, err := testenv.Start(cmd, log, d.dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := testenv.Poll(ctx, func() bool { return d.answers(ctx) }, process.Done()); err != nil {
		process.Kill()
		return fmt.Errorf("Dendrite does not answer on %s: %w\n%s", d.listen, err, d.log())
	}
	d.process = process
	return nil
}

func (d *Dendrite) answers(ctx context.Context) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL+"/_matrix/client/versions", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// log returns the end of what Dendrite has logged.
func (d *Dendrite) log() []byte {
	text, _ := os.ReadFile(filepath.Join(d.dir, "log"))
	if len(text) > 4000 {
		text = text[len(text)-4000:]
	}
	return text
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

//go:embed dendrite.yaml
var configuration string

var config = template.Must(template.New("dendrite.yaml").Parse(configuration))

// write writes the configuration, a new signing key and the files of the application
// services into a folder.
func (o *Options) write(dir string) error {
	var text bytes.Buffer
	if err := config.Execute(&text, o); err != nil {
		return err
	}
	seed := make([]byte, 32)
	rand.Read(seed)
	key := pem.EncodeToMemory(&pem.Block{Type: "MATRIX PRIVATE KEY", Headers: map[string]string{"Key-ID": "ed25519:test"}, Bytes: seed})
	files := map[string][]byte{"dendrite.yaml": text.Bytes(), "matrix_key.pem": key}
	for i, service := range o.AppServices {
		files[fmt.Sprintf("service%d.yaml", i)] = []byte(service)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// build builds Dendrite unless it is in Go's build cache, and returns where it is.
var build = sync.OnceValues(func() (string, error) {
	if testing.Short() {
		return "", errors.New("no Dendrite: -short")
	}
	dir, err := command("go", "list", "-f", "{{.Dir}}", "github.com/matrix-uia/uia/internal/dendritetest")
	if err != nil {
		return "", err
	}
	return command("go", "tool", "-C", filepath.Join(dir, "tool"), "-n", "dendrite")
})

// command returns what a command prints.
func command(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	if args[0] == "tool" {
		cmd.Env = append(cmd.Environ(), "GOWORK=off")
	}
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("no Dendrite: %s: %w", strings.Join(cmd.Args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
