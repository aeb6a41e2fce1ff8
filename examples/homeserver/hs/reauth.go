package hs

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/stages"
)

// The operations for which a user has to repeat the password. Their parameters are
// frozen: a session is good for what it was opened for and for nothing else.
const (
	opDeleteDevice   = "delete_device"
	opDeleteDevices  = "delete_devices"
	opChangePassword = "change_password"
	opDeactivate     = "deactivate"
	opSigningKeys    = "signing_keys"
)

// reauthOperations returns these operations.
func (s *Server) reauthOperations() []uia.Operation {
	password := []uia.Flow{{stages.PasswordType}}
	return []uia.Operation{
		{
			Name: opDeleteDevice, Flows: password,
			Describe: func(s *uia.Session, say form.Say) string {
				return say("sign {user} out on the device {device}", "user", s.Subject, "device", s.Target)
			},
		},
		{
			Name: opDeleteDevices, Flows: password, Remember: []string{"devices"}, Check: fields[deleteDevices],
			Describe: func(s *uia.Session, say form.Say) string {
				return say("sign {user} out on several devices", "user", s.Subject)
			},
		},
		{
			Name: opChangePassword, Flows: password, Remember: []string{"new_password", "logout_devices"}, Check: checkNewPassword,
			Describe: func(s *uia.Session, say form.Say) string {
				return say("change the password of {user}", "user", s.Subject)
			},
		},
		{
			Name: opDeactivate, Flows: password, Remember: []string{"erase", "id_server"},
			Describe: func(s *uia.Session, say form.Say) string {
				return say("delete the account {user} for ever", "user", s.Subject)
			},
		},
		{
			Name: opSigningKeys, Flows: password, Check: fields[SigningKeys],
			Describe: func(s *uia.Session, say form.Say) string {
				return say("replace the keys that sign the devices of {user}", "user", s.Subject)
			},
		},
	}
}

// checkNewPassword refuses before authentication what could not be a password.
func checkNewPassword(_ context.Context, s *uia.Session) error {
	p, err := parameters[changePassword](s)
	if err != nil {
		return err
	}
	return checkPassword(p.NewPassword)
}

// fields checks that the parameters have the types that T says.
func fields[T any](_ context.Context, s *uia.Session) error {
	_, err := parameters[T](s)
	return err
}

// parameters decodes the session's parameters.
func parameters[T any](s *uia.Session) (p T, err error) {
	if json.Unmarshal(s.Params, &p) != nil {
		err = uia.NewError(http.StatusBadRequest, spec.BadJSON("The body has not the form that this endpoint expects"))
	}
	return p, err
}

// passwordStage is the stage that these operations are guarded by. The engine
// charges its failures to the budget that logins draw on too.
func (s *Server) passwordStage() uia.Stage {
	return &stages.PasswordStage{Verify: func(ctx context.Context, id stages.Identifier, password string) (string, error) {
		if id.User == "" {
			return "", stages.ErrUnknownAddress // this homeserver keeps no addresses
		}
		user, err := s.verifyUser(ctx, id.User, password)
		if err != nil || user.Localpart == "" {
			return "", err
		}
		return s.userID(user.Localpart), nil
	}}
}

// guarded serves an operation for the user whose access token the request has, and
// answers with body when it is done; nil is {}.
func (s *Server) guarded(operation string, body any, run func(context.Context, Device, *uia.Session) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		caller, err := s.caller(r)
		if err != nil {
			s.writeError(w, r, err)
			return
		}
		c := uia.Caller{Operation: operation, Subject: s.userID(caller.Localpart), Target: r.PathValue("device")}
		s.engine.Serve(w, r, c, func(ctx context.Context, session *uia.Session) (uia.Effect, error) {
			return uia.Effect{UserID: session.Subject, Body: body}, run(ctx, caller, session)
		})
	}
}

func (s *Server) deleteDevice(ctx context.Context, caller Device, session *uia.Session) error {
	return s.dropDevice(ctx, caller.Localpart, session.Target)
}

// dropDevice deletes a device, if it is there.
func (s *Server) dropDevice(ctx context.Context, localpart, id string) error {
	if err := s.accounts.DeleteDevice(ctx, localpart, id); !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

type deleteDevices struct {
	Devices []string `json:"devices"`
}

func (s *Server) deleteDevices(ctx context.Context, caller Device, session *uia.Session) error {
	p, err := parameters[deleteDevices](session)
	if err != nil {
		return err
	}
	if p.Devices == nil {
		return uia.NewError(http.StatusBadRequest, spec.MissingParam("devices is missing"))
	}
	for _, id := range p.Devices {
		if err := s.dropDevice(ctx, caller.Localpart, id); err != nil {
			return err
		}
	}
	return nil
}

type changePassword struct {
	NewPassword   string `json:"new_password"`
	LogoutDevices *bool  `json:"logout_devices"` // nil means true
}

func (s *Server) changePassword(ctx context.Context, caller Device, session *uia.Session) error {
	p, err := parameters[changePassword](session)
	if err != nil {
		return err
	}
	if p.NewPassword == "" {
		return uia.NewError(http.StatusBadRequest, spec.MissingParam("new_password is missing"))
	}
	if err := s.keepsPassword(ctx, caller.Localpart); err != nil {
		return err
	}
	hash, err := s.passwords.Hash(ctx, p.NewPassword)
	if err != nil {
		return err
	}
	if err := s.accounts.SetPassword(ctx, caller.Localpart, hash); err != nil {
		return err
	}
	if p.LogoutDevices != nil && !*p.LogoutDevices {
		return nil
	}
	devices, err := s.accounts.Devices(ctx, caller.Localpart)
	for _, d := range devices {
		if d.ID != caller.ID && err == nil {
			err = s.dropDevice(ctx, caller.Localpart, d.ID)
		}
	}
	return err
}

// deactivate leaves an account without a password and devices, which nobody can
// log in to. Its name stays taken.
func (s *Server) deactivate(ctx context.Context, caller Device, _ *uia.Session) error {
	return errors.Join(s.accounts.SetPassword(ctx, caller.Localpart, ""), s.accounts.DeleteAllDevices(ctx, caller.Localpart))
}

// unbound is the answer to a deactivation: there were no addresses to be removed from
// an identity server. Some clients cannot read the answer without it.
var unbound = map[string]string{"id_server_unbind_result": "success"}
