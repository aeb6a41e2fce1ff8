// Package form describes what a page asks a user for, and not how the page looks: a stage
// makes the form, and package fallback shows it.
package form

import (
	"encoding/json"
	"strings"
)

// Form is what the fallback page asks for. All text in it is escaped.
type Form struct {
	Heading string // for example "Enter your registration token"
	Text    string // a sentence or two below the heading; may be empty
	Fields  []Field
	Link    *Link   // to continue elsewhere; nil for none
	Widget  *Widget // an element filled by a script of a third party; nil for none
	Submit  string  // what the button says; empty for no button
	Get     bool    // the fields go into the address, and nothing is changed
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
	// means "off". A password field that is "new-password" is shown how good the password
	// is, where there is script.
	Autocomplete string
	Error        string // what is wrong with what was typed; empty if nothing is known to be
	ReadOnly     bool   // it is shown and sent, and cannot be changed
	Optional     bool   // it may be left empty
	MinLength    int    // in characters; zero for no bound
	MaxLength    int    // in characters; zero for no bound
	// Check is an address of the same origin to which the value is appended, escaped, and
	// which answers {"good": bool, "text": what to show}. Where there is script, it is asked
	// while the user types. Empty means none.
	Check string
	// Links stand below a checkbox: the documents that ticking it is about.
	Links []Link
}

// Link is a link of a form.
type Link struct {
	Text string
	URL  string // only https, http and mailto are linked to
	Lang string // the language of the document that it leads to; may be empty
	// Apart opens the link beside the page, which stays: in another tab.
	Apart bool
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
	// Translate returns a text of package catalog in the user's language, and any other
	// text as it is. Nil translates nothing.
	Translate func(english string) string
}

// Text returns a text in the user's language, with its placeholders filled as [Fill] does.
// Texts of a Form that have no placeholders need not go through it: the page looks each of
// them up.
func (s State) Text(english string, values ...string) string {
	if s.Translate != nil {
		english = s.Translate(english)
	}
	return Fill(english, values...)
}

// Say says something in the language of a user: a text of package catalog, with its
// placeholders filled as [Fill] does. Fill itself says it in English.
type Say func(english string, values ...string) string

// Fill puts values into the placeholders of a text, such as {name}. values are names and
// values by turns. What is put in is not looked at again.
func Fill(text string, values ...string) string {
	if len(values) == 0 {
		return text
	}
	pairs := make([]string, len(values))
	for i, v := range values {
		if i%2 == 0 {
			v = "{" + v + "}"
		}
		pairs[i] = v
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
