package register

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/wire"
)

// AvailableHandler serves GET /register/available, on any path. The engine has to have
// the registration's Operation.
func (reg *Registration) AvailableHandler(e *uia.Engine) (http.Handler, error) {
	if err := reg.on(e); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			wire.MethodNotAllowed(w, r, "GET, HEAD")
			return
		}
		if err := reg.available(r, e); err != nil {
			e.WriteError(w, r, e.Refuse(r.Context(), uia.Request{Operation: OperationName}, fmt.Errorf("register: whether a username is available: %w", err)))
			return
		}
		e.WriteJSON(w, r, http.StatusOK, struct {
			Available bool `json:"available"`
		}{true})
	}), nil
}

func (reg *Registration) available(r *http.Request, e *uia.Engine) error {
	if reg.disabled() {
		return errDisabled()
	}
	req, err := e.Request(r, uia.Caller{Operation: OperationName})
	if err != nil {
		return err
	}
	if err := reg.limitAvailable(r.Context(), req.Client); err != nil {
		return err
	}
	query := r.URL.Query()
	if !query.Has("username") {
		return refuse(http.StatusBadRequest, spec.ErrorMissingParam, "The query parameter username is missing.")
	}
	// Ask about the name that a registration would get, so that both endpoints give the
	// same answer.
	username := CanonicalLocalpart(query.Get("username"))
	if err := reg.checkGrammar(username); err != nil {
		return err
	}
	if err := reg.checkReserved(username); err != nil {
		return err
	}
	if err := reg.checkPolicy(r.Context(), UsernameRequest{Localpart: username, Client: req.Client}); err != nil {
		return err
	}
	return reg.Accounts.Available(r.Context(), username)
}

// limitAvailable asks the host whether this client may ask about one more name.
func (reg *Registration) limitAvailable(ctx context.Context, client netip.Addr) error {
	if reg.LimitAvailable == nil {
		return nil
	}
	return reg.LimitAvailable(ctx, client)
}
