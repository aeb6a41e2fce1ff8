package hs

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// welcome is for a person who opens the address in a browser.
func (s *Server) welcome(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	fmt.Fprintf(w, `This is %s, a Matrix homeserver for experiments with registration.
It has no rooms. To register or to log in, give this address to a Matrix client.
`, s.name)
}

// profile is what web interfaces for administrators show of the user who has logged in.
func (s *Server) profile(r *http.Request, _ Device) (any, error) {
	user, err := s.findUser(r.Context(), r.PathValue("user"))
	if errors.Is(err, ErrNotFound) {
		return nil, uia.NewError(http.StatusNotFound, spec.NotFound("There is no such user here"))
	}
	return map[string]string{"displayname": user.Localpart}, err
}

// versions lists the old versions too: some clients refuse a server that names
// only recent ones.
func (s *Server) versions(*http.Request) (any, error) {
	return map[string]any{
		"versions": []string{"r0.5.0", "r0.6.0", "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7",
			"v1.8", "v1.9", "v1.10", "v1.11", "v1.12"},
		"unstable_features": map[string]bool{},
	}, nil
}

func (s *Server) wellKnown(r *http.Request) (any, error) {
	base := s.baseURL
	if base == "" {
		base = "http://" + r.Host
		if r.TLS != nil {
			base = "https://" + r.Host
		}
	}
	return map[string]any{"m.homeserver": map[string]string{"base_url": base}}, nil
}

func (s *Server) capabilities(*http.Request, Device) (any, error) {
	enabled, disabled := map[string]bool{"enabled": true}, map[string]bool{"enabled": false}
	return map[string]any{"capabilities": map[string]any{
		"m.change_password": enabled,
		"m.set_displayname": disabled,
		"m.set_avatar_url":  disabled,
		"m.3pid_changes":    disabled,
		"m.room_versions":   map[string]any{"default": "11", "available": map[string]string{"11": "stable"}},
	}}, nil
}
