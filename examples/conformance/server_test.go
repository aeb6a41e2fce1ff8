package conformance

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/uiatest"
)

// flows are the two ways to register that the kit knows.
var flows = map[string]uia.Flow{
	"T":  {uia.TokenType},
	"TD": {uia.TokenType, "m.login.dummy"},
}

// storages are what the example homeserver keeps everything in.
var storages = map[string]func(t *testing.T) *hs.Storage{
	"memory": func(t *testing.T) *hs.Storage { return open(t, "memory") },
}

func open(t *testing.T, name string) *hs.Storage {
	t.Helper()
	storage, err := hs.Open(t.Context(), name)
	require.NoError(t, err)
	if storage.Close != nil {
		t.Cleanup(func() { require.NoError(t, storage.Close()) })
	}
	return storage
}

// homeserver returns the example homeserver, and how the kit is told of it. With
// the limit of 46 failures the cases about limits find it within their guesses, and
// the others do not.
func homeserver(t *testing.T, storage *hs.Storage, flow uia.Flow) uiatest.Server {
	t.Helper()
	server, err := hs.New(t.Context(), hs.Options{ServerName: "example.org", Storage: storage, Flows: []uia.Flow{flow}, Failures: 46})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return uiatest.Server{
		Handler:  server,
		NewToken: newToken(storage.Tokens),
		Lacks:    []string{"fallback", "server_version"},
	}
}

// newToken makes tokens for the kit.
func newToken(store uia.Store) func(context.Context, uiatest.NewToken) (string, error) {
	return func(ctx context.Context, t uiatest.NewToken) (string, error) {
		token := uia.Token{Value: t.Value, UsesAllowed: t.Uses, Expires: t.Expires, Created: time.Now()}
		return t.Value, store.CreateTokens(ctx, token)
	}
}

// Every case that applies passes, at every level, in both flows, on every storage.
func TestExample(t *testing.T) {
	for storage, open := range storages {
		for flow := range flows {
			t.Run(storage+"/"+flow, func(t *testing.T) {
				uiatest.TestServer(t, homeserver(t, open(t), flows[flow]))
			})
		}
	}
}
