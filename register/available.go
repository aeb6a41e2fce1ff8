package register

import (
	"cmp"
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
	caller, err := reg.caller(r)
	if err != nil {
		return err
	}
	if reg.disabled(r) {
		return errDisabled()
	}
	req, err := e.Request(r, caller)
	if err != nil {
		return err
	}
	query := r.URL.Query()
	if !query.Has("username") {
		if err := reg.limitAvailable(r.Context(), req.Client); err != nil {
			return err
		}
		return refuse(http.StatusBadRequest, spec.ErrorMissingParam, "The query parameter username is missing.")
	}
	return reg.Available(r, req.Client, query.Get("username"))
}

// Available returns nil if somebody could register with what they have typed as their
// username, and otherwise why not: what GET /register/available answers, for a page of the
// homeserver's own. r is the request for the page, of which no body is read, and client who
// has sent it; LimitAvailable may refuse.
func (reg *Registration) Available(r *http.Request, client netip.Addr, typed string) error {
	caller, err := reg.caller(r)
	if err != nil {
		return err
	}
	if reg.disabled(r) {
		return errDisabled()
	}
	if err := reg.limitAvailable(r.Context(), client); err != nil {
		return err
	}
	// Ask about the name that a registration would get, so that both endpoints give the
	// same answer.
	asked := UsernameRequest{Localpart: CanonicalLocalpart(typed), ServerName: cmp.Or(caller.Target, reg.ServerName), Client: client}
	if err := reg.checkGrammar(asked.Localpart, asked.ServerName); err != nil {
		return err
	}
	if err := reg.checkReserved(asked.Localpart); err != nil {
		return err
	}
	if err := reg.checkPolicy(r.Context(), asked); err != nil {
		return err
	}
	return reg.Accounts.Available(r.Context(), asked)
}

// limitAvailable asks the host whether this client may ask about one more name.
func (reg *Registration) limitAvailable(ctx context.Context, client netip.Addr) error {
	if reg.LimitAvailable == nil {
		return nil
	}
	return reg.LimitAvailable(ctx, client)
}
