package restauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/passwords"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/stages"
)

// Options are the options of [NewAccounts].
type Options struct {
	// Store keeps the accounts. Required.
	Store AccountStore
	// Homeserver is the homeserver that asks a handler of NewHandler. Required.
	Homeserver *gateway.Client
	// ServerName is the part of user IDs behind the colon. Required.
	ServerName string
	// Secrets are uia.Config's. Required.
	Secrets uia.Secrets
	// Passwords hashes passwords. Nil means passwords.New(nil).
	Passwords *passwords.Hasher
	// CheckPassword refuses new passwords that are too weak, with an *uia.Error, when a
	// user changes the password: register.Registration's, usually. Nil takes what this
	// package's CheckPassword takes, which is asked in any case.
	CheckPassword func(ctx context.Context, password string) error
	// Logger gets what goes wrong. Nil discards it. It never sees a password.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}

// Accounts are accounts that are kept here, beside the homeserver: the Accounts of a
// register.Registration, whose HashPassword is [Accounts.HashPassword] and whose Resolve is
// [Accounts.Resolve]. The homeserver makes its own user at the first login. It is safe for
// concurrent use.
type Accounts struct {
	store         AccountStore
	homeserver    *gateway.Client
	serverName    string
	tickets       tickets
	hasher        *passwords.Hasher
	checkPassword func(context.Context, string) error
	asking        chan struct{}
	log           *slog.Logger
	now           func() time.Time
}

var _ register.Accounts = (*Accounts)(nil)

// maxNames is how many requests at once ask the homeserver whether a name is free.
const maxNames = 16

// NewAccounts returns an Accounts, or every mistake in its options at once.
func NewAccounts(o Options) (*Accounts, error) {
	var mistakes []error
	required := func(name string, there bool) {
		if !there {
			mistakes = append(mistakes, errors.New("restauth: Options."+name+" is required"))
		}
	}
	required("Store", o.Store != nil)
	required("Homeserver", o.Homeserver != nil)
	required("ServerName", o.ServerName != "")
	required("Secrets", o.Secrets != nil)
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	a := &Accounts{
		store: o.Store, homeserver: o.Homeserver, serverName: o.ServerName, hasher: o.Passwords,
		checkPassword: o.CheckPassword, asking: make(chan struct{}, maxNames), log: o.Logger, now: o.Now,
	}
	if a.hasher == nil {
		a.hasher = passwords.New(nil)
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.tickets = newTickets(o.Secrets, a.now)
	return a, nil
}

var (
	errInUse   = uia.NewError(http.StatusBadRequest, spec.UserInUse("That username is taken."))
	errGivenUp = uia.NewError(http.StatusForbidden, spec.Forbidden("This registration has been given up. Please start again."))
)

// CheckPassword refuses a password that no account can have: of more than
// register.MaxPassword bytes, or with a NUL, behind which some programs read no further.
func CheckPassword(_ context.Context, password string) error {
	if len(password) > register.MaxPassword || strings.Contains(password, "\x00") {
		return uia.NewError(http.StatusBadRequest, spec.InvalidParam("This password cannot be used here."))
	}
	return nil
}

// HashPassword is for register.Registration.HashPassword.
func (a *Accounts) HashPassword(ctx context.Context, password string) (string, error) {
	if err := CheckPassword(ctx, password); err != nil {
		return "", err
	}
	hash, err := a.hasher.Hash(ctx, password)
	if errors.Is(err, passwords.ErrBusy) {
		err = unavailable("Too many passwords are being looked at. Please try again in a moment.", err)
	}
	return hash, err
}

// Available implements register.Accounts: a name that exists at the homeserver is in use,
// whoever has it. If the homeserver refuses to say so (429), the registration goes on:
// Create asks again.
func (a *Accounts) Available(ctx context.Context, r register.UsernameRequest) error {
	if _, err := a.store.Find(ctx, r.Localpart); err == nil {
		return errInUse
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	default:
		return nil
	}
	err := a.free(ctx, r.Localpart)
	if e, ok := errors.AsType[*uia.Error](err); ok && e.Status == http.StatusTooManyRequests {
		return nil
	}
	return err
}

// free returns nil if the homeserver has no user of this name, and otherwise an
// *uia.Error. A user whom it has could be logged in to with the password of an account
// that is made here.
func (a *Accounts) free(ctx context.Context, localpart string) error {
	err := a.homeserver.NameFree(ctx, localpart, a.serverName)
	if _, refused := errors.AsType[*uia.Error](err); err != nil && !refused {
		err = unavailable("The homeserver does not answer. Please try again in a moment.", err)
	}
	return err
}

// Create implements register.Accounts. If an earlier run of the registration has made the
// account, it gets the password of this one.
func (a *Accounts) Create(ctx context.Context, acc register.Account) (register.Created, error) {
	if acc.Password == "" {
		return register.Created{}, uia.NewError(http.StatusBadRequest, spec.MissingParam("A password is needed."))
	}
	made, err := a.make(ctx, acc)
	if err != nil {
		return register.Created{}, err
	}
	out := register.Created{UserID: userID(made.Localpart, a.serverName)}
	if acc.InhibitLogin {
		return out, nil
	}
	login, err := a.login(ctx, made, acc)
	if err != nil { // the account is there
		return out, undecided("The account was made, but the homeserver does not log it in yet. Please try again in a moment.", err)
	}
	out.DeviceID, out.AccessToken = login.DeviceID, login.AccessToken
	out.RefreshToken, out.ExpiresIn = login.RefreshToken, login.ExpiresIn
	return out, nil
}

// make makes the account, or finds the one that this registration has made already.
func (a *Accounts) make(ctx context.Context, acc register.Account) (Account, error) {
	want := Account{Key: acc.Key, Localpart: acc.Localpart, Hash: acc.PasswordHash, Created: a.now()}
	if acc.Session != nil {
		want.Run = acc.Session.Run
	}
	_, err := a.store.Made(ctx, acc.Key)
	if errors.Is(err, ErrNotFound) { // an account of ours may have its user there already
		err = a.free(ctx, acc.Localpart)
	}
	if err == nil && want.Hash == "" {
		want.Hash, err = a.HashPassword(ctx, acc.Password)
	}
	if err == nil {
		want, err = a.store.Create(ctx, want)
	}
	switch {
	case errors.Is(err, ErrTaken):
		err = errInUse
	case errors.Is(err, ErrBuried):
		err = errGivenUp
	case err == nil && want.State != Active:
		err = errors.New("restauth: the account was deactivated while it was being registered")
	}
	return want, err
}

// login logs the new account in at the homeserver, with a ticket.
func (a *Accounts) login(ctx context.Context, made Account, acc register.Account) (*gateway.Login, error) {
	id := userID(made.Localpart, a.serverName)
	ticket, err := a.tickets.issue(ctx, id)
	if err != nil {
		return nil, err
	}
	order := gateway.Order{
		Localpart: made.Localpart, Password: ticket, DeviceID: acc.DeviceID, DeviceName: acc.DeviceName, RefreshToken: acc.RefreshToken,
	}
	if acc.Session != nil {
		order.Client = acc.Session.Client
	}
	if order.DeviceID == "" {
		order.DeviceID = newDeviceID()
	}
	login, err := a.homeserver.Login(ctx, order)
	switch {
	case errors.Is(err, gateway.ErrWrongPassword):
		return nil, errors.New("restauth: the homeserver refuses a new account: it does not ask this service for passwords, or is not called " + a.serverName)
	case err == nil && login.UserID != "" && login.UserID != id:
		return nil, fmt.Errorf("restauth: the homeserver logs in another user than %s", id)
	}
	return login, err
}

// undecided is the error of an operation that has been done in part, and has to be done
// again: it may be.
func undecided(text string, err error) error {
	if e, ok := errors.AsType[*uia.Error](err); ok && e.Status == http.StatusTooManyRequests {
		return uia.Undecided(e)
	} else if ok {
		err = errors.New(e.Error()) // as an *uia.Error it would say that nothing was done
	}
	return uia.Undecided(&uia.Error{
		Status: http.StatusServiceUnavailable, RetryAfter: retryAfter, MatrixError: spec.Unknown(text), Cause: err,
	})
}

// retryAfter is after how long a client should ask again.
const retryAfter = 5 * time.Second

// Resolve is the Resolve of a register.Registration. It is certain: the accounts are here.
// A client that comes back for an account whose response was lost is logged in once more.
func (a *Accounts) Resolve(ctx context.Context, key string) (uia.Outcome, error) {
	made, err := a.store.Bury(ctx, key)
	switch {
	case errors.Is(err, ErrBuried):
		return uia.Outcome{}, nil
	case err != nil:
		return uia.Outcome{}, err
	}
	return uia.Outcome{Done: true, UserID: userID(made.Localpart, a.serverName), Again: true}, nil
}

// Verify is a [Verify], for NewHandler and for the PasswordStage of the engine that guards
// [Accounts.Operations]. It takes one hash for every user and every password that an
// account can have.
func (a *Accounts) Verify(ctx context.Context, id stages.Identifier, password string) (string, error) {
	if id.User == "" {
		return "", stages.ErrUnknownAddress // no addresses are kept here
	}
	localpart := register.CanonicalLocalpart(id.User)
	if strings.HasPrefix(localpart, "@") {
		localpart, _ = localpartOf(localpart, strings.ToLower(a.serverName))
	}
	if localpart == "" || !possible(password) {
		return "", nil
	}
	found, err := a.store.Find(ctx, localpart)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", err
	}
	user := userID(localpart, a.serverName)
	if found.State == Active {
		if ok, err := a.tickets.good(ctx, user, password); err != nil || ok {
			return user, err
		}
	}
	right, err := a.hasher.Verify(ctx, found.Hash, password)
	if err != nil || !right || found.State != Active {
		return "", err
	}
	return user, nil
}
