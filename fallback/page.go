package fallback

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/wire"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS template.CSS

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
	Form  *form.Form // nil if there is nothing to ask
	Done  bool       // the stage is completed
	// Redirect leads back to the client. Empty if it is not to be linked to.
	Redirect template.URL
	// Style is the style sheet of this package. Script tells the client that the
	// stage is completed, and then follows the link with the id "redirect".
	Style  template.CSS
	Script template.JS
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
		if values, ok := typed[field.Name]; ok && field.Type != "password" && field.Type != "hidden" {
			field.Value = values[0]
		}
	}
	p.Form = &shown
}

// Page writes a page of the host's own in the look and with the security headers of
// the fallback page: what a link in a mail leads to, for example. A form is posted
// to the address that the page has.
func (h *Handler) Page(w http.ResponseWriter, r *http.Request, status int, page Page) {
	if page.Form != nil {
		page.ask(*page.Form, nil)
	}
	if err := h.pages.write(w, status, &page); err != nil {
		h.engine.WriteError(w, r, err)
	}
}

// Error is Page for a request that has failed: the page shows what the client may see of
// err, and the rest is logged.
func (h *Handler) Error(w http.ResponseWriter, r *http.Request, err error, page Page) {
	status, header, body := h.engine.Answer(r.Context(), err)
	maps.Copy(w.Header(), header)
	page.explain(err, body)
	h.Page(w, r, status, page)
}

// First returns the name of the form's first field that can be typed into or ticked:
// the one to put the focus on. It is empty if there is none.
func (p *Page) First() string {
	if p.Form != nil {
		for _, field := range p.Form.Fields {
			if field.Type != "hidden" {
				return field.Name
			}
		}
	}
	return ""
}

// done makes the page say that the stage is completed.
func (p *Page) done() {
	p.Done, p.Heading = true, "Done"
	p.Text = "You can close this window and go back to your app."
}

// explain makes the page say what went wrong; body is what a client gets for err.
func (p *Page) explain(err error, body any) {
	var wait time.Duration
	switch told := body.(type) {
	case *uia.Challenge:
		p.Error = told.Message
	case *uia.Error:
		if told.Status < http.StatusInternalServerError {
			p.Error = told.Err
		}
		if told.Status == http.StatusTooManyRequests {
			wait = told.RetryAfter
		}
	}
	switch {
	case errors.Is(err, errExpired):
		p.Heading = "This page has expired"
		p.Error = "Please go back to your app and start again. You can close this window."
	case errors.Is(err, errFinished):
		p.Heading = "Already finished"
		p.Error = "There is nothing left to do here. You can close this window and go back to your app."
	case errors.Is(err, errTooEarly):
		p.Heading = "Not yet"
		p.Error = "Another step comes first. Please go back to your app."
	case errors.Is(err, errNotOffered):
		p.Heading = "Wrong page"
		p.Error = "Your app did not ask for this step. Please go back to it and start again."
	case wait > 0:
		p.Error = fmt.Sprintf("There were too many failed attempts. Please wait %s and try again.", wire.InWords(wait))
	case p.Error == "":
		p.Error = "Something went wrong on the server. Please try again in a moment."
	}
	if p.Heading == "" {
		p.Heading = "Something went wrong"
	}
}
