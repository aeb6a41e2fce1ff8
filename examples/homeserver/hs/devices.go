package hs

import (
	"errors"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// device is a device as its owner sees it.
type device struct {
	ID   string `json:"device_id"`
	Name string `json:"display_name,omitempty"`
}

func (s *Server) listDevices(r *http.Request, caller Device) (any, error) {
	all, err := s.accounts.Devices(r.Context(), caller.Localpart)
	list := make([]device, len(all))
	for i, d := range all {
		list[i] = device{d.ID, d.Name}
	}
	return map[string]any{"devices": list}, err
}

func (s *Server) getDevice(r *http.Request, caller Device) (any, error) {
	all, err := s.accounts.Devices(r.Context(), caller.Localpart)
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if d.ID == r.PathValue("device") {
			return device{d.ID, d.Name}, nil
		}
	}
	return nil, errNoDevice
}

var errNoDevice = uia.NewError(http.StatusNotFound, spec.NotFound("There is no such device"))

// putDevice gives a device another name.
func (s *Server) putDevice(r *http.Request, caller Device) (any, error) {
	var req struct {
		Name *string `json:"display_name"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if req.Name == nil { // there is nothing else that could be changed
		_, err := s.getDevice(r, caller)
		return struct{}{}, err
	}
	if err := checkDevice(Device{Name: *req.Name}); err != nil {
		return nil, err
	}
	err := s.accounts.RenameDevice(r.Context(), caller.Localpart, r.PathValue("device"), *req.Name)
	if errors.Is(err, ErrNotFound) {
		err = errNoDevice
	}
	return struct{}{}, err
}
