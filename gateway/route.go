package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/internal/wire"
)

// destination is who serves a path.
type destination int

const (
	toUpstream destination = iota
	toRegister
	toAvailable
	toValidity
	toFallback
	toAdmin
	toServerVersion
	toSignup
	toAccount      // a password, or the end of an account
	toPasswordMail // by which somebody sets a new password
	refusedPath    // an upstream might understand it as registration
)

// route finds out who serves a path, which is decoded. Upstreams differ in which
// spellings of a path they understand: a path that an upstream could read as registration
// is not passed on, however it is spelled.
func route(p string) destination {
	p = path.Clean("/" + p)
	elements := strings.Split(p[1:], "/")
	switch {
	case p == "/register":
		return toSignup
	case p == uia.ValidityPath, p == uia.ValidityPathUnstable:
		return toValidity
	case p == admin.Path, strings.HasPrefix(p, admin.Path+"/"):
		return toAdmin
	case p == "/_synapse/admin/v1/server_version":
		return toServerVersion
	case len(elements) > 2 && elements[0] == "_matrix" && elements[1] == "client":
		return routeClient(elements[2:])
	case len(elements) > 3 && elements[0] == "_synapse" && elements[1] == "admin" && elements[3] == "register":
		return refusedPath
	}
	return toUpstream
}

// routeClient routes what follows /_matrix/client/.
func routeClient(e []string) destination {
	if e[0] == "api" { // the first versions were api/v1 and api/v2_alpha
		e = e[1:]
	}
	if len(e) > 1 && e[0] == "unstable" && e[1] != "register" && len(e) > 2 && e[2] == "register" {
		return refusedPath // of some proposal
	}
	if len(e) < 2 { // a version, and what is asked of it
		return toUpstream
	}
	switch rest := e[1:]; {
	case rest[0] == "register" && len(rest) == 1:
		return toRegister
	case rest[0] == "register" && len(rest) == 2 && rest[1] == "available":
		return toAvailable
	case rest[0] == "register":
		return refusedPath // requestToken: the upstream would send a mail for a flow that it does not see
	case rest[0] == "admin" && len(rest) > 1 && rest[1] == "register":
		return refusedPath
	case rest[0] == "account" && len(rest) == 2 && (rest[1] == "password" || rest[1] == "deactivate"):
		return toAccount
	case rest[0] == "account" && len(rest) > 2 && rest[1] == "password":
		return toPasswordMail
	case len(rest) == 4 && rest[0] == "auth" && rest[2] == "fallback" && rest[3] == "web":
		return toFallback
	}
	return toUpstream
}

// ours reports whether a fallback page is about one of the gateway's sessions. Those
// of other endpoints are the upstream's, but a registration token is asked for here
// alone.
func (h *Handler) ours(r *http.Request) bool {
	elements := strings.Split(path.Clean(r.URL.Path), "/")
	if isTokenStage(elements[len(elements)-3]) {
		return true
	}
	_, err := h.engine.Session(r.Context(), r.URL.Query().Get("session"))
	refusal, refused := errors.AsType[*uia.Error](err)
	return !refused || refusal.Status != http.StatusBadRequest // broken: its own page says so
}

func unrecognized(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		wire.MethodNotAllowed(w, r, "")
		return
	}
	uia.WriteError(w, r, nil, uia.NewError(http.StatusNotFound, spec.Unrecognized("Unrecognized request")))
}

// serverVersion answers administrators.
func serverVersion(version string, authorize func(*http.Request) (string, error), log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			wire.MethodNotAllowed(w, r, "GET, HEAD")
			return
		}
		if _, err := authorize(r); err != nil {
			uia.WriteError(w, r, log, fmt.Errorf("gateway: asking who may manage tokens: %w", err))
			return
		}
		uia.WriteJSON(w, r, log, http.StatusOK, map[string]string{"server_version": version})
	})
}
