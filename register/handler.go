package register

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
)

// Handler serves POST /register, on any path. The engine has to have the registration's
// Operation.
func (reg *Registration) Handler(e *uia.Engine) (http.Handler, error) {
	if err := reg.on(e); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			wire.MethodNotAllowed(w, r, "POST")
			return
		}
		response, err := reg.serve(w, r, e)
		switch {
		case err != nil:
			e.WriteError(w, r, err)
		case response != nil:
			e.WriteJSON(w, r, http.StatusOK, response)
		}
	}), nil
}

// maxBody is how long a body may be, in bytes. No client sends as much, and a stranger's
// costs in proportion to its length. Config.MaxBody may be less.
const maxBody = 12 << 10

// serve returns nothing if another handler has answered.
func (reg *Registration) serve(w http.ResponseWriter, r *http.Request, e *uia.Engine) (json.RawMessage, error) {
	req, err := e.Request(r, uia.Caller{Operation: OperationName})
	if err == nil && len(req.Body) > maxBody {
		err = uia.NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: wire.CodeTooLarge, Err: "The request body is too large."})
	}
	var other http.Handler
	switch {
	case err == nil && appService(req.Body):
		if other = reg.AppService; other == nil {
			err = refuse(http.StatusBadRequest, spec.ErrorUnrecognized, "Application services cannot register users here.")
		}
	case reg.disabled():
		err = errDisabled()
	case err == nil:
		other, err = reg.kind(r, req.Body)
	}
	if err != nil {
		return nil, e.Refuse(r.Context(), req, err)
	}
	if other != nil {
		restoreBody(r, req.Body)
		other.ServeHTTP(w, r)
		return nil, nil
	}
	grant, err := e.Authenticate(r.Context(), req)
	if err != nil {
		return nil, err
	}
	return grant.Finish(r.Context(), reg.create)
}

// account returns what the session asks for.
func (reg *Registration) account(ctx context.Context, s *uia.Session) (Account, error) {
	p, err := readParams(s)
	if err != nil {
		return Account{}, err
	}
	a := Account{
		Key: s.Key, Password: p.Password, DeviceID: p.DeviceID, DeviceName: p.DeviceName,
		InhibitLogin: p.InhibitLogin, RefreshToken: p.RefreshToken, Session: s,
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
func (reg *Registration) create(ctx context.Context, s *uia.Session) (uia.Effect, error) {
	a := s.Prepared.(Account)
	c, err := reg.Accounts.Create(ctx, a)
	if err != nil {
		return uia.Effect{}, err
	}
	body := response{UserID: c.UserID, HomeServer: reg.ServerName}
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
