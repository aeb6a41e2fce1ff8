package signup

import (
	"cmp"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/internal/stageform"
	"github.com/matrix-uia/uia/register"
)

// The fields by which a form carries its own state. No stage has fields of these names.
const (
	sessionField = "signup.session"
	keptField    = "signup.kept"
	stepField    = "signup.step" // the auth type of the stage that the form is of
)

// sheet is what the page knows of one registration.
type sheet struct {
	kept
	session string
	note    string            // above the form
	wrong   map[string]string // what is wrong with a field of the first form
	problem fallback.Explanation
}

// hidden returns the fields that carry the state.
func (h *Handler) hidden(r *http.Request, sh sheet, step string) ([]form.Field, error) {
	sealed, err := h.seal(r.Context(), sh.kept, time.Now())
	if err != nil {
		return nil, err
	}
	fields := []form.Field{
		{Name: sessionField, Type: "hidden", Value: sh.session},
		{Name: keptField, Type: "hidden", Value: sealed},
	}
	if step != "" {
		fields = append(fields, form.Field{Name: stepField, Type: "hidden", Value: step})
	}
	return fields, nil
}

// show shows the first form.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, status int, sh sheet) {
	lang, _ := h.Pages.Language(r)
	server := h.server(r)
	page := fallback.Page{
		Heading: "Create your account", Note: sh.note, Error: sh.problem.Text, Detail: sh.problem.Detail,
		Text: lang.Text("You have been invited to {server}.", "server", server), Multilingual: true,
	}
	switch {
	case sh.Inviter != "":
		page.Text = lang.Text("{inviter} has invited you to {server}.", "inviter", sh.Inviter, "server", server)
	case sh.Token == "" && sh.wrong["token"] == "":
		page.Text = lang.Text("It will be an account on {server}.", "server", server)
	}
	name := form.Field{
		Name: "username", Label: "Name", Value: sh.Username, Autocomplete: "username", MaxLength: maxUsername,
		Hint:  lang.Text("Small letters, digits and some marks. It becomes @name:{server} and cannot be changed later.", "server", server),
		Check: "?" + checkQuery + "=", Error: sh.wrong["username"],
	}
	switch {
	case sh.Pinned != "":
		name.Value, name.ReadOnly, name.Check, name.Hint = sh.Pinned, true, "", "Your invitation is for this name."
	case sh.Pattern != "":
		name.Hint = lang.Text("Your invitation is for names of the form {pattern}. It cannot be changed later.", "pattern", sh.Pattern)
	}
	password := form.Field{
		Name: "password", Label: "Password", Type: "password", Autocomplete: "new-password",
		Hint: h.policy(r), MinLength: h.MinPassword, MaxLength: register.MaxPassword, Error: sh.wrong["password"],
	}
	if sh.Password != "" {
		password.Optional, password.Label = true, "Password (leave it empty to keep what you have typed)"
	}
	token := form.Field{Name: "token", Label: "Invitation code", Type: "hidden", Value: sh.Token, Error: sh.wrong["token"], MaxLength: uia.MaxTokenLength}
	if token.Error != "" {
		token.Type = "text"
	}
	state, err := h.hidden(r, sh, "")
	if err != nil {
		h.broken(w, r, err)
		return
	}
	page.Form = &form.Form{Submit: "Create account", Fields: append([]form.Field{name, password, token}, state...)}
	maps.Copy(w.Header(), sh.problem.Header)
	h.Pages.Page(w, r, status, page)
}

// maxUsername is the greatest length of a user ID.
const maxUsername = 255

// policy says in words what passwords are good.
func (h *Handler) policy(r *http.Request) string {
	lang, _ := h.Pages.Language(r)
	if h.PasswordPolicy != "" {
		return lang.Text(h.PasswordPolicy)
	}
	return lang.Text("At least {n} characters. A few words in a row are easy to remember and hard to guess.", "n", strconv.Itoa(h.MinPassword))
}

