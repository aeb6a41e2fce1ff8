// Package register is POST /register and GET /register/available of the Client-Server API
// for homeservers that embed package uia: everything about registration except the
// accounts themselves. The homeserver makes those, as an [Accounts].
package register

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/mistake"
)

// OperationName is the name of the operation that guards registration.
const OperationName = "register"

// Accounts makes accounts. It is safe for concurrent use. If an error is an *uia.Error,
// the client gets it.
type Accounts interface {
	// Available returns nil if an account with this localpart could be made, and
	// otherwise an *uia.Error: 400 M_USER_IN_USE, M_INVALID_USERNAME or M_EXCLUSIVE.
	Available(ctx context.Context, r UsernameRequest) error

	// Create makes the account and, unless a.InhibitLogin is set, a device with an access
	// token. It makes at most one account for each a.Key, by a unique index: called again
	// with the key of an account that exists, Create returns that account, whatever the
	// other fields of a say. With Registration.Tx neither is needed: a key whose account
	// was made does not come again.
	//
	// An *uia.Error says that the account was not made: 400 M_USER_IN_USE if somebody
	// was faster, for example. After any other error it may have been. With
	// Registration.Tx the context carries the transaction in which the account has
	// to be made, and Create may be called more than once.
	Create(ctx context.Context, a Account) (Created, error)
}

// Account says what account to make.
type Account struct {
	// Key is the idempotency key: Session.Key.
	Key string
	// Localpart is what the client asked for, with ASCII letters in lower case; or what
	// its registration token is pinned to ([Pin]); or else a name that was made up. It
	// is never empty, is within the grammar of user IDs, and was available when it was
	// asked for.
	Localpart string
	// Password is never empty, unless Registration.AllowNoPassword is set.
	Password string
	// PasswordHash is what Registration.HashPassword made of it; "" if there is no
	// HashPassword or no password.
	PasswordHash string
	// DeviceID is the device to be logged in, of at most 255 bytes and without a NUL; if
	// it is "", Create makes one up.
	DeviceID string
	// DeviceName is the display name of a new device, of at most 255 bytes and without
	// a NUL; may be empty.
	DeviceName string
	// InhibitLogin asks for no device and no access token.
	InhibitLogin bool
	// RefreshToken says that the client supports refresh tokens.
	RefreshToken bool
	// GuestToken is the access token of the guest who registers, if
	// Registration.GuestAvailable is set; otherwise "".
	GuestToken string
	// ServerName is the part of the user ID behind the colon: what Registration.Host
	// returned or, without that, Registration.ServerName.
	ServerName string
	// Session is what was authenticated: Session.Token has the registration token
	// and its Meta.
	Session *uia.Session
	// Request is the request that has the account made, for its headers. Its body has been
	// read, and is not what the account is made of: clients do not repeat all parameters,
	// so that some of them come from earlier requests of the session. They are in
	// Session.Params.
	Request *http.Request
}

// Created says what account was made.
type Created struct {
	UserID string // required
	// DeviceID and AccessToken are required unless the login was inhibited.
	DeviceID    string
	AccessToken string
	// RefreshToken may be empty; ExpiresIn zero means that the access token lasts.
	RefreshToken string
	ExpiresIn    time.Duration
}

