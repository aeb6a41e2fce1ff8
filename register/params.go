package register

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// The greatest lengths, in bytes. That of a user ID is the specification's; the
// others keep what a stranger can have stored and hashed in bounds.
const (
	maxUserID     = 255
	maxPassword   = 512
	maxDeviceID   = 255
	maxDeviceName = 255
)

// params are the parameters of POST /register that this package knows.
type params struct {
	Username     string
	Password     string
	DeviceID     string
	DeviceName   string
	InhibitLogin bool
	RefreshToken bool
}

func readParams(s *uia.Session) (p params, err error) {
	for _, member := range []struct {
		name string
		into any
	}{
		{"username", &p.Username}, {"password", &p.Password}, {"device_id", &p.DeviceID},
		{"initial_device_display_name", &p.DeviceName}, {"inhibit_login", &p.InhibitLogin}, {"refresh_token", &p.RefreshToken},
	} {
		if _, err := s.Param(member.name, member.into); err != nil {
			return p, err
		}
	}
	for _, field := range []struct {
		name  string
		value string
		max   int
	}{
		{"password", p.Password, maxPassword},
		{"device_id", p.DeviceID, maxDeviceID},
		{"initial_device_display_name", p.DeviceName, maxDeviceName},
	} {
		if len(field.value) > field.max {
			return p, refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The member "+field.name+" is too long.")
		}
	}
	return p, nil
}

// check is the operation's Check: what the specification wants refused before
// authentication.
func (reg *Registration) check(ctx context.Context, s *uia.Session) error {
	p, err := readParams(s)
	if err != nil {
		return err
	}
	if p.Username == "" {
		return nil
	}
	if err := reg.checkUsername(p.Username); err != nil {
		return err
	}
	if _, err := pinned(s, p.Username); err != nil {
		return err
	}
	return reg.Accounts.Available(ctx, p.Username)
}

// checkUsername refuses what is no localpart of a user ID (Appendices, "User
// Identifiers"): 1 to 255 bytes with the rest of the ID, of a-z 0-9 . _ = - / +
func (reg *Registration) checkUsername(username string) error {
	if !localpart(username, "") {
		return refuse(http.StatusBadRequest, spec.ErrorInvalidUsername, "A username consists of "+grammar)
	}
	if len(username)+len(reg.ServerName)+len("@:") > maxUserID {
		return refuse(http.StatusBadRequest, spec.ErrorInvalidUsername, "The username is too long.")
	}
	return nil
}

// describe says what a session is about, for the fallback page.
func (reg *Registration) describe(s *uia.Session) string {
	var username string
	if ok, err := s.Param("username", &username); !ok || err != nil || username == "" || reg.checkUsername(username) != nil {
		return "create an account on " + reg.ServerName
	}
	return "create the account @" + username + ":" + reg.ServerName
}

// kind returns the handler of a request that is for no ordinary account: nil if
// it is for one. The kind of account stands in the query, and some clients put it
// into the body.
func (reg *Registration) kind(r *http.Request, body []byte) (http.Handler, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The query cannot be read.")
	}
	kind := query.Get("kind")
	var typ string
	// Most bodies have neither member and are not parsed here. One that hides the
	// name behind escapes is taken for an ordinary registration, which is stricter.
	if kind == "" && bytes.Contains(body, []byte(`"kind"`)) && json.Valid(body) {
		if _, err := uia.Field(body, "kind", &kind); err != nil {
			return nil, err
		}
	}
	if bytes.Contains(body, []byte("m.login.application_service")) {
		_, _ = uia.Field(body, "type", &typ) // for anything but a string it is none
	}
	switch {
	case typ == "m.login.application_service" && reg.AppService != nil:
		return reg.AppService, nil
	case typ == "m.login.application_service":
		return nil, refuse(http.StatusBadRequest, spec.ErrorUnrecognized, "Application services cannot register users here.")
	case kind == "guest" && reg.Guest != nil:
		return reg.Guest, nil
	case kind == "guest":
		return nil, refuse(http.StatusForbidden, spec.ErrorGuestAccessForbidden, "Guest access is not enabled on this homeserver.")
	case kind != "" && kind != "user":
		return nil, refuse(http.StatusBadRequest, spec.ErrorInvalidParam, "The kind of account is unknown.")
	}
	return nil, nil
}

func restoreBody(r *http.Request, body []byte) {
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.ContentLength = int64(len(body))
}