// ask shows the form of a stage, with what was typed into it.
func (h *Handler) ask(w http.ResponseWriter, r *http.Request, o outcome, sh sheet, typed url.Values) {
	st := h.Engine.Stage(o.stage).(uia.FallbackStage) // choose has seen to it
	s, err := h.Engine.Session(r.Context(), sh.session)
	if err != nil {
		h.broken(w, r, err)
		return
	}
	asked, err := stageform.Form(r.Context(), st, s, h.Pages.State(r, o.extra))
	if err != nil {
		h.broken(w, r, err)
		return
	}
	state, err := h.hidden(r, sh, o.stage)
	if err != nil {
		h.broken(w, r, err)
		return
	}
	shown := *asked
	shown.Fields = nil
	for _, field := range asked.Fields {
		if field.Type != "password" && field.Type != "hidden" && !field.ReadOnly && typed.Has(field.Name) {
			field.Value = typed.Get(field.Name)
		}
		shown.Fields = append(shown.Fields, field)
	}
	shown.Fields = append(shown.Fields, state...)
	if shown.Link != nil {
		apart := *shown.Link
		apart.Apart = true
		shown.Link = &apart
	}
	if shown.Submit == "" {
		shown.Submit = "Continue"
	}
	page := fallback.Page{Heading: asked.Heading, Text: asked.Text, Note: sh.note, Form: &shown}
	status := http.StatusOK
	if o.err != nil {
		told := h.Pages.Explain(r, o.err)
		maps.Copy(w.Header(), told.Header)
		status, page.Error, page.Detail = told.Status, told.Text, told.Detail
	}
	h.Pages.Page(w, r, status, page)
}

// ready shows what there is to know once the account is made.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request, userID string) {
	lang, _ := h.Pages.Language(r)
	page := fallback.Page{
		Done: true, Quiet: true, Heading: "Your account is ready",
		Text:  "Sign in with an app of your choice: with your name, your password and the address of your homeserver.",
		Facts: []fallback.Fact{{Label: lang.Text("User ID"), Value: userID}, {Label: lang.Text("Homeserver"), Value: h.homeserver(r)}},
	}
	h.addApps(&page, r, userID)
	if h.QR != nil {
		code, err := h.QR(h.homeserver(r))
		if err != nil {
			h.broken(w, r, err) // the account is there, and the next press shows it again
			return
		}
		page.Image, page.ImageAlt = fallback.PNG(code), lang.Text("QR code of the address of your homeserver")
	}
	h.Pages.Page(w, r, http.StatusOK, page)
}

// addApps adds the links to apps. userID is "" if it is not known.
func (h *Handler) addApps(page *fallback.Page, r *http.Request, userID string) {
	lang, _ := h.Pages.Language(r)
	for _, app := range h.apps {
		if app.OAuth && !h.OAuth {
			continue
		}
		page.Apps = append(page.Apps, fallback.App{
			Name: app.Name, Text: lang.Text(app.Text), URL: app.login(h.server(r), h.homeserver(r), userID),
		})
	}
	page.Closing = lang.Text("Apps that sign in through OAuth alone, such as Element X, do not work with this server: use one of those above.")
	if h.OAuth {
		page.Closing = ""
	}
}

// already says that the form was sent before, and that its answer cannot be told again.
func (h *Handler) already(w http.ResponseWriter, r *http.Request) {
	lang, _ := h.Pages.Language(r)
	page := fallback.Page{
		Heading: "This form was sent already",
		Text:    "The account was made. Sign in with an app: with the name and the password that you chose, and the address of your homeserver.",
		Facts:   []fallback.Fact{{Label: lang.Text("Homeserver"), Value: h.homeserver(r)}},
	}
	h.addApps(&page, r, "")
	h.Pages.Page(w, r, http.StatusOK, page)
}

// server returns the server name that the request is for. Where it is for none, no page
// has come this far.
func (h *Handler) server(r *http.Request) string {
	name, _ := h.Registration.ServerNameOf(r)
	return name
}

// homeserver returns what people type into an app.
func (h *Handler) homeserver(r *http.Request) string {
	return cmp.Or(h.Homeserver, h.server(r))
}
