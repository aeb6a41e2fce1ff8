package hs

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/stages"
)

// elsewhere stands in User.PasswordHash for a password that the service of
// Options.AccountsURL knows.
const elsewhere = "elsewhere"

// verifyUser returns the user of this name, a localpart or a whole user ID, if the
// password is right, and otherwise the zero User. Logins and the password stage both ask
// it.
//
// A user who is kept here is never asked about elsewhere: nobody takes the account over by
// having the same name there.
func (s *Server) verifyUser(ctx context.Context, name, password string) (User, error) {
	user, err := s.typedUser(ctx, name)
	unknown := errors.Is(err, ErrNotFound)
	if err != nil && !unknown {
		return User{}, err
	}
	away := user.PasswordHash == elsewhere
	if s.service != nil && (unknown || away) {
		return s.verifyElsewhere(ctx, name, password)
	}
	if away {
		user.PasswordHash = "" // nobody knows it any more
	}
	right, err := s.passwords.Verify(ctx, user.PasswordHash, password)
	if err != nil || !right {
		return User{}, err
	}
	return user, nil
}

// verifyElsewhere asks the service. A user who is logged in for the first time is made
// here.
func (s *Server) verifyElsewhere(ctx context.Context, name, password string) (User, error) {
	id, err := s.service.Verify(ctx, stages.Identifier{User: name}, password)
	if err != nil || id == "" {
		return User{}, err
	}
	localpart, _, _ := strings.Cut(strings.TrimPrefix(id, "@"), ":")
	if !ValidLocalpart(localpart, s.name) {
		return User{}, nil
	}
	user, err := s.accounts.User(ctx, localpart)
	if errors.Is(err, ErrNotFound) {
		user, err = s.accounts.CreateUser(ctx, User{Localpart: localpart, PasswordHash: elsewhere, Created: time.Now()})
	}
	if errors.Is(err, ErrTaken) { // meanwhile
		user, err = s.accounts.User(ctx, localpart)
	}
	if err != nil || user.PasswordHash != elsewhere {
		return User{}, err
	}
	return user, nil
}

// keepsPassword refuses to set the password of a user whose password is kept elsewhere: the
// old one would go on being right.
func (s *Server) keepsPassword(ctx context.Context, localpart string) error {
	user, err := s.accounts.User(ctx, localpart)
	if err == nil && user.PasswordHash == elsewhere {
		err = uia.NewError(http.StatusForbidden, spec.Forbidden("The password of this account is kept by another service"))
	}
	return err
}
