package stages

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/mistake"
)

// PasswordType is the auth type of [PasswordStage].
const PasswordType = "m.login.password"

// PasswordStage is m.login.password: it passes for the password of the session's
// Subject, and for nobody else's. An operation without a Subject cannot be
// guarded by it.
//
// A wrong password is 401 M_FORBIDDEN. Another user's credentials, and a third
// party's address that is nobody's, are 403 M_FORBIDDEN.
type PasswordStage struct {
	// Verify returns the user ID of the account that the identifier names if this
	// is its password, and "" if it is not, or if there is no such user. It should
	// take the same time for both. ErrUnknownAddress says that nobody has the
	// identifier's Address. Required.
	Verify func(ctx context.Context, id Identifier, password string) (userID string, err error)
}

// ErrUnknownAddress is returned by PasswordStage.Verify: the homeserver does not
// know the third-party address.
var ErrUnknownAddress = errors.New("stages: nobody has this address")

// Identifier says who somebody claims to be: by User, or by Medium and Address.
type Identifier struct {
	User    string // a user ID or its localpart, as it was typed, without white space around it
	Medium  string // "email", "msisdn"
	Address string
}

var (
	_ uia.FallbackStage   = (*PasswordStage)(nil)
	_ uia.ConfiguredStage = (*PasswordStage)(nil)
)

// Configured reports what is required and missing.
func (p *PasswordStage) Configured() error { return mistake.Required("Verify", p.Verify != nil) }

// Type returns PasswordType.
func (*PasswordStage) Type() string { return PasswordType }

var (
	errWrongPassword = uia.NewError(http.StatusUnauthorized, spec.Forbidden("The password is not correct."))
	errOtherUser     = uia.NewError(http.StatusForbidden, spec.Forbidden("These are not the credentials of the user whose session this is."))
	errIdentifier    = uia.NewError(http.StatusBadRequest, spec.InvalidParam("The type of identifier is not supported."))
)

// Attempt verifies identifier and password.
func (p *PasswordStage) Attempt(ctx context.Context, s *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	id, err := identifier(auth)
	if err != nil {
		return nil, err
	}
	var password string
	if ok, err := uia.Field(auth, "password", &password); err != nil {
		return nil, err
	} else if !ok {
		return nil, missing("password")
	}
	// Only the password of the session's own user is verified, so a stolen access token
	// does not help in guessing the passwords of others.
	if s.Subject == "" || id.User != "" && !strings.EqualFold(id.User, s.Subject) && !strings.EqualFold(id.User, localpart(s.Subject)) {
		return nil, errOtherUser
	}
	user, err := p.Verify(ctx, id, password)
	switch {
	case errors.Is(err, ErrUnknownAddress):
		return nil, uia.NewError(http.StatusForbidden, spec.Forbidden("Nobody here has this address."))
	case err != nil:
		return nil, err
	case user == "":
		return nil, errWrongPassword
	case user != s.Subject:
		return nil, errOtherUser
	}
	return nil, nil
}

// identifier reads who the client says the user is. The flat members are older than
// identifiers; some clients send both.
func identifier(auth json.RawMessage) (id Identifier, err error) {
	var nested json.RawMessage
	from, kind := auth, ""
	if ok, err := uia.Field(auth, "identifier", &nested); err != nil {
		return id, err
	} else if ok {
		if nested[0] != '{' {
			return id, uia.NewError(http.StatusBadRequest, spec.BadJSON("The member identifier is not an object."))
		}
		from = nested
		if ok, err := uia.Field(from, "type", &kind); err != nil {
			return id, err
		} else if !ok {
			return id, missing("identifier.type")
		}
	}
	for name, into := range map[string]*string{"user": &id.User, "medium": &id.Medium, "address": &id.Address} {
		if _, err := uia.Field(from, name, into); err != nil {
			return id, err
		}
		*into = strings.TrimSpace(*into) // the keyboards of phones add a space
	}
	switch {
	case kind != "" && kind != "m.id.user" && kind != "m.id.thirdparty":
		return id, errIdentifier
	case kind != "m.id.thirdparty" && id.User != "":
		return Identifier{User: id.User}, nil
	case kind != "m.id.user" && id.Medium != "" && id.Address != "":
		return Identifier{Medium: id.Medium, Address: id.Address}, nil
	}
	return id, missing("identifier")
}

// Form asks for the password of the session's user.
func (p *PasswordStage) Form(_ context.Context, s *uia.Session, state form.State) (*form.Form, error) {
	return &form.Form{
		Heading: "Enter your password",
		Text:    state.Text("It has to be the password of {user}.", "user", s.Subject),
		Fields:  []form.Field{{Name: "password", Label: "Password", Type: "password", Autocomplete: "current-password"}},
		Submit:  "Continue",
	}, nil
}

// FormAuth makes auth data of the password and the session's user.
func (p *PasswordStage) FormAuth(s *uia.Session, values url.Values) (json.RawMessage, error) {
	password := values.Get("password")
	if password == "" {
		return nil, enter("Please enter your password.")
	}
	return object(map[string]any{
		"identifier": map[string]string{"type": "m.id.user", "user": s.Subject},
		"password":   password,
	})
}
