// Package signup is the page on which an invite link ends: somebody opens the link, picks
// a name and a password, and has an account, whatever app they use afterwards.
//
// The page is a client of the engine in the same process, and can do no more than any
// other client. Opening it writes nothing. What was typed lives in the page itself: the
// form carries the session of the engine, and, sealed so that nobody can read it, the
// password. So each press of the button is complete: six presses, a reload of the answer
// or the same form sent from a saved page are one registration, and if the session has
// expired meanwhile, one more press goes on without anything being typed again. It reads
// no cookie, and works without script.
package signup

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/internal/keyring"
	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/register"
)

// Path is where people expect the page. It is another path than that of the Client-Server
// API, and any other is as good.
const Path = "/register"

// InviteURL returns the invite link of a server whose page is at this address, such as
// "https://matrix.example.org/register": for admin.Options.InviteURL.
func InviteURL(page string) string { return page + "?token={token}" }

// Options are the options of [New].
type Options struct {
	// Engine guards the registration. Required.
	Engine *uia.Engine
	// Registration is what the engine's operation was made of. Required.
	Registration *register.Registration
	// Pages is the engine's fallback page, whose look, languages and headers this page
	// has. Required.
	Pages *fallback.Handler
	// Tokens are the registration tokens. Required if a flow has a stage for them.
	Tokens uia.TokenStore
	// Secrets seal the password between two presses of the button: those of uia.Config,
	// for example. Required.
	Secrets uia.Secrets
	// Homeserver is the address that people type into an app. Empty means the server name
	// that the request is for (Registration.ServerNameOf), by which apps find the address.
	Homeserver string
	// Apps are the apps that the page links to once there is an account. Nil means
	// [Element], [Cinny], [FluffyChat] and [NeoChat]; an empty slice means none.
	Apps []App
	// OAuth says that the homeserver offers OAuth, which some apps need to log in. Without
	// it the page says that such apps cannot be used.
	OAuth bool
	// MinPassword is how many characters a password needs on this page. Zero means 8.
	// Registration.CheckPassword decides as well.
	MinPassword int
	// PasswordPolicy says in words what passwords the homeserver takes, for example "At
	// least 12 characters, with a digit." Empty says how many characters are needed. A
	// text that the pages' catalog has is translated.
	PasswordPolicy string
	// Inviter returns who invites with this token, as the page shows it; "" to say
	// nothing. Nil means the string "inviter" in the token's Meta or else, if "show_label"
	// is true in it, the token's Label.
	Inviter func(uia.Token) string
	// ShowCreator says who has made the invitation (Token.CreatedBy) where that is a user
	// and Inviter says nothing: right where members invite their friends.
	ShowCreator bool
	// QR draws a text as a QR code and returns it as a PNG; see admin.Options. Nil means
	// that there is none.
	QR func(text string) (png []byte, err error)
}

// Handler is the page: an http.Handler for GET and POST on one path, which the host
// chooses. It is safe for concurrent use.
//
// The status is 200 while something is asked for and when the account is made, 404 or 410
// for an invitation that cannot be used, and otherwise what a client of the API would get.
type Handler struct {
	Options
	box  keyring.Box // seals what was typed
	apps []App
}

// New returns the page, or every mistake in the options at once: also that no flow of the
// registration consists of stages for which the page can ask.
func New(o Options) (*Handler, error) {
	var m mistake.List
	for _, required := range []struct {
		name  string
		given bool
	}{
		{"Engine", o.Engine != nil}, {"Registration", o.Registration != nil}, {"Pages", o.Pages != nil}, {"Secrets", o.Secrets != nil},
	} {
		m.Add("", mistake.Required(required.name, required.given))
	}
	if o.MinPassword < 0 || o.MinPassword > register.MaxPassword {
		m.Addf("MinPassword is %d, and must be between 0 and %d", o.MinPassword, register.MaxPassword)
	}
	h := &Handler{Options: o, apps: o.Apps}
	if o.MinPassword == 0 {
		h.MinPassword = 8
	}
	if o.Apps == nil {
		h.apps = []App{Element, Cinny, FluffyChat, NeoChat}
	}
	for _, app := range h.apps {
		m.Add(fmt.Sprintf("Apps: %q: ", app.Name), app.check())
	}
	if len(m) > 0 {
		return nil, mistake.In("signup: Options: ", m.Err())
	}
	if !o.Engine.HasOperation(register.OperationName) {
		return nil, errors.New("signup: the engine has no operation for the registration: put Registration.Operation() into uia.Config.Operations")
	}
	if h.choose(o.Registration.Flows, nil, true) == nil {
		return nil, errors.New("signup: the page can ask for the stages of none of the flows: it needs one whose stages have forms (uia.FallbackStage)")
	}
	if mistake.IsNil(o.Tokens) && slices.ContainsFunc(o.Registration.Flows, wantsToken) {
		return nil, errors.New("signup: Options: Tokens is required")
	}
	h.box = keyring.NewBox(keyring.Source(o.Secrets), "signup kept")
	return h, nil
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		if name := r.URL.Query().Get(checkQuery); name != "" {
			h.check(w, r, name)
			return
		}
		h.open(w, r)
	case http.MethodPost:
		h.press(w, r)
	default:
		wire.MethodNotAllowed(w, r, "GET, HEAD, POST")
	}
}

// tokenTypes are the names of the stage of registration tokens.
var tokenTypes = []string{uia.TokenType, uia.TokenTypeUnstable, uia.TokenTypeDraft, uia.TokenTypeDraft2}

func isToken(typ string) bool { return slices.Contains(tokenTypes, typ) }

func wantsToken(f uia.Flow) bool { return slices.ContainsFunc(f, isToken) }

// choose returns the flow that the page goes through, of those that go on from what is
// completed: the first whose stages the page can ask for, and of these one with a token if
// there is one and without if not. It returns nil if there is none.
func (h *Handler) choose(flows []uia.Flow, completed []string, token bool) (chosen uia.Flow) {
	for _, f := range flows {
		if len(completed) > len(f) || !slices.Equal(f[:len(completed)], completed) || slices.ContainsFunc(f, h.unknown) {
			continue
		}
		if wantsToken(f) == token {
			return f
		}
		if chosen == nil {
			chosen = f
		}
	}
	return chosen
}

// unknown reports whether the page cannot ask for a stage.
func (h *Handler) unknown(typ string) bool {
	_, known := h.Engine.Stage(typ).(uia.FallbackStage)
	return !known
}

// inviter says who invites.
func (h *Handler) inviter(t uia.Token) string {
	says := h.Inviter
	if says == nil {
		says = inviterOf
	}
	who := strings.TrimSpace(says(t))
	if who == "" && h.ShowCreator && strings.HasPrefix(t.CreatedBy, "@") {
		return t.CreatedBy
	}
	return who
}

// inviterOf returns who invites if the token's Meta says so.
func inviterOf(t uia.Token) string {
	if len(t.Meta) == 0 {
		return ""
	}
	var who string
	var label bool
	if _, err := uia.Field(t.Meta, "inviter", &who); err == nil && who != "" {
		return who
	}
	if _, err := uia.Field(t.Meta, "show_label", &label); err == nil && label {
		return t.Label
	}
	return ""
}
