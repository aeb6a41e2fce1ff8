package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/redis/go-redis/v9"
	"rsc.io/qr"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/gateway/sqlclaims"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/limit/redislimit"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/signup"
	"github.com/matrix-uia/uia/sqlstore"
	"github.com/matrix-uia/uia/uiaprometheus"
)

// gate is a gateway that is put together.
type gate struct {
	*config
	log      *slog.Logger
	db       *sql.DB
	redis    *redis.Client // nil: none
	metrics  *uiaprometheus.Metrics
	client   *gateway.Client
	public   *http.Client
	upstream upstream
	accounts *gateway.Accounts
	engine   *uia.Engine
	handler  http.Handler
}

// newGate opens the database and puts the gateway together. The caller closes it.
func newGate(ctx context.Context, c *config, log *slog.Logger) (*gate, error) {
	db, store, err := openDatabase(ctx, c.database)
	if err != nil {
		return nil, err
	}
	g := &gate{config: c, log: log, db: db, metrics: uiaprometheus.New(), public: &http.Client{Transport: gateway.NewTransport()}}
	if err := g.assemble(store); err != nil {
		return nil, errors.Join(err, g.close())
	}
	return g, nil
}

func (g *gate) close() error {
	var err error
	if g.redis != nil {
		err = g.redis.Close()
	}
	return errors.Join(err, g.db.Close())
}

func (g *gate) assemble(store *sqlstore.Store) error {
	g.client, g.upstream = newUpstream(g.config)
	secrets := store.Secrets(24 * time.Hour)
	var err error
	g.accounts, err = gateway.NewAccounts(gateway.AccountsOptions{
		Upstream: g.upstream, Claims: sqlclaims.New(store), ServerName: g.serverName, Secrets: secrets, Logger: g.log,
	})
	if err != nil {
		return err
	}
	usernames, err := register.NewUsernames(g.usernames)
	if err != nil {
		return err
	}
	limiter, err := g.limiter()
	if err != nil {
		return err
	}
	registration := &register.Registration{
		Accounts: g.accounts, Resolve: g.accounts.Resolve, ServerName: g.serverName,
		Flows:         []uia.Flow{{uia.TokenType, uia.DummyType}},
		Username:      func(_ context.Context, r register.UsernameRequest) error { return usernames.Check(r.Localpart) },
		CheckPassword: g.checkPassword,
	}
	audit := uia.AuditLog(g.log)
	observe := func(ctx context.Context, ev uia.Event) {
		audit(ctx, ev)
		g.metrics.Observe(ctx, ev)
	}
	g.engine, err = uia.New(uia.Config{
		Secrets: secrets, Sessions: store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()},
		Limiter:    limiter, Client: uia.ClientBehind(g.trusted...),
		// After a crash a client waits for a lease at most, and one request of the upstream
		// has to fit into it.
		LeaseTTL: 4 * g.upstreamTimeout,
		Observer: observe, Logger: g.log,
	})
	if err != nil {
		return err
	}
	look := fallback.Look{Logo: g.logo}
	if g.terms != "" {
		look.Links = []form.Link{{Text: "Terms", URL: g.terms}}
	}
	pages, err := fallback.New(g.engine, &fallback.Options{Title: g.title, Look: look})
	if err != nil {
		return err
	}
	var page http.Handler // nil: /register is the homeserver's
	if g.signup {
		if page, err = signup.New(signup.Options{
			Engine: g.engine, Registration: registration, Pages: pages, Tokens: store, Secrets: secrets,
			Homeserver: g.publicURL, MinPassword: g.minPassword, QR: drawQR,
		}); err != nil {
			return err
		}
	}
	admins := &gateway.Admins{Client: g.client, Users: g.admins, Probe: probe(g.upstreamType)}
	g.handler, err = gateway.New(gateway.Options{
		Upstream: g.config.upstream, Engine: g.engine, Registration: registration, Tokens: store, Fallback: pages, Signup: page,
		Authorize: admins.Authorize, ServerVersion: g.serverVersion(), TrustedProxies: g.trusted, Logger: g.log,
		Admin: &admin.Options{
			CheckMeta: registration.CheckMeta, InviteURL: g.inviteLink, QR: drawQR, Secrets: secrets, Observer: observe, Logger: g.log,
		},
	})
	return err
}

// serverVersion is what administrators' tools are told. Synapse tells them itself.
func (g *gate) serverVersion() string {
	if g.upstreamType == "synapse" {
		return ""
	}
	return "uiagateway"
}

// checkPassword refuses a password that is short.
func (g *gate) checkPassword(_ context.Context, password string) error {
	if len([]rune(password)) < g.minPassword {
		return uia.NewError(http.StatusBadRequest, spec.WeakPassword(fmt.Sprintf("A password has at least %d characters.", g.minPassword)))
	}
	return nil
}

// limiter counts wrong guesses, in this process or in Redis. While Redis is away each
// process counts by itself.
func (g *gate) limiter() (uia.Limiter, error) {
	if g.config.redis == "" {
		return limit.New(&limit.Options{Burst: g.guesses})
	}
	options, err := redis.ParseURL(g.config.redis)
	if err != nil {
		return nil, errors.New("redis: the URL cannot be read") // the cause may have the password
	}
	g.redis = redis.NewClient(options)
	return redislimit.New(g.redis, &redislimit.Options{Burst: g.guesses, Alone: true, Logger: g.log})
}

func drawQR(text string) ([]byte, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, err
	}
	return code.PNG(), nil
}
