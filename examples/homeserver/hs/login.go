package hs

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// session is what a client gets that has registered or logged in.
type session struct {
	UserID      string `json:"user_id"`
	AccessToken string `json:"access_token"`
	HomeServer  string `json:"home_server"` // deprecated, and still read by old admin tools
	DeviceID    string `json:"device_id"`
}

// maxDeviceText is how long a device's ID and its name may be, in bytes.
const maxDeviceText = 255

func (s *Server) loginFlows(*http.Request) (any, error) {
	type flow struct {
		Type string `json:"type"`
	}
	return map[string][]flow{"flows": {{Type: "m.login.password"}}}, nil
}

func (s *Server) login(r *http.Request) (any, error) {
	var req struct {
		Type       string
		Identifier struct{ Type, User string }
		User       string // how identifiers were sent before there were several types
		Password   string
		DeviceID   string `json:"device_id"`
		DeviceName string `json:"initial_device_display_name"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	name := req.Identifier.User
	switch {
	case req.Type != "m.login.password":
		return nil, uia.NewError(http.StatusBadRequest, spec.Unknown("Unknown login type"))
	case req.Identifier.Type == "":
		name = req.User
	case req.Identifier.Type != "m.id.user":
		return nil, uia.NewError(http.StatusBadRequest, spec.Unknown("Unknown login identifier type"))
	}
	if name == "" || req.Password == "" {
		return nil, uia.NewError(http.StatusBadRequest, spec.MissingParam("A user and a password are needed"))
	}
	user, err := s.checkPassword(r, name, req.Password)
	if err != nil {
		return nil, err
	}
	return s.openDevice(r.Context(), Device{Localpart: user.Localpart, ID: req.DeviceID, Name: req.DeviceName})
}

// checkPassword returns the user of this name, a localpart or a whole user ID,
// if the password is right. A wrong one draws on the same budget as a wrong
// registration token.
func (s *Server) checkPassword(r *http.Request, name, password string) (User, error) {
	ctx := r.Context()
	settle := func(failed bool) {}
	if s.limiter != nil {
		var err error
		if settle, err = s.limiter.Charge(ctx, s.client(r)); err != nil {
			return User{}, limitError(err)
		}
	}
	defer settle(false)
	user, err := s.verifyUser(ctx, name, password)
	if err != nil {
		return User{}, err
	}
	if user.Localpart == "" {
		settle(true)
		return User{}, uia.NewError(http.StatusForbidden, spec.Forbidden("Invalid username or password"))
	}
	return user, nil
}

// limitError makes the answer for a budget that is spent.
func limitError(err error) error {
	limit, ok := errors.AsType[*uia.LimitError](err)
	if !ok {
		return err
	}
	return &uia.Error{Status: http.StatusTooManyRequests, RetryAfter: limit.RetryAfter,
		MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "Too many failed attempts"}}
}

// findUser returns the user of this name, a localpart or a whole user ID.
func (s *Server) findUser(ctx context.Context, name string) (User, error) {
	if id, ok := strings.CutPrefix(name, "@"); ok {
		localpart, server, _ := strings.Cut(id, ":")
		if server != s.name {
			return User{}, ErrNotFound
		}
		name = localpart
	}
	return s.accounts.User(ctx, name)
}

// checkDevice refuses a device that a client has described badly.
func checkDevice(d Device) error {
	if len(d.ID) > maxDeviceText || len(d.Name) > maxDeviceText || !isText(d.ID+d.Name) {
		return uia.NewError(http.StatusBadRequest, spec.InvalidParam("The device's ID or name is too long, or not text"))
	}
	return nil
}

// openDevice logs a device in. An empty ID is made up.
func (s *Server) openDevice(ctx context.Context, d Device) (session, error) {
	if err := checkDevice(d); err != nil {
		return session{}, err
	}
	if d.ID == "" {
		d.ID = newDeviceID()
	}
	token, digest := newAccessToken()
	d.Token, d.Created = digest, time.Now()
	if err := s.accounts.PutDevice(ctx, d); err != nil {
		return session{}, err
	}
	return session{UserID: s.userID(d.Localpart), AccessToken: token, HomeServer: s.name, DeviceID: d.ID}, nil
}

func (s *Server) userID(localpart string) string { return "@" + localpart + ":" + s.name }

func (s *Server) whoami(_ *http.Request, caller Device) (any, error) {
	return map[string]any{"user_id": s.userID(caller.Localpart), "device_id": caller.ID, "is_guest": false}, nil
}

func (s *Server) logout(r *http.Request, caller Device) (any, error) {
	err := s.accounts.DeleteDevice(r.Context(), caller.Localpart, caller.ID)
	if err != nil && !errors.Is(err, ErrNotFound) { // another logout was faster
		return nil, err
	}
	return struct{}{}, nil
}

func (s *Server) logoutAll(r *http.Request, caller Device) (any, error) {
	return struct{}{}, s.accounts.DeleteAllDevices(r.Context(), caller.Localpart)
}
