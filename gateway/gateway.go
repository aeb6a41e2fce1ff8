package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/register"
)

// Options are the options of [New].
type Options struct {
	// Upstream is where the homeserver behind the gateway is reached: scheme and host,
	// and perhaps a path that goes in front of all others. Required.
	Upstream *url.URL
	// Transport sends what is passed on. Nil means [NewTransport].
	Transport http.RoundTripper
	// Engine guards the registration. Required.
	Engine *uia.Engine
	// Registration is what the engine's operation was made of. Its Accounts is usually
	// an [Accounts]. Where its AppService is nil, registrations of application services
	// are passed on. Required.
	Registration *register.Registration
	// Tokens are the registration tokens. Required.
	Tokens uia.TokenStore
	// Fallback is the engine's fallback page. Required.
	Fallback http.Handler
	// Authorize tells who may manage tokens, as package admin has it: usually
	// [Admins.Authorize]. Nil leaves out the administration: its paths are answered
	// with 404.
	Authorize func(*http.Request) (by string, err error)
	// Admin are the options of the administration; nil means none.
	Admin *admin.Options
	// ServerVersion is answered to administrators at
	// /_synapse/admin/v1/server_version, which their tools ask for first. Empty passes
	// the request on, as is right in front of Synapse.
	ServerVersion string
	// Signup serves /register, the page on which an invite link ends. Nil passes it on.
	Signup http.Handler
	// Account serves /account/password and /account/deactivate in place of the upstream,
	// where accounts are kept beside it: restauth's Accounts.Guard. It gets the handler
	// that passes requests on. Requests for a mail by which a password can be set
	// (/account/password/email/requestToken) are then refused, because the upstream would
	// set one of its own. Nil passes all of them on.
	Account func(next http.Handler) http.Handler
	// TrustedProxies are the proxies in front of the gateway, whose X-Forwarded-For and
	// X-Forwarded-Proto are passed on. Those of others are not.
	TrustedProxies []netip.Prefix
	// Logger gets what goes wrong. Nil discards it. It never sees a token or a password.
	Logger *slog.Logger
}

// Handler is a gateway: it serves everything about registration, and passes all
// other requests on. It is safe for concurrent use.
type Handler struct {
	engine        *uia.Engine
	proxy         *httputil.ReverseProxy
	client        func(*http.Request) netip.Addr
	register      http.Handler
	available     http.Handler
	validity      http.Handler
	fallback      http.Handler
	admin         http.Handler // nil: none
	signup        http.Handler // nil: the upstream's
	account       http.Handler // nil: the upstream's
	serverVersion http.Handler // nil: the upstream's
	log           *slog.Logger
}

// New returns a Handler, or every mistake in its options at once.
func New(o Options) (*Handler, error) {
	var mistakes []error
	required := func(name string, missing bool) {
		if missing {
			mistakes = append(mistakes, errors.New("gateway: Options."+name+" is required"))
		}
	}
	required("Upstream", o.Upstream == nil || o.Upstream.Host == "")
	required("Engine", o.Engine == nil)
	required("Registration", o.Registration == nil)
	required("Tokens", o.Tokens == nil)
	required("Fallback", o.Fallback == nil)
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	h := &Handler{
		engine: o.Engine, client: uia.ClientBehind(o.TrustedProxies...),
		fallback: o.Fallback, signup: o.Signup, log: o.Logger,
	}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	h.proxy = newProxy(o, h.client, h.log)
	if o.Account != nil {
		h.account = o.Account(h.proxy)
	}
	registration := *o.Registration
	if registration.AppService == nil {
		registration.AppService = http.HandlerFunc(h.appService)
	}
	var registerErr, availableErr, validityErr, adminErr error
	h.register, registerErr = registration.Handler(o.Engine)
	h.available, availableErr = registration.AvailableHandler(o.Engine)
	h.validity, validityErr = uia.ValidityHandler(o.Engine, o.Tokens, &uia.ValidityOptions{Disabled: registration.Disabled})
	h.admin = http.HandlerFunc(unrecognized)
	if o.Authorize != nil {
		h.admin, adminErr = admin.Handler(o.Tokens, o.Authorize, o.Admin)
		if o.ServerVersion != "" {
			h.serverVersion = serverVersion(o.ServerVersion, o.Authorize, h.log)
		}
	}
	if err := errors.Join(registerErr, availableErr, validityErr, adminErr); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch route(r.URL.Path) {
	case toRegister:
		h.own(w, r, h.register)
	case toAvailable:
		h.own(w, r, h.available)
	case toValidity:
		h.validity.ServeHTTP(w, r)
	case toAdmin:
		h.admin.ServeHTTP(w, r)
	case toServerVersion:
		h.orPass(w, r, h.serverVersion)
	case toSignup:
		h.signupPage(w, r)
	case toAccount:
		h.orPass(w, r, h.account)
	case toPasswordMail:
		if h.account != nil {
			unrecognized(w, r)
			return
		}
		h.proxy.ServeHTTP(w, r)
	case toFallback:
		if h.ours(r) {
			h.fallback.ServeHTTP(w, r)
			return
		}
		h.proxy.ServeHTTP(w, r)
	case refusedPath:
		unrecognized(w, r)
	default:
		h.proxy.ServeHTTP(w, r)
	}
}

// own serves an endpoint that asks the upstream on the client's behalf.
func (h *Handler) own(w http.ResponseWriter, r *http.Request, endpoint http.Handler) {
	endpoint.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, h.client(r))))
}

// signupPage serves the page, or passes the request on if there is none.
func (h *Handler) signupPage(w http.ResponseWriter, r *http.Request) {
	if h.signup == nil {
		h.proxy.ServeHTTP(w, r)
		return
	}
	h.own(w, r, h.signup) // it asks the upstream on the client's behalf, like the API
}

// orPass passes a request on for which there is no endpoint.
func (h *Handler) orPass(w http.ResponseWriter, r *http.Request, endpoint http.Handler) {
	if endpoint == nil {
		endpoint = h.proxy
	}
	endpoint.ServeHTTP(w, r)
}
