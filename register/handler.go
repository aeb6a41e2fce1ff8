package register

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
)

// Handler serves POST /register, on any path. Mount it without a filter of methods: it
// answers OPTIONS with the CORS headers, and other methods in the standard error format.
// The engine has to have the registration's Operation.
func (reg *Registration) Handler(e *uia.Engine) (http.Handler, error) {
	if err := reg.on(e); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			wire.MethodNotAllowed(w, r, "POST")
			return
		}
		response, other, err := reg.register(r, e)
		switch {
		case err != nil:
			e.WriteError(w, r, err)
		case other != nil:
			other.ServeHTTP(w, r)
		default:
			e.WriteJSON(w, r, http.StatusOK, response)
		}
	}), nil
}

// maxBody is how long a body may be, in bytes. No client sends as much, and a stranger's
// costs in proportion to its length. Config.MaxBody may be less.
const maxBody = 12 << 10

func checkLength(body []byte) error {
	if len(body) > maxBody {
		return refuse(http.StatusRequestEntityTooLarge, wire.CodeTooLarge, "The request body is too large.")
	}
	return nil
}

// register returns the response of a registration, or the handler that the request is for.
func (reg *Registration) register(r *http.Request, e *uia.Engine) (response json.RawMessage, other http.Handler, err error) {
	caller, err := reg.caller(r)
	if err != nil {
		return nil, nil, e.Refuse(r.Context(), uia.Request{Operation: OperationName}, err)
	}
	req, err := e.Request(r, caller)
	if err == nil {
		err = checkLength(req.Body)
	}
	switch {
	case err == nil && appService(req.Body):
		if other = reg.AppService; other == nil {
			err = refuse(http.StatusBadRequest, spec.ErrorUnrecognized, "Application services cannot register users here.")
		}
	case reg.disabled(r):
		err = errDisabled()
	case err == nil:
		other, err = reg.kind(r, req.Body)
	}
	if err != nil {
		return nil, nil, e.Refuse(r.Context(), req, err)
	}
	if other != nil {
		restoreBody(r, req.Body)
		return nil, other, nil
	}
	response, err = reg.authenticated(r, e, req)
	return response, nil, err
}

func (reg *Registration) authenticated(r *http.Request, e *uia.Engine, req uia.Request) (json.RawMessage, error) {
	grant, err := e.Authenticate(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return grant.Finish(r.Context(), func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		return reg.create(ctx, s, r)
	})
}

// Register registers an ordinary account for a page of the homeserver's own: it does what
// POST /register does with this body, and returns the response. r is the request for the
// page, of which no body is read, and client who has sent it. The error is an
// *uia.Challenge or an *uia.Error, as the engine's Authenticate and Finish return it. The
// engine has to have the registration's Operation.
func (reg *Registration) Register(r *http.Request, e *uia.Engine, client netip.Addr, body []byte) (json.RawMessage, error) {
	caller, err := reg.caller(r)
	req := uia.Request{Operation: OperationName, Subject: caller.Subject, Target: caller.Target, Client: client, Body: body}
	switch {
	case err != nil:
	case reg.disabled(r):
		err = errDisabled()
	default:
		err = checkLength(body)
	}
	if err != nil {
		return nil, e.Refuse(r.Context(), req, err)
	}
	return reg.authenticated(r, e, req)
}

// account returns what the session asks for.
func (reg *Registration) account(ctx context.Context, s *uia.Session) (Account, error) {
	p, err := readParams(s)
	if err != nil {
		return Account{}, err
	}
	a := Account{
		Key: s.Key, Password: p.Password, DeviceID: p.DeviceID, DeviceName: p.DeviceName,
		InhibitLogin: p.InhibitLogin, RefreshToken: p.RefreshToken, ServerName: reg.serverName(s), Session: s,
	}
	if reg.GuestAvailable != nil {
		a.GuestToken = p.GuestToken
	}
	if p.Password == "" && !reg.AllowNoPassword {
		return a, refuse(http.StatusBadRequest, spec.ErrorMissingParam, "A password is required.")
	}
	if err := reg.checkPassword(ctx, p.Password); err != nil {
		return a, err
	}
	if a.Localpart, err = reg.chooseName(ctx, s, p); err != nil {
		return a, err
	}
	if p.Password != "" && reg.HashPassword != nil {
		a.PasswordHash, err = reg.HashPassword(ctx, p.Password)
	}
	return a, err
}

// create is the guarded operation.
func (reg *Registration) create(ctx context.Context, s *uia.Session, r *http.Request) (uia.Effect, error) {
	a := s.Prepared.(Account)
	a.Request = r
	c, err := reg.Accounts.Create(ctx, a)
	if err != nil {
		return uia.Effect{}, err
	}
	body := response{UserID: c.UserID, HomeServer: a.ServerName}
	if !a.InhibitLogin {
		body.AccessToken, body.DeviceID, body.RefreshToken = c.AccessToken, c.DeviceID, c.RefreshToken
		body.ExpiresIn = c.ExpiresIn.Milliseconds()
	}
	return uia.Effect{UserID: c.UserID, Body: body}, nil
}

// response is the 200 of POST /register. Old tools read home_server.
type response struct {
	UserID       string `json:"user_id"`
	HomeServer   string `json:"home_server"`
	AccessToken  string `json:"access_token,omitempty"`
	DeviceID     string `json:"device_id,omitempty"`
	RefreshToken string `json:"refresh_token,omitempty"`
	ExpiresIn    int64  `json:"expires_in_ms,omitempty"`
}
