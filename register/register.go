// Package register is POST /register and GET /register/available of the
// Client-Server API for homeservers that embed package uia: everything about
// registration but the accounts themselves, which the homeserver brings as an
// [Accounts].
package register

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// OperationName is the name of the operation that guards registration.
const OperationName = "register"

// Accounts makes accounts. It is safe for concurrent use. The errors it returns
// are told to the client if they are *uia.Error.
type Accounts interface {
	// Available returns nil if an account with this localpart could be made, and
	// otherwise an *uia.Error: 400 M_USER_IN_USE, M_INVALID_USERNAME or M_EXCLUSIVE.
	// The localpart is within the grammar of user IDs.
	Available(ctx context.Context, localpart string) error

	// Create makes the account and, unless a.InhibitLogin is set, a device with an
	// access token. At most one account is ever made under a.Key, which a unique
	// index sees to: called again with the key of an account that exists, Create
	// answers for that account, whatever else a says.
	//
	// An *uia.Error says that the account was not made: 400 M_USER_IN_USE if somebody
	// was faster, for example. After any other error it may have been. With
	// Registration.InTx the context carries the transaction in which the account has
	// to be made, and Create may be called more than once.
	Create(ctx context.Context, a Account) (Created, error)
}

// Account says what account to make.
type Account struct {
	// Key is the idempotency key: Session.Key.
	Key string
	// Localpart is what the client asked for, or what its registration token is pinned
	// to ([Pin]); "" asks for one to be made up.
	Localpart string
	// Password is never empty, unless Registration.AllowNoPassword is set.
	Password string
	// PasswordHash is what Registration.HashPassword made of it; "" if there is no
	// HashPassword or no password.
	PasswordHash string
	// DeviceID is the device to be logged in; "" asks for one to be made up.
	DeviceID string
	// DeviceName is the display name of a new device; may be empty.
	DeviceName string
	// InhibitLogin asks for no device and no access token.
	InhibitLogin bool
	// RefreshToken says that the client supports refresh tokens.
	RefreshToken bool
	// Session is what was authenticated: Session.Token has the registration token
	// and its Meta.
	Session *uia.Session
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
	// Flows are what a client has to do. Required, unless Disabled is always true.
	Flows []uia.Flow
	// Disabled reports whether registration is off, in which case every request is
	// answered with 403 M_FORBIDDEN. Nil means that it is on.
	Disabled func() bool
	// AllowNoPassword lets accounts be made without a password, for homeservers
	// that offer other logins.
	AllowNoPassword bool
	// Guest handles kind=guest, which needs no authentication. Nil answers 403
	// M_GUEST_ACCESS_FORBIDDEN.
	Guest http.Handler
	// AppService handles requests of application services: those whose type is
	// m.login.application_service. The body has been read and put back. Nil answers
	// 400 M_UNRECOGNIZED.
	AppService http.Handler
	// InTx runs a function in a transaction of the engine's session store, which the
	// context carries (sqlstore's InTx): accounts are then made in the transaction
	// that spends the token. Nil makes them outside, and requires Resolve.
	InTx func(context.Context, func(context.Context) error) error
	// HashPassword makes what Account.PasswordHash is to be. It is called before the
	// transaction begins: a good hash takes long, and a transaction keeps others
	// waiting. Nil leaves hashing to Create.
	HashPassword func(ctx context.Context, password string) (string, error)
	// Resolve is the operation's; see uia.Operation. Not needed with InTx.
	Resolve func(ctx context.Context, key string) (uia.Outcome, error)
	// LimitAvailable limits /register/available, which tells who has an account: it is
	// asked before each answer, and refuses with an *uia.Error. Nil does not limit.
	LimitAvailable func(*http.Request) error
}

// Operation returns the operation to be put into uia.Config.Operations.
func (reg *Registration) Operation() uia.Operation {
	op := uia.Operation{
		Name:     OperationName,
		Flows:    reg.Flows,
		Mutable:  true,
		Remember: []string{"username", "password", "device_id", "initial_device_display_name", "inhibit_login", "refresh_token"},
		Check:    reg.check,
		Resolve:  reg.Resolve,
		Describe: reg.describe,
	}
	if op.Resolve == nil && reg.InTx != nil {
		op.Resolve = uia.NotDone
	}
	return op
}

func (reg *Registration) disabled() bool { return reg.Disabled != nil && reg.Disabled() }

func refuse(status int, code spec.MatrixErrorCode, message string) error {
	return uia.NewError(status, spec.MatrixError{ErrCode: code, Err: message})
}

func errDisabled() error {
	return refuse(http.StatusForbidden, spec.ErrorForbidden, "Registration is not enabled on this homeserver.")
}

