package uia

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// FallbackStage can be implemented by a Stage that brings a form to the fallback
// page, for clients that do not know its type. Without it the page of that type
// does not exist.
//
// What is submitted becomes auth data and goes through the stage's Attempt, like
// what a client sends: a page is no second way to pass a stage.
type FallbackStage interface {
	Stage
	// Form returns what the page asks for. It is called when the page is opened,
	// and after each attempt that has not completed the stage. An *Error is shown
	// in place of a form.
	Form(ctx context.Context, s *Session, state FormState) (*Form, error)
	// FormAuth makes the auth data that Attempt gets, a JSON object, of what was
	// submitted: the fields of the form, each at most once and in valid UTF-8, any
	// of them perhaps missing or empty, and whatever else a stranger has sent
	// along. The text of an *Error is shown in the page, above the form.
	FormAuth(s *Session, values url.Values) (json.RawMessage, error)
}

// FormState is what a FallbackStage may want to know when it makes its form.
type FormState struct {
	// Languages are the user's, most preferred first, as the browser sends them:
	// "fr-CA", "fr", "en".
	Languages []string
	// Extra is what the attempt just made has returned in a *Continue; nil if it
	// has not. A Form that depends on it is the stage's next step.
	Extra map[string]json.RawMessage
}

// Form is what the fallback page asks for. All text in it is escaped.
type Form struct {
	Heading string // for example "Enter your registration token"
	Text    string // a sentence or two below the heading; may be empty
	Fields  []FormField
	Link    *FormLink   // to continue elsewhere; nil for none
	Widget  *FormWidget // of somebody else's making; nil for none
	Submit  string      // what the button says; empty for no button
	// Sources are added to the page's Content-Security-Policy: by directive
	// ("script-src", "frame-src", "style-src", "connect-src", "img-src"), origins
	// with or without a path ("https://captcha.example/api/"). Anything else in it
	// is ignored: a stage cannot weaken the rest of the policy.
	Sources map[string][]string
}

// FormField is one field of a form.
type FormField struct {
	Name  string
	Label string
	Hint  string // a sentence below the field; may be empty
	// Type is "text", "password", "email", "checkbox" or "hidden". Empty means
	// "text".
	Type string
	// Value is shown at first. What the user has typed replaces it when the page is
	// shown again, except in a password field.
	Value string
	// Autocomplete is for password managers, for example "current-password". Empty
	// means "off".
	Autocomplete string
	// Links stand below a checkbox: the documents that ticking it is about.
	Links []FormLink
}

// FormLink is a link of a form.
type FormLink struct {
	Text string
	URL  string // only https, http and mailto are linked to
	Lang string // the language of what it leads to; may be empty
}

// FormWidget is an element that a script fills: how the providers of captchas work.
type FormWidget struct {
	Script  string // the script's URL; it needs an entry in Form.Sources
	Class   string // the element's class
	SiteKey string // its data-sitekey
}

var (
	_ FallbackStage = (*TokenStage)(nil)
	_ FallbackStage = DummyStage{}
)

// Form asks for the token.
func (t *TokenStage) Form(context.Context, *Session, FormState) (*Form, error) {
	return &Form{
		Heading: "Enter your registration token",
		Text:    "This server is open to people who have been given a token.",
		Fields: []FormField{{
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
func (DummyStage) Form(context.Context, *Session, FormState) (*Form, error) {
	return &Form{Heading: "One more step", Text: "Please confirm that you want to continue.", Submit: "Continue"}, nil
}

// FormAuth needs nothing.
func (DummyStage) FormAuth(*Session, url.Values) (json.RawMessage, error) {
	return json.RawMessage("{}"), nil
}
