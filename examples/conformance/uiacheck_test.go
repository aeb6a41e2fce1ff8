package conformance

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/uiatest"
)

// uiacheck finds nothing wrong with the example homeserver over TCP, whether it
// makes tokens through the administration or is given some, and tidies up.
func TestUiacheck(t *testing.T) {
	command := filepath.Join(t.TempDir(), "uiacheck")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", command, "github.com/matrix-uia/uia/cmd/uiacheck").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for flow, stages := range flows {
		t.Run(flow, func(t *testing.T) {
			t.Parallel()
			storage := open(t, "memory")
			server := homeserver(t, storage, stages, 0)
			listening := httptest.NewServer(server.Handler)
			t.Cleanup(listening.Close)
			check := func(args ...string) string {
				cmd := exec.CommandContext(t.Context(), command, append(args, "-url", listening.URL, "-rate", "1000", "-strict", "-lacks", strings.Join(server.Lacks, ","))...)
				var stdout, stderr bytes.Buffer
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				require.NoError(t, cmd.Run(), "%s%s", &stdout, &stderr)
				require.Empty(t, stderr.String(), "there is no progress line where there is no terminal")
				return stdout.String()
			}
			report := check("-admin-token", server.AdminToken, "-parallel", "4", "-run", "^(token|admin|races|limits)/")
			require.Contains(t, report, " 0 failed")
			require.NotContains(t, report, "no way to make")
			left, err := storage.Tokens.ListTokens(t.Context(), uia.TokenQuery{}, time.Now())
			require.NoError(t, err)
			require.Empty(t, left.Tokens, "the tokens that were made are deleted")

			given := []string{"first", "second", "third", "fourth"}
			for _, value := range given {
				_, err := server.NewToken(t.Context(), uiatest.NewToken{Value: value, Uses: new(int64(1))})
				require.NoError(t, err)
			}
			report = check("-tokens", strings.Join(given, ","), "-run", "^uia/(all-stages-make|the-last-stage-again|a-second-attempt|the-same-final)")
			require.Contains(t, report, "4 passed, 0 failed")
		})
	}
}

// nobody makes no accounts.
type nobody struct{ register.Accounts }

// newClosed returns a homeserver on which registration is off, and how the kit is
// told of it.
func newClosed(t *testing.T) uiatest.Server {
	t.Helper()
	store := memstore.New(nil)
	off := func(*http.Request) bool { return true }
	registration := &register.Registration{ServerName: "example.org", Accounts: nobody{}, Disabled: off}
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), Sessions: store, Operations: []uia.Operation{registration.Operation()},
	})
	require.NoError(t, err)
	handler, err := registration.Handler(engine)
	require.NoError(t, err)
	validity, err := uia.ValidityHandler(engine, store, &uia.ValidityOptions{Disabled: off})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/_matrix/client/v3/register", handler)
	mux.Handle(uia.ValidityPath, validity)
	return uiatest.Server{Handler: mux, Closed: true, NewToken: newToken(store)}
}

// A homeserver on which registration is off passes the cases about that.
func TestClosed(t *testing.T) {
	uiatest.TestServer(t, newClosed(t))
}
