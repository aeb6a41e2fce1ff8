// Package hs is a homeserver for experimentation: enough of the Client-Server
// API that a real client registers, logs in and shows its user, and an example
// of how a homeserver embeds uia. It has no rooms.
//
// Of most use to the author of another homeserver are [New], where the engine is
// made; database.go, where tokens, sessions and accounts are put into one
// database; sql.go, whose statements join the transaction that spends a token; and
// registrar.go, which makes the accounts.
package hs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/limit"
	"github.com/matrix-uia/uia/passwords"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/restauth"
)

// Options are the options of [New].
type Options struct {
	// ServerName is what user IDs end in. Required.
	ServerName string
	// BaseURL is where clients reach the server, for the well-known file. Empty
	// means the address that they ask for the file.
	BaseURL string
	// Flows are the ways to register. None means the registration token, then
	// the dummy stage.
	Flows []uia.Flow
	// Tokens are made at the start. One that the storage has already is left as it
	// is, with the uses that it has left.
	Tokens []uia.Token
	// SharedSecret lets tools make accounts through /_synapse/admin/v1/register.
	// Empty means that there is no such endpoint.
	SharedSecret string
	// AccountsURL is a service that keeps accounts and is asked for the passwords of users
	// who are not kept here; see package restauth. A password in the URL is the secret that
	// the service expects. Empty means that there is none.
	AccountsURL string
	// Storage is where everything is kept. Required.
	Storage *Storage
	// Failures is how many wrong tokens and passwords a client may send at once.
	// Zero means 60, a negative number any.
	Failures int
	// Client tells who sent a request. Nil means the address of its connection,
	// which behind a proxy is the proxy's: then use uia.ClientBehind.
	Client func(*http.Request) netip.Addr
	// Address is what people type into an app to find the server. Empty means BaseURL or,
	// if that is empty too, ServerName.
	Address string
	// InviteURL is the link that admins hand out, with {token} in it; see
	// admin.Options. Empty means that of the page where people sign up, below BaseURL;
	// without BaseURL none.
	InviteURL string
	// Invites is how many open invitations a member may have at /_uia/v1/invites, or on the
	// page /_uia/invites. Zero or less means that members cannot invite.
	Invites int
	// Audit gets a line for each event: who made a token, who used it, who guesses.
	// Nil discards them.
	Audit *slog.Logger
	// Logger gets what goes wrong. Nil discards it.
	Logger *slog.Logger
}

// Server is a homeserver: an http.Handler.
type Server struct {
	name, baseURL string
	accounts      Accounts
	inTx          func(context.Context, func(context.Context) error) error // as in Storage, but never nil
	passwords     *passwords.Hasher
	shared        *sharedSecret    // nil if there is no shared secret
	service       *restauth.Client // keeps other accounts; nil if there is none
	limiter       uia.Limiter      // nil if failures are not counted
	client        func(*http.Request) netip.Addr
	engine        *uia.Engine
	pages         *fallback.Handler
	registration  *register.Registration
	metrics       *metrics
	observe       func(context.Context, uia.Event)
	log           *slog.Logger
	router        *router

	closed chan struct{}
	close  func()
}

