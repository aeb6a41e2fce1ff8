package uia

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

//go:embed fallback.html
var fallbackHTML string

//go:embed fallback.css
var fallbackCSS template.CSS

// fallbackScript is what the specification prescribes for a completed stage. The
// redirect, where there is one, comes after it.
const fallbackScript template.JS = `
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

// FallbackOptions are the options of [FallbackHandler].
type FallbackOptions struct {
	// Title names the homeserver at the top of the page. Empty means
	// "Matrix account".
	Title string
	// Template replaces the page. It is executed with a *FallbackPage. Styles and
	// scripts that it has inline are allowed to be used if they are the same on
	// every page; it cannot load any, nor images, and has no style attributes.
	// Its page must contain <script>{{.Script}}</script> when .Done. Nil means the
	// page of this package.
	Template *template.Template
	// Redirects lists where a completed page may lead a mobile client to that asks
	// for it by the further query parameter redirect: absolute URLs, which are
	// compared whole ("org.example.client://auth-done"). Any other value of the
	// parameter is ignored. Nil turns that off.
	Redirects []string
}

// FallbackPage is what the template of the page is executed with.
type FallbackPage struct {
	Title   string // FallbackOptions.Title
	Heading string
	Text    string // may be empty
	// Action is what the session authorises, of Operation.Describe. Empty where
	// the session is not known.
	Action string
	// Error says why the attempt has failed, or if there is no Form, why the page
	// is no use any more. Empty if nothing is wrong.
	Error string
	Form  *Form // nil if there is nothing to ask
	Done  bool  // the stage is completed
	// Redirect leads back to the client. Empty if it is not to be linked to.
	Redirect template.URL
	// Style is the style sheet of this package. Script tells the client that the
	// stage is completed, and then follows the link with the id "redirect".
	Style  template.CSS
	Script template.JS
}

var (
	errTooEarly   = NewError(http.StatusForbidden, errOutOfOrder.MatrixError)
	errNotOffered = NewError(http.StatusForbidden, errOutOfOrder.MatrixError)
)

// ask makes the page show a form, with what was typed before.
func (p *FallbackPage) ask(form *Form, typed url.Values) {
	if p.Heading == "" {
		p.Heading, p.Text = form.Heading, form.Text
	}
	p.Form = form
	form.Fields = slices.Clone(form.Fields)
	for i := range form.Fields {
		field := &form.Fields[i]
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
}

// Page writes a page of the host's own in the look and with the security headers of
// the fallback page: what a link in a mail leads to, for example. A form is posted
// to the address that the page has.
func (f *Fallback) Page(w http.ResponseWriter, r *http.Request, status int, page FallbackPage) {
	if page.Form != nil {
		form := *page.Form
		page.ask(&form, nil)
	}
	if err := f.pages.write(w, status, &page); err != nil {
		WriteError(w, f.e.told(r.Context(), err))
	}
}

// Error is Page for a request that has failed: the page says what the client may be
// told of err, and the rest is logged.
func (f *Fallback) Error(w http.ResponseWriter, r *http.Request, err error, page FallbackPage) {
	status := f.explain(r.Context(), w.Header(), err, &page)
	f.Page(w, r, status, page)
}

// First returns the name of the form's first field that can be typed into or ticked:
// the one to put the focus on. It is empty if there is none.
func (p *FallbackPage) First() string {
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
func (p *FallbackPage) done() {
	p.Done, p.Heading = true, "Done"
	p.Text = "You can close this window and go back to your app."
}

// explain makes the page say what went wrong, and returns the status.
func (f *Fallback) explain(ctx context.Context, header http.Header, err error, page *FallbackPage) int {
	err = f.e.told(ctx, err)
	status, extra, _ := Answer(err)
	maps.Copy(header, extra)
	known, isError := errors.AsType[*Error](err)
	if c, ok := errors.AsType[*Challenge](err); ok {
		page.Error = c.Message
	} else if isError && status < 500 {
		page.Error = known.Err
	}
	switch {
	case errors.Is(err, errUnknownSession):
		page.Heading = "This page has expired"
		page.Error = "Please go back to your app and start again. You can close this window."
	case errors.Is(err, errFinished):
		page.Heading = "Already finished"
		page.Error = "There is nothing left to do here. You can close this window and go back to your app."
	case errors.Is(err, errTooEarly):
		page.Heading = "Not yet"
		page.Error = "Another step comes first. Please go back to your app."
	case errors.Is(err, errNotOffered):
		page.Heading = "Wrong page"
		page.Error = "Your app did not ask for this step. Please go back to it and start again."
	case status == http.StatusTooManyRequests && isError && known.RetryAfter > 0:
		page.Error = fmt.Sprintf("There were too many failed attempts. Please wait %s and try again.", inWords(known.RetryAfter))
	case page.Error == "":
		page.Error = "Something went wrong on the server. Please try again in a moment."
	}
	if page.Heading == "" {
		page.Heading = "Something went wrong"
	}
	return status
}

func inWords(d time.Duration) string {
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return fmt.Sprintf("%d %ss", n, unit)
	}
	if d > 2*time.Minute {
		return count((d+time.Minute-1)/time.Minute, "minute")
	}
	return count((d+time.Second-1)/time.Second, "second")
}
