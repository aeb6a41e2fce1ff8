package hs

import (
	"context"
	"fmt"
	"net/http"

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
	return nil
}

// member returns the ID of the user whose access token r carries.
func (s *Server) member(r *http.Request) (string, error) {
	caller, err := s.caller(r)
	if err != nil {
		return "", err
	}
	return s.userID(caller.Localpart), nil
}
