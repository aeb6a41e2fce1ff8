// Package form describes what a page asks a user for, and not how the page looks: a stage
// makes the form, and package fallback shows it.
package form

import "encoding/json"

// Form is what the fallback page asks for. All text in it is escaped.
type Form struct {
	Heading string // for example "Enter your registration token"
	Text    string // a sentence or two below the heading; may be empty
	Fields  []Field
	Link    *Link   // to continue elsewhere; nil for none
	Widget  *Widget // an element filled by a script of a third party; nil for none
	Submit  string  // what the button says; empty for no button
	// Sources are added to the page's Content-Security-Policy: by directive
	// ("script-src", "frame-src", "style-src", "connect-src", "img-src"), origins
	// with or without a path ("https://captcha.example/api/"). Anything else in it
	// is ignored: a stage cannot weaken the rest of the policy.
	Sources map[string][]string
}

// Field is one field of a form.
type Field struct {
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
	Links []Link
}

// Link is a link of a form.
type Link struct {
	Text string
	URL  string // only https, http and mailto are linked to
	Lang string // the language of the document that it leads to; may be empty
}

// Widget is an element that a script fills: how the providers of captchas work.
type Widget struct {
	Script  string // the script's URL; it needs an entry in Form.Sources
	Class   string // the element's class
	SiteKey string // its data-sitekey
}

// State is what a uia.FallbackStage may want to know when it makes its form.
type State struct {
	// Languages are the user's, most preferred first, as the browser sends them:
	// "fr-CA", "fr", "en".
	Languages []string
	// Extra is what the attempt just made has returned in a *uia.Continue; nil if it
	// has not. A Form that depends on it is the stage's next step.
	Extra map[string]json.RawMessage
}
