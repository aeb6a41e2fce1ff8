// Package fallback is the page on which a user completes a stage that their client does
// not know (Client-Server API, "Fallback").
package fallback

import (
	"bytes"
	"errors"
	"html/template"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/catalog"
	"github.com/matrix-uia/uia/internal/stageform"
	"github.com/matrix-uia/uia/internal/wire"
)

// The paths of the page, as patterns of an http.ServeMux. Clients use both.
const (
	Path   = "/_matrix/client/v3/auth/{type}/fallback/web"
	PathR0 = "/_matrix/client/r0/auth/{type}/fallback/web"
)

// Options are the options of [New].
type Options struct {
	// Title names the homeserver at the top of the page. Empty means
	// "Matrix account".
	Title string
	// Look is the logo, the colours and the links of the pages.
	Look Look
	// Catalog has the texts of the pages. Nil means catalog.Default.
	Catalog *catalog.Catalog
	// Template replaces the page. It is executed with a *[Page]. Its inline styles and
	// scripts work if they are the same on every page. It cannot load other styles,
	// scripts or images, and style attributes do not work. Its page must contain
	// <script>{{.Script}}</script> when .Done. Nil means the page of this package. The
	// security headers are the same with every template.
	Template *template.Template
	// Redirects lists the absolute URLs to which a completed page may lead back a mobile
	// client. The client asks for one by the further query parameter redirect, and the
	// whole URL is compared ("org.example.client://auth-done"). Any other value of the
	// parameter is ignored. Nil turns that off.
	Redirects []string
}

// Handler is the page of the stages of one engine. It is an http.Handler.
//
// The page identifies a request by the session's ID alone. It reads no cookie and no
// other credential that a browser would send along by itself, so that a page of another
// origin that posts here achieves no more than its author could with a client of their
// own: that is why the form carries no further secret against forged requests. An
// attacker could want that somebody else passes a stage in a session of the attacker. The
// page therefore says what is being authorised, cannot be framed, and a stage that knows
// its user compares them with the session's Subject.
type Handler struct {
	engine *uia.Engine
	pages  *pages
	texts  *catalog.Catalog
	opts   Options
}

// New returns the page of the engine's stages. The auth type is the path value "type"
// where the handler is mounted with [Path], and is otherwise read from a path that ends
// in /auth/<type>/fallback/web.
//
// The answer is a page, or Matrix JSON where there is no page: for a type that is not
// registered or is no [uia.FallbackStage], for another path, and for another method. Its
// status is 200 while the stage is asked for and when it is completed, 401 for a failed
// attempt, 400 for a session that is missing, forged or expired and for a form that
// cannot be read, 403 for a session that is finished or does not wait for this stage,
// 413, 429 and 500 as elsewhere.
//
// Attempts are charged to the engine's Limiter. opts may be nil; the error names
// what is wrong with them.
func New(e *uia.Engine, opts *Options) (*Handler, error) {
	if e == nil {
		return nil, errors.New("fallback: the engine is nil")
	}
	if opts == nil {
		opts = &Options{}
	}
	texts := opts.Catalog
	if texts == nil {
		texts = catalog.Default()
	}
	p, err := newPages(*opts)
	if err != nil {
		return nil, err
	}
	return &Handler{engine: e, pages: p, texts: texts, opts: *opts}, nil
}

var (
	errNoPage     = uia.NewError(http.StatusNotFound, spec.Unrecognized("There is no such page."))
	errExpired    = uia.NewError(http.StatusBadRequest, spec.Unknown("The session is unknown or has expired."))
	errFinished   = uia.NewError(http.StatusForbidden, spec.Forbidden("The session is finished."))
	errTooEarly   = uia.NewError(http.StatusForbidden, spec.Forbidden("Another step comes first."))
	errNotOffered = uia.NewError(http.StatusForbidden, spec.Forbidden("The session does not ask for this step."))
)

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st, ok := h.engine.Stage(authType(r)).(uia.FallbackStage)
	if !ok {
		h.engine.WriteError(w, r, errNoPage)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		wire.MethodNotAllowed(w, r, "GET, HEAD, POST")
		return
	}
	page, err := h.page(r, st)
	if err != nil {
		h.Error(w, r, err, page)
		return
	}
	h.Page(w, r, http.StatusOK, page)
}

// authType returns the auth type that the path names; "" if it names none.
func authType(r *http.Request) string {
	if typ := r.PathValue("type"); typ != "" {
		return typ
	}
	rest, ok := strings.CutSuffix(r.URL.Path, "/fallback/web")
	before, typ := rest[:strings.LastIndexByte(rest, '/')+1], rest[strings.LastIndexByte(rest, '/')+1:]
	if !ok || !strings.HasSuffix(before, "/auth/") {
		return ""
	}
	return typ
}

// page returns the page for a request. An error is to be shown in it, and then the
// page may have no form.
func (h *Handler) page(r *http.Request, st uia.FallbackStage) (page Page, err error) {
	query := r.URL.Query() // a part that cannot be decoded counts as absent
	id, err := h.sessionID(r, query)
	if err != nil {
		return page, err
	}
	if target := query.Get("redirect"); slices.Contains(h.opts.Redirects, target) {
		page.Redirect = redirectURL(target)
	}
	s, err := h.session(r, id)
	if err != nil {
		return page, err
	}
	lang, _ := h.Language(r)
	page.Action = s.Describe(lang.Text)

	var sent submission
	if r.Method == http.MethodPost && slices.Contains(s.Next(), st.Type()) {
		sent = h.submit(r, st, s)
		if s, err = h.session(r, s.ID); err != nil { // as the attempt has left it
			return page, err
		}
	}
	switch {
	case s.Has(st.Type()):
		page.done()
		return page, nil
	case !slices.Contains(s.Next(), st.Type()):
		return page, misplaced(s, st)
	}
	shown, err := stageform.Form(r.Context(), st, s, h.State(r, sent.extra))
	if err != nil {
		return page, err
	}
	page.ask(*shown, sent.values)
	return page, sent.failure
}

// sessionID returns the ID that stands in the query, or in a submitted form, where
// other homeservers have it too.
func (h *Handler) sessionID(r *http.Request, query url.Values) (string, error) {
	ids := query["session"]
	if len(ids) == 0 && r.Method == http.MethodPost {
		req, err := h.engine.Request(r, uia.Caller{})
		sent, err := stageform.Values(req.Body, err)
		if err != nil {
			return "", err
		}
		r.Body = io.NopCloser(bytes.NewReader(req.Body)) // for the stage
		ids = sent["session"]
	}
	if len(ids) != 1 {
		return "", errExpired
	}
	return ids[0], nil
}

// session returns the session of this ID. An error of it is errExpired, errFinished, or
// a failure of the server.
func (h *Handler) session(r *http.Request, id string) (*uia.Session, error) {
	s, err := h.engine.Session(r.Context(), id)
	if refusal, ok := errors.AsType[*uia.Error](err); ok {
		switch refusal.Status {
		case http.StatusBadRequest:
			return nil, errExpired
		case http.StatusForbidden:
			return nil, errFinished
		}
	}
	return s, err
}

// misplaced says why the session does not wait for the stage.
func misplaced(s *uia.Session, st uia.Stage) error {
	for _, flow := range s.Flows {
		if slices.Contains(flow, st.Type()) {
			return errTooEarly
		}
	}
	return errNotOffered
}
