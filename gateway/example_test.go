package gateway_test

import (
	"context"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/gateway/sqlclaims"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/sqlstore"
)

// A gateway in front of a Synapse whose registration is off, behind a proxy on the
// same machine. Its administrators manage the tokens.
func Example_sharedSecret() {
	var (
		ctx        = context.Background()
		store      *sqlstore.Store // of sqlstore.New
		secret     = os.Getenv("REGISTRATION_SHARED_SECRET")
		trusted    = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		upstream   = &url.URL{Scheme: "http", Host: "127.0.0.1:8008"}
		serverName = "example.org"
	)
	must := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	secrets := store.Secrets(24 * time.Hour)
	client := &gateway.Client{URL: upstream.String(), Timeout: 5 * time.Second}
	synapse := &gateway.SharedSecret{Client: client, ServerName: serverName, Secret: secret}
	accounts, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: synapse, Claims: sqlclaims.New(store), ServerName: serverName, Secrets: secrets, Logger: slog.Default(),
	})
	must(err)
	usernames, err := register.NewUsernames(gateway.DefaultUsernames())
	must(err)
	registration := &register.Registration{
		Accounts: accounts, Resolve: accounts.Resolve, ServerName: serverName,
		Flows:    []uia.Flow{{uia.TokenType, "m.login.dummy"}},
		Username: func(_ context.Context, r register.UsernameRequest) error { return usernames.Check(r.Localpart) },
	}
	limiter, err := limit.New(nil)
	must(err)
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: store, Limiter: limiter, Client: uia.ClientBehind(trusted...), LeaseTTL: 20 * time.Second,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()},
		Logger:     slog.Default(),
	})
	must(err)
	pages, err := fallback.New(engine, nil)
	must(err)
	admins := &gateway.Admins{Client: client, Probe: gateway.SynapseAdmins}
	handler, err := gateway.New(gateway.Options{
		Upstream: upstream, Engine: engine, Registration: registration, Tokens: store, Fallback: pages,
		Authorize: admins.Authorize, TrustedProxies: trusted, Logger: slog.Default(),
	})
	must(err)

	for _, finding := range synapse.Check(ctx) {
		slog.Warn(finding.Text)
	}
	go engine.Maintain(ctx)
	go accounts.Maintain(ctx)
	server := &http.Server{Addr: "127.0.0.1:8009", Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

// At a homeserver that has registration tokens of its own, and no shared secret, the
// gateway registers with one that nobody else knows.
func ExamplePrivateRegistration() {
	client := &gateway.Client{URL: "http://127.0.0.1:6167"}
	conduit := &gateway.PrivateRegistration{Client: client, ServerName: "example.org", Token: os.Getenv("PRIVATE_TOKEN")}
	_, err := gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: conduit, Claims: &gateway.MemoryClaims{}, ServerName: "example.org",
		Secrets: uia.FixedSecrets([]byte("32 random bytes, of crypto/rand ")),
	})
	if err != nil {
		log.Fatal(err)
	}
}
