package hs

import (
	"context"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// typedUser returns the user whom somebody means who has typed a localpart or a whole
// user ID, or ErrNotFound.
func (s *Server) typedUser(ctx context.Context, typed string) (User, error) {
	name := register.CanonicalLocalpart(typed)
	if id, whole := strings.CutPrefix(name, "@"); whole {
		localpart, server, _ := strings.Cut(id, ":")
		if server != strings.ToLower(s.name) {
			return User{}, ErrNotFound
		}
		name = localpart
	}
	return s.accounts.User(ctx, name)
}

// checkPassword refuses a password that no account can have, before it is hashed.
func checkPassword(password string) error {
	if len(password) > register.MaxPassword {
		return uia.NewError(http.StatusBadRequest, spec.InvalidParam("The password is too long"))
	}
	return nil
}

// checkDevice refuses a device that a client has described badly.
func checkDevice(d Device) error {
	if len(d.ID) > maxDeviceText || len(d.Name) > maxDeviceText || !isText(d.ID+d.Name) {
		return uia.NewError(http.StatusBadRequest, spec.InvalidParam("The device's ID or name is too long, or not text"))
	}
	return nil
}

// ValidLocalpart reports whether a new user of server may be called so.
func ValidLocalpart(localpart, server string) bool {
	const legal = "abcdefghijklmnopqrstuvwxyz0123456789._=-/+"
	return localpart != "" && len("@"+localpart+":"+server) <= 255 && strings.Trim(localpart, legal) == ""
}

// ValidServerName reports whether a server can be called so: a host name or an address,
// perhaps with a port.
func ValidServerName(name string) bool {
	_, _, ok := spec.ParseAndValidateServerName(spec.ServerName(name))
	return ok
}
