package register

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// MaxPassword is how long a password can be, in bytes: it bounds how much a stranger can
// make the homeserver hash. A homeserver should apply the same bound wherever a password
// is set.
const MaxPassword = 512

// The greatest lengths, in bytes. That of a user ID is the specification's; the
// others keep what a stranger can have stored in bounds.
const (
	maxUserID     = 255
	maxDeviceID   = 255
	maxDeviceName = 255
)

// params are the parameters of POST /register that this package knows.
type params struct {
	Username     string // in the form in which an account would have it: see CanonicalLocalpart
	Password     string
	DeviceID     string
	DeviceName   string
	InhibitLogin bool
	RefreshToken bool
	GuestToken   string
}

// remembered are the names of these parameters in a request.
var remembered = []string{
	"username", "password", "device_id", "initial_device_display_name", "inhibit_login", "refresh_token", "guest_access_token",
}

// readParams reads the session's parameters, and refuses those with which no
// account can be made.
func readParams(s *uia.Session) (p params, err error) {
	if err := uia.Fields(s.Params, map[string]any{
		"username": &p.Username, "password": &p.Password, "device_id": &p.DeviceID,
		"initial_device_display_name": &p.DeviceName, "inhibit_login": (*flag)(&p.InhibitLogin),
		"refresh_token": (*flag)(&p.RefreshToken), "guest_access_token": &p.GuestToken,
	}); err != nil {
		return p, err
	}
	p.Username = CanonicalLocalpart(p.Username)
	for _, field := range []struct {
		name  string
		value string
		max   int
	}{
		{"password", p.Password, MaxPassword},
		{"device_id", p.DeviceID, maxDeviceID},
		{"initial_device_display_name", p.DeviceName, maxDeviceName},
	} {
		if len(field.value) > field.max {
			return p, refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The member "+field.name+" is too long.")
		}
	}
	// PostgreSQL has no room for a NUL in a text. A password is hashed, and may have one.
	if strings.Contains(p.DeviceID+p.DeviceName, "\x00") {
		return p, refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The device's ID or name has a NUL in it.")
	}
	return p, nil
}

// flag is a boolean, which some old tools send as a string.
type flag bool

// UnmarshalJSON implements [json.Unmarshaler].
func (f *flag) UnmarshalJSON(raw []byte) error {
	switch string(raw) {
	case `"true"`:
		*f = true
		return nil
	case `"false"`:
		*f = false
		return nil
	}
	return json.Unmarshal(raw, (*bool)(f))
}

// check is the operation's Check. It refuses what the specification wants refused before
// authentication, and what would be refused later anyway.
func (reg *Registration) check(ctx context.Context, s *uia.Session) error {
	p, err := readParams(s)
	if err != nil {
		return err
	}
	if p.Username != "" {
		if err := reg.checkName(ctx, s, p, p.Username); err != nil {
			return err
		}
	}
	return reg.checkPassword(ctx, p.Password)
}

// admit is the operation's Admit: it refuses a name or an e-mail address that the
// session's token is not for, and a pinned name that a client could not ask for.
func (reg *Registration) admit(ctx context.Context, s *uia.Session) error {
	p, err := readParams(s)
	if err != nil {
		return err
	}
	if err := admitEmail(s); err != nil {
		return err
	}
	name, err := pinned(s, p.Username)
	switch {
	case err != nil && p.Username == "":
		return nil // the pin wants a name, and the client may bring one later
	case err != nil:
		return err
	case p.Username == "" && name != "":
		return reg.checkName(ctx, s, p, name)
	}
	return nil
}

// checkPassword refuses a password that is not good enough. An absent password is not
// refused: the client may send it later.
func (reg *Registration) checkPassword(ctx context.Context, password string) error {
	if password == "" || reg.CheckPassword == nil {
		return nil
	}
	return reg.CheckPassword(ctx, password)
}
