package fallback

import (
	_ "embed"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/form"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS template.CSS

//go:embed page.js
var pageJS template.JS

// pageScript is what the specification prescribes for a completed stage. The
// redirect, where there is one, comes after it.
const pageScript template.JS = `
if (window.onAuthDone) {
    window.onAuthDone();
} else if (window.opener && window.opener.postMessage) {
    window.opener.postMessage("authDone", "*");
}
var next = document.getElementById("redirect");
if (next) {
    window.location.replace(next.href);
}
`

// Page is what the template of the page is executed with.
type Page struct {
	Title   string // Options.Title
	Heading string
	Text    string // may be empty
	// Action is what the session authorises, of uia.Operation.Describe. Empty where
	// the session is not known.
	Action string
	// Error says why the attempt has failed or, if there is no Form, why the page cannot
	// be used any more. Empty if nothing is wrong.
	Error string
	// Detail is what the error says in English, where Error is a translation that says
	// less. May be empty.
	Detail string
	Note   string     // something to know, which is no error; may be empty
	Form   *form.Form // nil if there is nothing to ask
	Done   bool       // the stage is completed, or everything is
	// Quiet says that no app waits for a page that is Done: it has no Script.
	Quiet bool
	// Facts are values to be copied. Image is a picture with its description, below them:
	// see [PNG]. Apps are links below that.
	Facts    []Fact
	Image    template.URL
	ImageAlt string
	Apps     []App
	Closing  string // a last paragraph; may be empty
	// Multilingual offers the page in the other languages, by links that repeat the query
	// of the request: not for a query with a secret that should not be in the page.
	Multilingual bool
	// Redirect leads back to the client. Empty if it is not to be linked to.
	Redirect template.URL
	// Style is the style sheet of this package. Script tells the client that the
	// stage is completed, and then follows the link with the id "redirect". Help is the
	// script that makes forms more comfortable.
	Style  template.CSS
	Script template.JS
	Help   template.JS
	// These are set by this package: the language of the page (BCP 47) and the direction
	// in which it is written, links to the same page in other languages, and what the
	// Look says.
	Lang, Dir string
	Languages []OtherLanguage
	Logo      template.URL
	Links     []form.Link

	language *catalog.Language
}

// Fact is a value that the user may want to copy.
type Fact struct {
	Label, Value string
	Button       *Button // beside it; nil for none
}

// Button posts its fields, which are hidden, to the address that the page has.
type Button struct {
	Text   string
	Fields []form.Field
}

// App is a link to an app, with a word on it.
type App struct {
	Name, Text string
	URL        string // only https and http are linked to; empty for no link
}

// Pointed reports whether a field of the form has an error of its own: then Error is not
// about all of them.
func (p *Page) Pointed() bool {
	return p.Form != nil && slices.ContainsFunc(p.Form.Fields, func(f form.Field) bool { return f.Error != "" })
}

// ask makes the page show a form, with what was typed before.
func (p *Page) ask(shown form.Form, typed url.Values) {
	if p.Heading == "" {
		p.Heading, p.Text = shown.Heading, shown.Text
	}
	shown.Fields = slices.Clone(shown.Fields)
	for i := range shown.Fields {
		field := &shown.Fields[i]
		if field.Type == "" {
			field.Type = "text"
		}
		if field.Autocomplete == "" {
			field.Autocomplete = "off"
		}
		if values, ok := typed[field.Name]; ok && field.Type != "password" && field.Type != "hidden" && !field.ReadOnly {
			field.Value = values[0]
		}
	}
	p.Form = &shown
}

// Page writes a page of the host's own in the look and with the security headers of
// the fallback page: what a link in a mail leads to, for example. A form is posted
// to the address that the page has.
func (h *Handler) Page(w http.ResponseWriter, r *http.Request, status int, page Page) {
	lang, _ := h.Language(r)
	if page.Form != nil {
		page.ask(*page.Form, nil)
	}
	page.localize(lang)
	if page.Multilingual {
		page.Languages = h.otherLanguages(r, lang)
	}
	if err := h.pages.write(w, status, &page); err != nil {
		h.engine.WriteError(w, r, err)
	}
}

// Error is Page for a request that has failed: the page shows what the client may see of
// err, and the rest is logged.
func (h *Handler) Error(w http.ResponseWriter, r *http.Request, err error, page Page) {
	told := h.Explain(r, err)
	maps.Copy(w.Header(), told.Header)
	page.language, _ = h.Language(r)
	page.explain(err, told)
	h.Page(w, r, told.Status, page)
}

// Helped reports whether there is something on the page for the script Help to do.
func (p *Page) Helped() bool {
	return len(p.Facts) > 0 || p.Form != nil && slices.ContainsFunc(p.Form.Fields, func(f form.Field) bool {
		return f.Type == "password" || f.Check != ""
	})
}

// First returns the name of the form's first field that can be typed into or ticked, or
// of the first that has an error: the one to put the focus on. It is empty if there is
// none.
func (p *Page) First() string {
	if p.Form == nil {
		return ""
	}
	pointed := p.Pointed()
	for _, field := range p.Form.Fields {
		if field.Type != "hidden" && !field.ReadOnly && pointed == (field.Error != "") {
			return field.Name
		}
	}
	return ""
}

// done makes the page say that the stage is completed.
func (p *Page) done() {
	p.Done, p.Heading = true, "Done"
	p.Text = "You can close this window and go back to your app."
}

// explain makes the page say what went wrong. A heading and a text that the page has
// already stay, unless the session itself cannot go on.
func (p *Page) explain(err error, told Explanation) {
	p.Error, p.Detail = told.Text, told.Detail
	over := func(heading, text string) { p.Heading, p.Error, p.Detail = heading, p.T(text), "" }
	switch {
	case errors.Is(err, errExpired):
		over("This page has expired", "Please go back to your app and start again. You can close this window.")
	case errors.Is(err, errFinished):
		over("Already finished", "There is nothing left to do here. You can close this window and go back to your app.")
	case errors.Is(err, errTooEarly):
		over("Not yet", "Another step comes first. Please go back to your app.")
	case errors.Is(err, errNotOffered):
		over("Wrong page", "Your app did not ask for this step. Please go back to it and start again.")
	}
	if p.Heading == "" {
		p.Heading = "Something went wrong"
	}
}