// Registration configures registration.
type Registration struct {
	// Accounts makes the accounts. Required.
	Accounts Accounts
	// ServerName is the part of user IDs behind the colon. Required.
	ServerName string
	// Host returns the server name for which a request registers, in a process that serves
	// several (virtual hosts); "" means that the request is for none of them, and is
	// answered with 404 M_NOT_FOUND. It becomes the Target of the session, which can only
	// be continued under the same name. Nil means ServerName for every request.
	Host func(*http.Request) string
	// Flows are what a client has to do. Required, unless Disabled is always true.
	Flows []uia.Flow
	// Disabled reports whether registration is off, in which case every request but
	// those of application services is answered with 403 M_FORBIDDEN. It is asked for
	// each request. Nil means that it is on.
	Disabled func(*http.Request) bool
	// AllowReserved lets accounts have the names that homeservers do not give to people:
	// those that begin with _, which are the users of application services by convention,
	// and those of digits alone, which are guests. Otherwise such a name is refused with
	// 400 M_INVALID_USERNAME, also if a token is pinned to it.
	AllowReserved bool
	// Username decides whether a new user may have this name. It is called for each
	// request that brings a name, for /register/available, for names that tokens are
	// pinned to or that are made up, and again before the account is made. It refuses
	// with an *uia.Error: 400 M_INVALID_USERNAME or M_EXCLUSIVE. To use the rules of
	// [NewUsernames]:
	//
	//	func(_ context.Context, r register.UsernameRequest) error { return usernames.Check(r.Localpart) }
	//
	// Nil allows every name.
	Username func(context.Context, UsernameRequest) error
	// MakeUp makes a localpart up for a client that asks for none. It is called again, a
	// few times, if the localpart is refused or taken. Nil makes up 12 letters and
	// digits.
	MakeUp func(context.Context) (localpart string, err error)
	// CheckPassword refuses a password that is too weak, with an *uia.Error: 400
	// M_WEAK_PASSWORD. It is called for each request that brings parameters, before
	// any stage is attempted, and so has to be cheap. Nil takes any password of at
	// most 512 bytes.
	CheckPassword func(ctx context.Context, password string) error
	// AllowNoPassword lets accounts be made without a password, for homeservers
	// that offer other logins.
	AllowNoPassword bool
	// Guest handles kind=guest, which needs no authentication. Nil answers 403
	// M_GUEST_ACCESS_FORBIDDEN.
	Guest http.Handler
	// GuestAvailable is asked in place of Accounts.Available when a guest registers
	// (guest_access_token) and may keep the localpart that it has: nil also if the
	// localpart is taken by the guest whose access token this is. It also decides about
	// the names that AllowReserved is about. Nil ignores such access tokens.
	GuestAvailable func(ctx context.Context, r UsernameRequest, guestToken string) error
	// AppService handles requests of application services: those whose type is
	// m.login.application_service, also while registration is off. The body can be read
	// again. Nil answers 400 M_UNRECOGNIZED.
	AppService http.Handler
	// If Tx is true, accounts are made in the transaction that spends the token: the
	// context of Create carries it (sqlstore's Store.Tx). It needs an engine whose
	// Sessions is a uia.TxStore. Otherwise accounts are made outside, and Resolve is
	// required.
	Tx bool
	// HashPassword makes the Account.PasswordHash. It is called before the transaction
	// begins: a good hash takes long, and a transaction keeps others waiting; and after
	// everything that this package can refuse has been refused. Nil leaves hashing to
	// Create.
	HashPassword func(ctx context.Context, password string) (string, error)
	// Resolve is the operation's; see uia.Operation. Not needed with Tx.
	Resolve func(ctx context.Context, key string) (uia.Outcome, error)
	// LimitAvailable limits how often a client can learn whether a name is taken, by
	// /register/available and by /register, where each request that brings a username
	// asks, two or three in a registration. It refuses with an *uia.Error. client is the
	// engine's (Config.Client). Nil does not limit.
	LimitAvailable func(ctx context.Context, client netip.Addr) error
}

// Operation returns the operation to be put into uia.Config.Operations.
func (reg *Registration) Operation() uia.Operation {
	return uia.Operation{
		Name:     OperationName,
		Flows:    reg.Flows,
		Mutable:  true,
		Remember: remembered,
		Check:    reg.check,
		Admit:    reg.admit,
		Prepare:  func(ctx context.Context, s *uia.Session) (any, error) { return reg.account(ctx, s) },
		Tx:       reg.Tx,
		Resolve:  reg.Resolve,
		Describe: reg.describe,

		Configured: reg.configured,
	}
}

// configured reports what is required and missing.
func (reg *Registration) configured() error {
	return errors.Join(
		mistake.Required("Accounts", reg.Accounts != nil),
		mistake.Required("ServerName", reg.ServerName != ""))
}

// on reports why the registration cannot be served with the engine.
func (reg *Registration) on(e *uia.Engine) error {
	err := reg.configured()
	switch {
	case e == nil:
		err = errors.Join(err, errors.New("the engine is nil"))
	case !e.HasOperation(OperationName):
		err = errors.Join(err, fmt.Errorf("the engine has no operation %q: put Registration.Operation() into uia.Config.Operations", OperationName))
	}
	return mistake.In("register: ", err)
}

// describe says what a session is about, for the fallback page.
func (reg *Registration) describe(s *uia.Session, say form.Say) string {
	var username string
	_, err := s.Param("username", &username)
	server := reg.serverName(s)
	if username = CanonicalLocalpart(username); err != nil || reg.checkGrammar(username, server) != nil {
		return say("create an account on {server}", "server", server)
	}
	return say("create the account {user}", "user", "@"+username+":"+server)
}

// caller returns what the engine has to know of a request besides its body. With a Host
// the server name is the session's target.
func (reg *Registration) caller(r *http.Request) (uia.Caller, error) {
	c := uia.Caller{Operation: OperationName}
	if reg.Host != nil {
		if c.Target = reg.Host(r); c.Target == "" {
			return c, refuse(http.StatusNotFound, spec.ErrorNotFound, "There is no homeserver of this name here.")
		}
	}
	return c, nil
}

// ServerNameOf returns the part of user IDs behind the colon for the request: what Host
// says or, without it, ServerName. The error is an *uia.Error.
func (reg *Registration) ServerNameOf(r *http.Request) (string, error) {
	c, err := reg.caller(r)
	return cmp.Or(c.Target, reg.ServerName), err
}

// serverName returns the server name for which the session registers.
func (reg *Registration) serverName(s *uia.Session) string {
	if reg.Host != nil {
		return s.Target
	}
	return reg.ServerName
}

func (reg *Registration) disabled(r *http.Request) bool {
	return reg.Disabled != nil && reg.Disabled(r)
}

func refuse(status int, code spec.MatrixErrorCode, message string) error {
	return uia.NewError(status, spec.MatrixError{ErrCode: code, Err: message})
}

func errDisabled() error {
	return refuse(http.StatusForbidden, spec.ErrorForbidden, "Registration is not enabled on this homeserver.")
}
