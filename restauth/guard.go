package restauth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/stages"
)

// The operations of [Accounts.Operations].
const (
	opPassword   = "account_password"
	opDeactivate = "account_deactivate"
)

func newDeviceID() string { return rand.Text()[:10] }

// Operations are those for which a user has to repeat the password: to change it, and to
// deactivate the account. They belong into uia.Config.Operations, beside the
// registration's, with a stages.PasswordStage whose Verify is [Accounts.Verify] in
// uia.Config.Stages.
func (a *Accounts) Operations() []uia.Operation {
	password := []uia.Flow{{stages.PasswordType}}
	return []uia.Operation{{
		Name: opPassword, Flows: password, Remember: []string{"new_password", "logout_devices"},
		Check: func(ctx context.Context, s *uia.Session) error {
			p, err := readChange(s)
			if err == nil && p.NewPassword != "" {
				err = a.checkNew(ctx, p.NewPassword)
			}
			return err
		},
		Describe: func(s *uia.Session, say form.Say) string {
			return say("change the password of {user}", "user", s.Subject)
		},
	}, {
		Name: opDeactivate, Flows: password, Remember: []string{"erase", "id_server"},
		Check: func(_ context.Context, s *uia.Session) error {
			_, err := readDeactivation(s)
			return err
		},
		Describe: func(s *uia.Session, say form.Say) string {
			return say("delete the account {user} for ever", "user", s.Subject)
		},
	}}
}

// checkNew refuses a new password that is not good enough.
func (a *Accounts) checkNew(ctx context.Context, password string) error {
	err := CheckPassword(ctx, password)
	if err == nil && a.checkPassword != nil {
		err = a.checkPassword(ctx, password)
	}
	return err
}

// Guard returns what serves /account/password and /account/deactivate in place of the
// homeserver, for gateway.Options.Account: a homeserver that is asked itself would change
// a password of its own, and the old one would go on being right here. Users whose
// accounts are not kept here are passed on to the next handler. The engine has to have the
// Operations.
func (a *Accounts) Guard(e *uia.Engine) (func(next http.Handler) http.Handler, error) {
	if e == nil {
		return nil, errors.New("restauth: the engine is nil")
	}
	if !e.HasOperation(opPassword) || !e.HasOperation(opDeactivate) {
		return nil, errors.New("restauth: the engine has not the operations of Accounts.Operations")
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.guard(w, r, e, next) })
	}, nil
}

func (a *Accounts) guard(w http.ResponseWriter, r *http.Request, e *uia.Engine, next http.Handler) {
	operation, run := opPassword, a.changePassword
	if path.Base(path.Clean(r.URL.Path)) == "deactivate" {
		operation, run = opDeactivate, a.deactivate
	}
	if r.Method != http.MethodPost {
		wire.MethodNotAllowed(w, r, http.MethodPost)
		return
	}
	asker, ours, err := a.asker(r)
	switch {
	case err != nil:
		e.WriteError(w, r, err)
		return
	case !ours:
		next.ServeHTTP(w, r)
		return
	}
	e.Serve(w, r, uia.Caller{Operation: operation, Subject: asker.UserID}, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
		body, err := run(ctx, asker, s)
		return uia.Effect{UserID: asker.UserID, Body: body}, err
	})
}

// asker returns the user who has sent a request, and whether the account is kept here.
func (a *Accounts) asker(r *http.Request) (gateway.Asker, bool, error) {
	asker, err := a.homeserver.Asker(r)
	if err != nil {
		if _, refused := errors.AsType[*uia.Error](err); !refused {
			err = unavailable("The homeserver does not answer. Please try again in a moment.", err)
		}
		return asker, false, err
	}
	localpart, here := localpartOf(asker.UserID, a.serverName)
	if !here {
		return asker, false, nil
	}
	found, err := a.store.Find(r.Context(), localpart)
	switch {
	case errors.Is(err, ErrNotFound):
		return asker, false, nil
	case err == nil && found.State != Active:
		err = uia.NewError(http.StatusForbidden, spec.MatrixError{ErrCode: "M_USER_DEACTIVATED", Err: "This account has been deactivated."})
	}
	return asker, true, err
}

type change struct {
	NewPassword   string `json:"new_password"`
	LogoutDevices *bool  `json:"logout_devices"` // nil means true
}

// readChange reads the parameters of a new password.
func readChange(s *uia.Session) (p change, err error) {
	err = readParams(s, &p)
	return p, err
}

type deactivation struct {
	Erase    *bool           `json:"erase"`
	IDServer json.RawMessage `json:"id_server"`
}

// readDeactivation reads the parameters of a deactivation.
func readDeactivation(s *uia.Session) (p deactivation, err error) {
	err = readParams(s, &p)
	return p, err
}

func readParams(s *uia.Session, into any) error {
	if len(s.Params) > 0 && json.Unmarshal(s.Params, into) != nil {
		return uia.NewError(http.StatusBadRequest, spec.BadJSON("The body has not the form that this endpoint expects."))
	}
	return nil
}

// changePassword can be repeated: whatever of it is done already is done again.
func (a *Accounts) changePassword(ctx context.Context, asker gateway.Asker, s *uia.Session) (any, error) {
	p, err := readChange(s)
	switch {
	case err != nil:
		return nil, err
	case p.NewPassword == "":
		return nil, missing("new_password")
	}
	if err := a.checkNew(ctx, p.NewPassword); err != nil {
		return nil, err
	}
	hash, err := a.HashPassword(ctx, p.NewPassword)
	if err != nil {
		return nil, err
	}
	localpart, _ := localpartOf(asker.UserID, a.serverName)
	if err := a.store.SetPassword(ctx, localpart, hash); err != nil {
		return nil, fmt.Errorf("restauth: changing a password: %w", err)
	}
	if p.LogoutDevices != nil && !*p.LogoutDevices {
		return nil, nil
	}
	ticket, err := a.tickets.issue(ctx, asker.UserID)
	if err == nil {
		err = a.homeserver.SignOutOthers(ctx, asker, ticket)
	}
	if err != nil {
		return nil, undecided("The password was changed, but other devices are not signed out yet. Please try again in a moment.", err)
	}
	return nil, nil
}

// deactivate ends the account at the homeserver first: what fails there leaves the account
// as it is, and the user can try again. A user whom the homeserver has deactivated is not
// logged in by it any more, whatever this service says of the password.
func (a *Accounts) deactivate(ctx context.Context, asker gateway.Asker, s *uia.Session) (any, error) {
	p, err := readDeactivation(s)
	if err != nil {
		return nil, err
	}
	ticket, err := a.tickets.issue(ctx, asker.UserID)
	if err != nil {
		return nil, err
	}
	params := map[string]any{}
	if p.Erase != nil {
		params["erase"] = *p.Erase
	}
	if len(p.IDServer) > 0 {
		params["id_server"] = p.IDServer
	}
	body, err := a.homeserver.Deactivate(ctx, asker, ticket, params)
	if err != nil {
		return nil, undecided("The homeserver has not deactivated the account yet. Please try again in a moment.", err)
	}
	localpart, _ := localpartOf(asker.UserID, a.serverName)
	return body, a.store.Deactivate(ctx, localpart)
}
