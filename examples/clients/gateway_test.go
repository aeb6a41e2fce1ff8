package clients

import (
	"database/sql"
	"log/slog"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/gateway/sqlclaims"
	"github.com/matrix-uia/uia/internal/dendritetest"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/sqlstore"
)

// newGateway starts a gateway on SQLite, in front of a homeserver that makes accounts
// by this shared secret.
func newGateway(t *testing.T, upstream, sharedSecret string, tokens map[string]int64) *homeserver {
	t.Helper()
	ctx := t.Context()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "gateway.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	store, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(ctx))
	for value, uses := range tokens {
		require.NoError(t, store.CreateTokens(ctx, uia.Token{Value: value, UsesAllowed: &uses, Created: time.Now()}))
	}
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	client := &gateway.Client{URL: upstream}
	secrets := store.Secrets(24 * time.Hour)
	accounts, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream:   &gateway.SharedSecret{Client: client, ServerName: "localhost", Secret: sharedSecret},
		Claims:     sqlclaims.New(store),
		ServerName: "localhost",
		Secrets:    secrets,
		Logger:     log,
	})
	require.NoError(t, err)
	registration := &register.Registration{Accounts: accounts, Resolve: accounts.Resolve, ServerName: "localhost", Flows: []uia.Flow{flowTD}}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: store, Stages: []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()}, Logger: log,
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, nil)
	require.NoError(t, err)
	target, err := url.Parse(upstream)
	require.NoError(t, err)
	handler, err := gateway.New(gateway.Options{
		Upstream: target, Engine: engine, Registration: registration, Tokens: store, Fallback: pages, Logger: log,
	})
	require.NoError(t, err)
	h := &homeserver{Server: httptest.NewServer(handler), store: store}
	t.Cleanup(h.Close)
	return h
}

// The clients register, and do all else, through a gateway: in front of a real
// homeserver, and of the example one.
func TestGateway(t *testing.T) {
	const secret = "the shared secret"
	clients := map[string]func(*testing.T, *homeserver){"mautrix": testMautrix, "js-sdk": testMatrixJSSDK}
	for name, test := range clients {
		t.Run("dendrite/"+name, func(t *testing.T) {
			d := dendritetest.Start(t, dendritetest.Options{Closed: true, SharedSecret: secret})
			test(t, newGateway(t, d.URL, secret, map[string]int64{"once": 1, "twice": 2}))
		})
		t.Run("homeserver/"+name, func(t *testing.T) {
			storage, err := hs.Open(t.Context(), "memory")
			require.NoError(t, err)
			server, err := hs.New(t.Context(), hs.Options{ServerName: "localhost", SharedSecret: secret, Storage: storage})
			require.NoError(t, err)
			upstream := httptest.NewServer(server)
			t.Cleanup(func() {
				server.Close()
				upstream.Close()
			})
			test(t, newGateway(t, upstream.URL, secret, map[string]int64{"once": 1, "twice": 2}))
		})
	}
}
