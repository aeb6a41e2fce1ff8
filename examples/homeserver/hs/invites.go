package hs

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/invites"
)

// maxInviteUses is how many accounts one invitation of a member is good for.
const maxInviteUses = 10

// routeInvites lays out where members invite others. Server admins have the quota of
// everybody else here: they make any number of tokens where they administer them.
func (s *Server) routeInvites(opts Options) error {
	if opts.Invites <= 0 {
		return nil
	}
	store, ok := opts.Storage.Tokens.(uia.InviteStore)
	if !ok {
		return fmt.Errorf("hs: members cannot invite: %T does not know who has invited whom", opts.Storage.Tokens)
	}
	quota := func(context.Context, string) (invites.Quota, error) {
		return invites.Quota{Live: opts.Invites, Uses: maxInviteUses}, nil
	}
	i, err := invites.New(store, s.member, quota, &invites.Options{
		CheckMeta: s.registration.CheckMeta,
		InviteURL: opts.inviteURL(),
		Secrets:   opts.Storage.Secrets,
		Observer:  s.observe,
		Logger:    s.log,
	})
	if err != nil {
		return err
	}
	s.router.add("", invites.Path, i.Handler())
	s.router.add("", invites.Path+"/", i.Handler())
	page, err := i.Page(s.pages, s.browser)
	if err != nil {
		return err
	}
	s.router.add("", invites.PagePath, asksBrowser(page))
	return nil
}

// asksBrowser has browsers ask for a name and a password. They send them with every
// request from then on: that the page can take, which the API must not.
func asksBrowser(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Basic realm="invitations", charset="UTF-8"`) // counts with 401 alone
		h.ServeHTTP(w, r)
	})
}

// browser returns the ID of the user whose name and password a browser has sent.
func (s *Server) browser(r *http.Request) (string, error) {
	name, password, ok := r.BasicAuth()
	if !ok || name == "" || password == "" {
		return "", uia.NewError(http.StatusUnauthorized, spec.MissingToken("Sign in with your name and your password."))
	}
	if err := checkPassword(password); err != nil {
		return "", err
	}
	user, err := s.authenticate(r, name, password)
	if refusal, ok := errors.AsType[*uia.Error](err); ok && refusal.Status == http.StatusForbidden {
		again := *refusal
		again.Status = http.StatusUnauthorized // or the browser does not ask again
		return "", &again
	}
	if err != nil {
		return "", err
	}
	return s.userID(user.Localpart), nil
}

// member returns the ID of the user whose access token r carries.
func (s *Server) member(r *http.Request) (string, error) {
	caller, err := s.caller(r)
	if err != nil {
		return "", err
	}
	return s.userID(caller.Localpart), nil
}
