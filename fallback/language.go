package fallback

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/form"
)

// Language returns the language of the page for this request, by the query parameter lang
// and the header Accept-Language, and the user's languages, most preferred first.
func (h *Handler) Language(r *http.Request) (chosen *catalog.Language, preferred []string) {
	return h.texts.Choose(r.URL.Query().Get("lang"), r.Header.Get("Accept-Language"))
}

// State returns what the form of a stage may want to know of this request.
func (h *Handler) State(r *http.Request, extra map[string]json.RawMessage) form.State {
	lang, preferred := h.Language(r)
	return form.State{Languages: preferred, Extra: extra, Translate: func(english string) string { return lang.Text(english) }}
}

// OtherLanguage is a link to the same page in another language.
type OtherLanguage struct {
	Tag, Name string
	URL       string
}

// otherLanguages returns the links to the page in the other languages.
func (h *Handler) otherLanguages(r *http.Request, shown *catalog.Language) (links []OtherLanguage) {
	if r.Method != http.MethodGet {
		return nil // what was submitted would be lost
	}
	query := r.URL.Query()
	for _, l := range h.texts.Languages() {
		if l == shown {
			continue
		}
		query.Set("lang", l.Tag())
		links = append(links, OtherLanguage{Tag: l.Tag(), Name: l.Name(), URL: (&url.URL{RawQuery: query.Encode()}).String()})
	}
	return links
}

// localize puts the page's texts into the language.
func (p *Page) localize(lang *catalog.Language) {
	p.language = lang
	p.Lang, p.Dir = lang.Tag(), lang.Direction()
	for _, text := range []*string{&p.Heading, &p.Text, &p.Note, &p.ImageAlt} {
		*text = lang.Text(*text)
	}
	if p.Form == nil {
		return
	}
	f := p.Form // ask has copied it
	f.Heading, f.Text, f.Submit = lang.Text(f.Heading), lang.Text(f.Text), lang.Text(f.Submit)
	for i := range f.Fields {
		field := &f.Fields[i]
		field.Label, field.Hint, field.Error = lang.Text(field.Label), lang.Text(field.Hint), lang.Text(field.Error)
	}
	if f.Link != nil {
		link := *f.Link
		link.Text = lang.Text(link.Text)
		f.Link = &link
	}
}

// T returns a text in the language of the page, for templates.
func (p *Page) T(english string, values ...string) string {
	if p.language == nil {
		return form.Fill(english, values...)
	}
	return p.language.Text(english, values...)
}

// Explanation is what a user is told of an error.
type Explanation struct {
	Status int
	Header http.Header
	Code   string // the Matrix error code
	Text   string // in the user's language
	Detail string // what the error says in English, if Text says less; may be empty
}

// Explain returns what the user who sent this request is told of an error. What they are
// not told is logged. A message that the catalog knows is translated. Of any other one
// the error code is, and the message is the Detail.
func (h *Handler) Explain(r *http.Request, err error) Explanation {
	lang, _ := h.Language(r)
	status, header, body := h.engine.Answer(r.Context(), err)
	out := Explanation{Status: status, Header: header}
	var message string
	switch told := body.(type) {
	case *uia.Challenge:
		message, out.Code = told.Message, string(told.ErrCode)
	case *uia.Error:
		out.Code = string(told.ErrCode)
		if told.Status < http.StatusInternalServerError {
			message = told.Err
		}
		if told.Status == http.StatusTooManyRequests && told.RetryAfter > 0 {
			out.Text = lang.Text("There were too many failed attempts. Please wait {time} and try again.", "time", inWords(lang, told.RetryAfter))
			return out
		}
	}
	switch {
	case message == "":
		out.Text = lang.Text("Something went wrong on the server. Please try again in a moment.")
	case lang.English() || lang.Has(message):
		out.Text = lang.Text(message)
	case lang.Has(out.Code) && slices.Contains(selfEvident, out.Code):
		out.Text = lang.Text(out.Code)
	case lang.Has(out.Code):
		out.Text, out.Detail = lang.Text(out.Code), message
	default:
		out.Text, out.Detail = lang.Text("M_UNKNOWN"), message
	}
	return out
}

// selfEvident are the error codes that say everything.
var selfEvident = []string{"M_USER_IN_USE", "M_THREEPID_IN_USE", "M_CAPTCHA_INVALID", "M_TOO_LARGE", "M_LIMIT_EXCEEDED"}

// inWords says how long somebody has to wait, rounded up: "1 second", "3 minutes".
func inWords(lang *catalog.Language, d time.Duration) string {
	count := func(unit time.Duration, one, many string) string {
		n := (d + unit - 1) / unit
		if n == 1 {
			return lang.Text(one)
		}
		return form.Fill(lang.Text(many), "n", strconv.FormatInt(int64(n), 10))
	}
	if d > 2*time.Minute {
		return count(time.Minute, "1 minute", "{n} minutes")
	}
	return count(time.Second, "1 second", "{n} seconds")
}
