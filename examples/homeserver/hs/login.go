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
	device := Device{ID: req.DeviceID, Name: req.DeviceName}
	if err := errors.Join(checkDevice(device), checkPassword(req.Password)); err != nil {
		return nil, err // before it costs a hash
	}
	user, err := s.authenticate(r, name, req.Password)
	if err != nil {
		return nil, err
	}
	device.Localpart = user.Localpart
	return s.openDevice(r.Context(), device)
}

// authenticate returns the user of this name, a localpart or a whole user ID,
// if the password is right. A wrong one draws on the same budget as a wrong
// registration token.
func (s *Server) authenticate(r *http.Request, name, password string) (User, error) {
	ctx := r.Context()
	settle := func(failed bool) {}
	if s.limiter != nil {
		var err error
		if settle, err = s.limiter.Charge(ctx, s.client(r)); err != nil {
			if _, spent := errors.AsType[*uia.LimitError](err); spent {
				s.observe(ctx, uia.Event{Kind: uia.EventLimitHit, Client: s.client(r)})
			}
			return User{}, err
		}
	}
	defer settle(false)
	user, err := s.verifyUser(ctx, name, password)
	if err != nil {
		return User{}, err
	}
	if user.Localpart == "" {
		settle(true)
		s.guessed(r, "login", stages.PasswordType)
		return User{}, uia.NewError(http.StatusForbidden, spec.Forbidden("Invalid username or password"))
	}
	return user, nil
}

// guessed tells the audit log and the metrics of a wrong guess that the engine does not
// see.
func (s *Server) guessed(r *http.Request, operation, stage string) {
	s.observe(r.Context(), uia.Event{
		Kind: uia.EventStageFailed, Operation: operation, Stage: stage, Client: s.client(r), ErrCode: spec.ErrorForbidden,
	})
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

// openDevice logs a device in, which checkDevice has found good. An empty ID is made
// up.
func (s *Server) openDevice(ctx context.Context, d Device) (session, error) {
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
