package hs

import (
	"cmp"

	"github.com/matrix-uia/uia/signup"
)

// inviteURL returns the link that admins and members hand out; "" if there is none.
func (o Options) inviteURL() string {
	if o.InviteURL == "" && o.BaseURL != "" {
		return signup.InviteURL(o.BaseURL + signup.Path)
	}
	return o.InviteURL
}

// routeSignup lays out the page on which an invite link ends.
func (s *Server) routeSignup(opts Options) error {
	page, err := signup.New(signup.Options{
		Engine:       s.engine,
		Registration: s.registration,
		Pages:        s.pages,
		Tokens:       opts.Storage.Tokens,
		Secrets:      opts.Storage.Secrets,
		Homeserver:   cmp.Or(opts.Address, opts.BaseURL, s.name),
		ShowCreator:  true, // members invite their friends
		QR:           drawQR,
	})
	if err != nil {
		return err
	}
	s.router.add("", signup.Path, page)
	return nil
}
