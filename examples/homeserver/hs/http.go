package hs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// maxBody is how many bytes of a request are read at most.
const maxBody = 64 << 10

// answer is an endpoint: what it returns is written as JSON.
type answer func(*http.Request) (any, error)

func (s *Server) handle(a answer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := a(r)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		uia.WriteJSON(w, r, s.log, http.StatusOK, body)
	}
}

// handleAs is handle for endpoints that need an access token.
func (s *Server) handleAs(a func(*http.Request, Device) (any, error)) http.HandlerFunc {
	return s.handle(func(r *http.Request) (any, error) {
		caller, err := s.caller(r)
		if err != nil {
			return nil, err
		}
		return a(r, caller)
	})
}

// caller returns the device that the request's access token belongs to.
func (s *Server) caller(r *http.Request) (Device, error) {
	scheme, token, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") {
		token = r.URL.Query().Get("access_token")
	}
	if token == "" {
		return Device{}, uia.NewError(http.StatusUnauthorized, spec.MissingToken("Missing access token"))
	}
	device, err := s.accounts.DeviceByToken(r.Context(), digestToken(token))
	if errors.Is(err, ErrNotFound) {
		return Device{}, uia.NewError(http.StatusUnauthorized, spec.UnknownToken("Unknown access token"))
	}
	return device, err
}

// writeError writes err, and logs what the client is not told, unless the client has
// hung up.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	s.engine.WriteError(w, r, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err))
}

func tooLarge(message string) error {
	return uia.NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: "M_TOO_LARGE", Err: message})
}

// readJSON decodes the body of r. The Content-Type does not matter.
func readJSON(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	switch {
	case err != nil:
		return uia.NewError(http.StatusBadRequest, spec.NotJSON("The body could not be read"))
	case len(body) > maxBody:
		return tooLarge("The body is too large")
	case !utf8.Valid(body) || !json.Valid(body):
		return uia.NewError(http.StatusBadRequest, spec.NotJSON("The body is not JSON"))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return uia.NewError(http.StatusBadRequest, spec.BadJSON("The body has not the form that this endpoint expects"))
	}
	return nil
}
