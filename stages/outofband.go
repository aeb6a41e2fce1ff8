package stages

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/mistake"
)

// SSOType is the auth type of a single sign-on.
const SSOType = "m.login.sso"

// OutOfBandStage is a stage that is completed elsewhere: m.login.sso at an identity
// provider, or a confirmation in some other place. An attempt of the client changes
// nothing; [OutOfBandStage.Complete] completes the stage.
//
// The fallback page of the stage links to where it is completed. From there the
// host sends the browser back to the same page, which then tells the client.
type OutOfBandStage struct {
	// AuthType is the name of the stage. Empty means SSOType.
	AuthType string
	// URL returns where the user of this session completes the stage. The session's
	// ID must get there and back by other means than an address that is logged: in
	// a cookie, or sealed in the provider's state parameter. Required.
	URL func(ctx context.Context, s *uia.Session) (string, error)
	// Provider is what the page calls that place. Empty means "your provider".
	Provider string
}

var (
	_ uia.FallbackStage   = (*OutOfBandStage)(nil)
	_ uia.ConfiguredStage = (*OutOfBandStage)(nil)
)

// Configured reports what is required and missing.
func (o *OutOfBandStage) Configured() error { return mistake.Required("URL", o.URL != nil) }

// Type returns the AuthType.
func (o *OutOfBandStage) Type() string {
	if o.AuthType == "" {
		return SSOType
	}
	return o.AuthType
}

// Attempt asks the client to come back when the stage is completed.
func (o *OutOfBandStage) Attempt(context.Context, *uia.Session, json.RawMessage) (json.RawMessage, error) {
	return nil, &uia.Continue{}
}

// OutOfBandResult is what a completed OutOfBandStage leaves in the session.
type OutOfBandResult struct {
	UserID string `json:"user_id"` // who the user has turned out to be
}

// OutOfBandOf returns what the session's stage of this auth type left, such as SSOType,
// and false if it is not completed.
func OutOfBandOf(s *uia.Session, authType string) (OutOfBandResult, bool) {
	return resultOf[OutOfBandResult](s, authType)
}

// Complete completes the stage for the session, as userID, whom the provider has
// authenticated just now. If the session has a Subject, any other user is 403
// M_FORBIDDEN. The error is an *uia.Error.
func (o *OutOfBandStage) Complete(ctx context.Context, e *uia.Engine, session, userID string) error {
	s, err := e.Session(ctx, session)
	if err != nil {
		return err
	}
	if userID == "" || s.Subject != "" && s.Subject != userID {
		return uia.NewError(http.StatusForbidden, spec.Forbidden("The session belongs to another user."))
	}
	result, err := json.Marshal(OutOfBandResult{userID})
	if err != nil {
		return err
	}
	return e.Complete(ctx, uia.Completion{Session: session, Type: o.Type(), Result: result})
}

// Form links to where the stage is completed.
func (o *OutOfBandStage) Form(ctx context.Context, s *uia.Session, state form.State) (*form.Form, error) {
	target, err := o.URL(ctx, s)
	if err != nil {
		return nil, err
	}
	provider := o.Provider
	if provider == "" {
		provider = state.Text("your provider")
	}
	return &form.Form{
		Heading: state.Text("Confirm with {provider}", "provider", provider),
		Text:    "You will be asked to sign in there once more.",
		Link:    &form.Link{Text: state.Text("Continue with {provider}", "provider", provider), URL: target},
	}, nil
}

// FormAuth returns empty auth data: the form has no fields.
func (o *OutOfBandStage) FormAuth(*uia.Session, url.Values) (json.RawMessage, error) {
	return object(nil)
}
