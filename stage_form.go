package uia

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/form"
)

// FallbackStage can be implemented by a Stage that brings a form to the page of
// package fallback, for clients that do not know its type. Without it the page of that
// type does not exist.
//
// What is submitted becomes auth data and goes through the stage's Attempt, like what a
// client sends: the page is not a second way to pass a stage.
type FallbackStage interface {
	Stage
	// Form returns what the page asks for. It is called when the page is opened,
	// and after each attempt that has not completed the stage. An *Error is shown
	// in place of a form.
	Form(ctx context.Context, s *Session, state form.State) (*form.Form, error)
	// FormAuth makes the auth data that Attempt gets, a JSON object, of what was
	// submitted: the fields of the form, each at most once and in valid UTF-8, any
	// of them perhaps missing or empty, and whatever else a stranger has sent
	// along. The text of an *Error is shown in the page, above the form.
	FormAuth(s *Session, values url.Values) (json.RawMessage, error)
}

var (
	_ FallbackStage = (*TokenStage)(nil)
	_ FallbackStage = DummyStage{}
)

// Form asks for the token.
func (t *TokenStage) Form(context.Context, *Session, form.State) (*form.Form, error) {
	return &form.Form{
		Heading: "Enter your registration token",
		Text:    "This server is open to people who have been given a token.",
		Fields: []form.Field{{
			Name: "token", Label: "Registration token",
			Hint: "Upper and lower case matter.",
		}},
		Submit: "Continue",
	}, nil
}

// FormAuth takes the token, without the white space that comes with copying it.
func (t *TokenStage) FormAuth(_ *Session, values url.Values) (json.RawMessage, error) {
	token := strings.TrimSpace(values.Get("token"))
	if token == "" {
		return nil, NewError(http.StatusBadRequest, spec.MissingParam("Please enter your registration token."))
	}
	return json.Marshal(map[string]string{"token": token})
}

// Form has nothing but a button.
func (DummyStage) Form(context.Context, *Session, form.State) (*form.Form, error) {
	return &form.Form{Heading: "One more step", Text: "Please confirm that you want to continue.", Submit: "Continue"}, nil
}

// FormAuth needs nothing.
func (DummyStage) FormAuth(*Session, url.Values) (json.RawMessage, error) {
	return json.RawMessage("{}"), nil
}
