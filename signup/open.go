package signup

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/register"
)

// checkQuery is the query parameter by which the page's script asks about a name.
const checkQuery = "check"

// check answers the script whether a name is free.
func (h *Handler) check(w http.ResponseWriter, r *http.Request, name string) {
	client, err := h.client(r)
	if err == nil {
		err = h.Registration.Available(r, client, name)
	}
	var answer struct {
		Good bool   `json:"good"`
		Text string `json:"text"`
	}
	refusal, refused := errors.AsType[*uia.Error](err)
	switch {
	case err == nil:
		lang, _ := h.Pages.Language(r)
		answer.Good, answer.Text = true, lang.Text("This name is free.")
	case refused && refusal.Status == http.StatusBadRequest:
		answer.Text = h.Pages.Explain(r, err).Text
	default:
		h.Engine.WriteError(w, r, err)
		return
	}
	h.Engine.WriteJSON(w, r, http.StatusOK, answer)
}

// client returns the address of the client that sent a request without a body.
func (h *Handler) client(r *http.Request) (netip.Addr, error) {
	req, err := h.Engine.Request(r, uia.Caller{Operation: register.OperationName})
	return req.Client, err
}

// begin opens a session. That writes nothing.
func (h *Handler) begin(r *http.Request, client netip.Addr) (*uia.Challenge, error) {
	_, err := h.Registration.Register(r, h.Engine, client, nil)
	if first, ok := errors.AsType[*uia.Challenge](err); ok {
		return first, nil
	}
	return nil, err
}

// open shows the first form to somebody who follows a link.
func (h *Handler) open(w http.ResponseWriter, r *http.Request) {
	client, err := h.client(r)
	if err != nil {
		h.broken(w, r, err)
		return
	}
	first, err := h.begin(r, client)
	if err != nil {
		h.broken(w, r, err)
		return
	}
	token := strings.TrimSpace(r.URL.Query().Get("token"))
	sheet := sheet{session: first.Session}
	if wantsToken(h.choose(first.Flows, nil, token != "")) {
		if token == "" {
			h.askToken(w, r, http.StatusOK, fallback.Page{Heading: "Enter your invitation", Text: "This server is open to people who have been invited."})
			return
		}
		t, err := h.Engine.LookUpToken(r.Context(), client, h.Tokens, token)
		busy := errors.Is(err, uia.ErrExhausted) && t.Pending > 0
		if err != nil && !busy {
			h.uninvited(w, r, err)
			return
		}
		if busy {
			sheet.note = "Somebody is registering with this invitation right now, perhaps you in another window. If it does not work, try again in a minute."
		}
		sheet.Token, sheet.Inviter = token, h.inviter(t)
		if pin, err := register.ReadPin(t.Meta); err == nil {
			sheet.Pinned, sheet.Pattern = pin.Username, pin.Pattern
		}
	}
	h.show(w, r, http.StatusOK, sheet)
}

// broken shows a page that has nothing to ask.
func (h *Handler) broken(w http.ResponseWriter, r *http.Request, err error) {
	page := fallback.Page{Heading: "Create your account"}
	if refusal, ok := errors.AsType[*uia.Error](err); ok && refusal.Status == http.StatusForbidden && refusal.ErrCode == spec.ErrorForbidden {
		page.Heading = "Registration is closed"
	}
	h.Pages.Error(w, r, err, page)
}

// uninvited says why nobody can register with the invitation.
func (h *Handler) uninvited(w http.ResponseWriter, r *http.Request, err error) {
	page, status := fallback.Page{}, http.StatusGone
	switch {
	case errors.Is(err, uia.ErrNotFound):
		status = http.StatusNotFound
		page.Heading, page.Text = "This invitation is not known", "Perhaps the link was not copied as a whole. Try once more, or ask who has invited you."
	case errors.Is(err, uia.ErrExpired):
		page.Heading, page.Text = "This invitation has expired", "Ask who has invited you for a new one."
	case errors.Is(err, uia.ErrRevoked):
		page.Heading, page.Text = "This invitation has been withdrawn", "Ask who has invited you for a new one."
	case errors.Is(err, uia.ErrExhausted):
		page.Heading, page.Text = "This invitation has been used", "If it was you who used it, your account is there: sign in with an app. Otherwise ask who has invited you for a new one."
	default:
		h.Pages.Error(w, r, err, fallback.Page{Heading: "Create your account"})
		return
	}
	h.askToken(w, r, status, page)
}

// askToken shows a form for another invitation.
func (h *Handler) askToken(w http.ResponseWriter, r *http.Request, status int, page fallback.Page) {
	page.Multilingual = true
	page.Form = &form.Form{Get: true, Submit: "Continue", Fields: []form.Field{{
		Name: "token", Label: "Invitation code", Hint: "It stands at the end of the link that you have been given.", MaxLength: uia.MaxTokenLength,
	}}}
	if lang := r.URL.Query().Get("lang"); lang != "" {
		page.Form.Fields = append(page.Form.Fields, form.Field{Name: "lang", Type: "hidden", Value: lang})
	}
	h.Pages.Page(w, r, status, page)
}