// Handler serves POST /register, on any path.
func (reg *Registration) Handler(e *uia.Engine) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			uia.MethodNotAllowed(w, r, "POST")
			return
		}
		response, err := reg.serve(w, r, e)
		switch {
		case err != nil:
			uia.WriteError(w, err)
		case response != nil:
			uia.WriteJSON(w, http.StatusOK, response)
		}
	})
}

// serve returns nothing if another handler has answered.
func (reg *Registration) serve(w http.ResponseWriter, r *http.Request, e *uia.Engine) (json.RawMessage, error) {
	if reg.disabled() {
		return nil, errDisabled()
	}
	req, err := e.Request(r, uia.Caller{Operation: OperationName})
	if err != nil {
		return nil, err
	}
	other, err := reg.kind(r, req.Body)
	if err != nil {
		return nil, err
	}
	if other != nil {
		restoreBody(r, req.Body)
		other.ServeHTTP(w, r)
		return nil, nil
	}
	grant, err := e.Authenticate(r.Context(), req)
	if err != nil {
		return nil, err
	}
	if reg.InTx == nil {
		return grant.Finish(r.Context(), func(ctx context.Context, s *uia.Session) (uia.Result, error) {
			a, err := reg.account(ctx, s)
			if err != nil {
				return uia.Result{}, err
			}
			return reg.create(ctx, a)
		})
	}
	var a Account
	inTx := func(ctx context.Context, fn func(context.Context) error) (err error) {
		if a, err = reg.account(ctx, grant.Session()); err != nil {
			return err
		}
		return reg.InTx(ctx, fn)
	}
	return grant.FinishTx(r.Context(), inTx, func(ctx context.Context, s *uia.Session) (uia.Result, error) {
		a.Session = s
		return reg.create(ctx, a)
	})
}

// account returns what the session asks for.
func (reg *Registration) account(ctx context.Context, s *uia.Session) (Account, error) {
	p, err := readParams(s)
	if err != nil {
		return Account{}, err
	}
	a := Account{
		Key: s.Key, Localpart: p.Username, Password: p.Password, DeviceID: p.DeviceID, DeviceName: p.DeviceName,
		InhibitLogin: p.InhibitLogin, RefreshToken: p.RefreshToken, Session: s,
	}
	if p.Password == "" && !reg.AllowNoPassword {
		return a, refuse(http.StatusBadRequest, spec.ErrorMissingParam, "A password is required.")
	}
	if err := reg.checkUsername(p.Username); err != nil {
		return a, err
	}
	if a.Localpart, err = pinned(s, p.Username); err != nil {
		return a, err
	}
	if p.Password != "" && reg.HashPassword != nil {
		a.PasswordHash, err = reg.HashPassword(ctx, p.Password)
	}
	return a, err
}

// create is the guarded operation.
func (reg *Registration) create(ctx context.Context, a Account) (uia.Result, error) {
	c, err := reg.Accounts.Create(ctx, a)
	if err != nil {
		return uia.Result{}, err
	}
	body := response{UserID: c.UserID, HomeServer: reg.ServerName}
	if !a.InhibitLogin {
		body.AccessToken, body.DeviceID, body.RefreshToken = c.AccessToken, c.DeviceID, c.RefreshToken
		body.ExpiresIn = c.ExpiresIn.Milliseconds()
	}
	return uia.Result{UserID: c.UserID, Body: body}, nil
}

// response is the 200 of POST /register. Old tools read home_server.
type response struct {
	UserID       string `json:"user_id"`
	HomeServer   string `json:"home_server"`
	AccessToken  string `json:"access_token,omitempty"`
	DeviceID     string `json:"device_id,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
	ExpiresIn    int64  `json:"expires_in_ms,omitempty"`
}

// AvailableHandler serves GET /register/available, on any path.
func (reg *Registration) AvailableHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			uia.MethodNotAllowed(w, r, "GET, HEAD")
			return
		}
		if err := reg.available(r); err != nil {
			uia.WriteError(w, err)
			return
		}
		uia.WriteJSON(w, http.StatusOK, struct {
			Available bool `json:"available"`
		}{true})
	})
}

func (reg *Registration) available(r *http.Request) error {
	if reg.disabled() {
		return errDisabled()
	}
	if reg.LimitAvailable != nil {
		if err := reg.LimitAvailable(r); err != nil {
			return err
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The query cannot be read.")
	}
	if !query.Has("username") {
		return refuse(http.StatusBadRequest, spec.ErrorMissingParam, "The query parameter username is missing.")
	}
	username := query.Get("username")
	if username == "" {
		return refuse(http.StatusBadRequest, spec.ErrorInvalidUsername, "The username is empty.")
	}
	if err := reg.checkUsername(username); err != nil {
		return err
	}
	return reg.Accounts.Available(r.Context(), username)
}