// New makes a homeserver and the tokens that opts asks for.
func New(ctx context.Context, opts Options) (*Server, error) {
	if opts.ServerName == "" || opts.Storage == nil {
		return nil, errors.New("hs: Options needs ServerName and Storage")
	}
	if !ValidServerName(opts.ServerName) {
		return nil, fmt.Errorf("hs: a server cannot be called %q", opts.ServerName)
	}
	s := &Server{
		name:      opts.ServerName,
		baseURL:   opts.BaseURL,
		accounts:  opts.Storage.Accounts,
		inTx:      opts.Storage.InTx,
		passwords: passwords.New(nil),
		client:    opts.Client,
		log:       opts.Logger,
		closed:    make(chan struct{}),
	}
	s.close = sync.OnceFunc(func() { close(s.closed) })
	if s.inTx == nil {
		s.inTx = func(ctx context.Context, fn func(context.Context) error) error { return fn(ctx) }
	}
	if s.client == nil {
		s.client = uia.ClientBehind()
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if opts.SharedSecret != "" {
		s.shared = newSharedSecret(opts.SharedSecret)
	}
	if opts.AccountsURL != "" {
		service, err := restauth.NewClient(opts.AccountsURL, s.name, nil)
		if err != nil {
			return nil, err
		}
		s.service = service
	}
	if opts.Failures >= 0 {
		limiter, err := limit.New(&limit.Options{Burst: opts.Failures})
		if err != nil {
			return nil, err
		}
		s.limiter = limiter
	}
	s.metrics = newMetrics()
	s.observe = s.metrics.Observe
	if opts.Audit != nil {
		audit := uia.AuditLog(opts.Audit)
		s.observe = func(ctx context.Context, ev uia.Event) {
			s.metrics.Observe(ctx, ev)
			audit(ctx, ev)
		}
	}
	if err := s.newEngine(opts); err != nil {
		return nil, err
	}
	for _, token := range opts.Tokens {
		err := opts.Storage.Tokens.CreateTokens(ctx, token)
		switch print := uia.Fingerprint(token.Value); {
		case err == nil:
			s.observe(ctx, uia.Event{Kind: uia.EventTokenCreated, Token: print, By: token.CreatedBy, UsesAllowed: token.UsesAllowed, Expires: token.Expires})
		case !errors.Is(err, uia.ErrExists):
			return nil, fmt.Errorf("creating the token %s: %w", print, err)
		}
	}
	if err := s.route(opts.Storage.Tokens); err != nil {
		return nil, err
	}
	if err := errors.Join(s.routeAdmin(opts), s.routeSignup(opts), s.routeInvites(opts)); err != nil {
		return nil, err
	}
	return s, nil
}

// newEngine makes the engine with the operations that it guards: registration, and
// those for which a user has to repeat the password.
func (s *Server) newEngine(opts Options) error {
	tokens := opts.Storage.Tokens
	accounts := registrar{s}
	s.registration = &register.Registration{
		Accounts:   accounts,
		ServerName: s.name,
		Flows:      opts.Flows,
		// The account is made in the transaction that spends the token: a crash leaves
		// both or neither. Hashing the password first keeps the transaction short.
		Tx:           opts.Storage.InTx != nil,
		HashPassword: s.passwords.Hash,
	}
	if opts.Storage.InTx == nil {
		s.registration.Resolve = accounts.resolve
	}
	if len(opts.Flows) == 0 {
		s.registration.Flows = []uia.Flow{{uia.TokenType, uia.DummyType}}
	}
	engine, err := uia.New(uia.Config{
		Secrets: opts.Storage.Secrets,
		Stages: []uia.Stage{
			&uia.TokenStage{Store: tokens},
			&uia.TokenStage{Store: tokens, AuthType: uia.TokenTypeUnstable},
			uia.DummyStage{},
			s.passwordStage(),
		},
		Operations: append(s.reauthOperations(), s.registration.Operation()),
		Sessions:   tokens,
		Limiter:    s.limiter,
		Client:     s.client,
		Observer:   s.observe,
		Logger:     s.log,
	})
	if err != nil {
		return err
	}
	s.engine = engine
	s.pages, err = fallback.New(engine, &fallback.Options{Title: s.name})
	return err
}

// route lays out every endpoint. What is not here is 404 M_UNRECOGNIZED.
func (s *Server) route(tokens uia.TokenStore) error {
	s.router = newRouter()
	add := func(method, path string, h http.Handler) { s.router.add(method, path, h) }
	add("GET", "/{$}", http.HandlerFunc(s.welcome))
	add("GET", "/_matrix/client/versions", s.handle(s.versions))
	add("GET", "/.well-known/matrix/client", s.handle(s.wellKnown))

	validity, validityErr := uia.ValidityHandler(s.engine, tokens, nil)
	registration, registerErr := s.registration.Handler(s.engine)
	available, availableErr := s.registration.AvailableHandler(s.engine)
	if err := errors.Join(validityErr, registerErr, availableErr); err != nil {
		return err
	}
	add("", uia.ValidityPath, validity)
	add("", uia.ValidityPathUnstable, validity)
	for _, v := range []string{"/_matrix/client/v3", "/_matrix/client/r0"} {
		add("", v+"/register", registration)
		add("", v+"/register/available", available)
		add("GET", v+"/login", s.handle(s.loginFlows))
		add("POST", v+"/login", s.handle(s.login))
		add("POST", v+"/logout", s.handleAs(s.logout))
		add("POST", v+"/logout/all", s.handleAs(s.logoutAll))
		add("GET", v+"/account/whoami", s.handleAs(s.whoami))
		add("GET", v+"/capabilities", s.handleAs(s.capabilities))
		add("GET", v+"/sync", s.handleAs(s.sync))
		add("POST", v+"/user/{user}/filter", s.handleAs(s.putFilter))
		add("GET", v+"/user/{user}/filter/{filter}", s.handleAs(s.getFilter))
		add("GET", v+"/pushrules", s.handleAs(s.pushRules))
		add("GET", v+"/pushrules/{$}", s.handleAs(s.pushRules))
		add("POST", v+"/keys/upload", s.handleAs(s.uploadKeys))
		add("POST", v+"/keys/query", s.handleAs(s.queryKeys))

		add("", v+"/auth/{type}/fallback/web", s.pages)
		add("GET", v+"/devices", s.handleAs(s.listDevices))
		add("GET", v+"/devices/{device}", s.handleAs(s.getDevice))
		add("PUT", v+"/devices/{device}", s.handleAs(s.putDevice))
		add("DELETE", v+"/devices/{device}", s.guarded(opDeleteDevice, nil, s.deleteDevice))
		add("POST", v+"/delete_devices", s.guarded(opDeleteDevices, nil, s.deleteDevices))
		add("POST", v+"/account/password", s.guarded(opChangePassword, nil, s.changePassword))
		add("POST", v+"/account/deactivate", s.guarded(opDeactivate, unbound, s.deactivate))
		add("POST", v+"/keys/device_signing/upload", s.uploadSigningKeys())
		add("GET", v+"/profile/{user}", s.handleAs(s.profile))
	}
	if s.shared != nil {
		add("GET", "/_synapse/admin/v1/register", s.handle(s.secretNonce))
		add("POST", "/_synapse/admin/v1/register", s.handle(s.secretRegister))
	}
	return nil
}

// ServeHTTP answers every request in Matrix JSON.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.router.ServeHTTP(w, r) }

// Close ends the requests that wait for something to happen.
func (s *Server) Close() { s.close() }

// Maintain resolves what a crash has left in doubt and deletes what has expired,
// at once and then every few minutes until ctx ends. Without it nothing goes
// wrong, but doubts stay.
func (s *Server) Maintain(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Minute)
	defer ticker.Stop()
	for {
		if _, err := s.engine.Recover(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "recovery failed", "err", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
