package hs

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// registrar makes the accounts that package register asks for.
type registrar struct{ *Server }

var _ register.Accounts = registrar{}

// Available implements [register.Accounts].
func (s registrar) Available(ctx context.Context, r register.UsernameRequest) error {
	_, err := s.accounts.User(ctx, r.Localpart)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return errUserInUse()
}

func errUserInUse() error {
	return uia.NewError(http.StatusBadRequest, spec.UserInUse("That username is taken"))
}

// Create implements [register.Accounts]. Where there are transactions, ctx carries
// the one that spends the token and records the response: with them the user and
// the device are committed, or nothing is. So it may run more than once.
func (s registrar) Create(ctx context.Context, a register.Account) (register.Created, error) {
	user, err := s.createUser(ctx, a)
	if err != nil {
		return register.Created{}, err
	}
	created := register.Created{UserID: s.userID(user.Localpart)}
	if a.InhibitLogin {
		return created, nil
	}
	opened, err := s.openDevice(ctx, Device{Localpart: user.Localpart, ID: a.DeviceID, Name: a.DeviceName})
	created.DeviceID, created.AccessToken = opened.DeviceID, opened.AccessToken
	return created, err
}

// createUser makes the account, or finds the one that this registration has made
// already.
func (s registrar) createUser(ctx context.Context, a register.Account) (User, error) {
	user, err := s.accounts.CreateUser(ctx, User{Localpart: a.Localpart, Key: a.Key, PasswordHash: a.PasswordHash, Created: time.Now()})
	switch {
	case errors.Is(err, ErrTaken):
		return User{}, errUserInUse()
	case errors.Is(err, ErrBuried): // by resolve: this registration came too late
		return User{}, uia.NewError(http.StatusForbidden, spec.Forbidden("This registration has been given up, please start again"))
	}
	return user, err
}

// resolve tells whether the registration of this key has made an account. If it
// has not, it never will. With transactions nobody has to ask.
func (s registrar) resolve(ctx context.Context, key string) (uia.Outcome, error) {
	accounts, ok := s.accounts.(Burier)
	if !ok {
		return uia.Outcome{}, errors.New("hs: these accounts cannot tell what became of a registration")
	}
	user, err := accounts.Bury(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return uia.Outcome{}, nil
	}
	return uia.Outcome{Done: true, UserID: s.userID(user.Localpart)}, err
}
