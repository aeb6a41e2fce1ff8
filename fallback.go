package uia

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/wire"
)

// The paths of the fallback page, as patterns of an http.ServeMux. Clients use
// both.
const (
	FallbackPath   = "/_matrix/client/v3/auth/{type}/fallback/web"
	FallbackPathR0 = "/_matrix/client/r0/auth/{type}/fallback/web"
)

// Fallback is the page on which a user completes a stage that their client does
// not know (Client-Server API, "Fallback"). It is an http.Handler.
//
// The session's ID is all that the page goes by. It reads no cookie and no other
// credential that a browser would send along by itself, so that a page of another
// origin that posts here achieves no more than its author could with a client of
// their own: that is why the form carries no further secret against forged
// requests. What an author with a session of theirs could want is that somebody
// else passes a stage in it: the page therefore says what is being authorised,
// cannot be framed, and a stage that knows its user compares them with the
// session's Subject.
type Fallback struct {
	e     *Engine
	pages *pages
	opts  FallbackOptions
}

// FallbackHandler returns the fallback page of the engine's operations. The auth
// type is the path value "type" where the handler is mounted with [FallbackPath],
// and is otherwise read from a path that ends in /auth/<type>/fallback/web.
//
// The answer is a page, and Matrix JSON where there is none: for a type that is not
// registered or is no [FallbackStage], for another path, and for another method.
// Its status is 200 while the stage is asked for and when it is completed, 401 for
// a failed attempt, 400 for a session that is missing, forged or expired and for a
// form that cannot be read, 403 for a session that is finished or does not wait for
// this stage, 413, 429 and 500 as elsewhere.
//
// Attempts are charged to the engine's Limiter. opts may be nil; the error names
// what is wrong with them.
func FallbackHandler(e *Engine, opts *FallbackOptions) (*Fallback, error) {
	if opts == nil {
		opts = &FallbackOptions{}
	}
	p, err := newPages(*opts)
	if err != nil {
		return nil, err
	}
	return &Fallback{e: e, pages: p, opts: *opts}, nil
}

var (
	errNoPage    = NewError(http.StatusNotFound, spec.Unrecognized("There is no such page."))
	errBadForm   = NewError(http.StatusBadRequest, spec.InvalidParam("What was sent could not be read. Please try again."))
	errLargeForm = NewError(http.StatusRequestEntityTooLarge, spec.MatrixError{ErrCode: wire.CodeTooLarge, Err: "What was sent is too large."})
)

// ServeHTTP implements http.Handler.
func (f *Fallback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := f.e.stages[fallbackType(r)]
	if st == nil || st.fallback == nil {
		WriteError(w, errNoPage)
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		wire.MethodNotAllowed(w, r, "GET, HEAD, POST")
		return
	}
	page, status, err := f.serve(r, st)
	if err != nil {
		f.Error(w, r, err, *page)
		return
	}
	f.Page(w, r, status, *page)
}

// fallbackType returns the auth type that the path names; "" if it names none.
func fallbackType(r *http.Request) string {
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

// serve returns the page for a request. An error is to be shown in it, and then
// there may be no form.
func (f *Fallback) serve(r *http.Request, st *stage) (*FallbackPage, int, error) {
	page := &FallbackPage{}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(query["session"]) != 1 {
		return page, 0, errUnknownSession
	}
	if target := query.Get("redirect"); slices.Contains(f.opts.Redirects, target) {
		page.Redirect = redirectURL(target)
	}
	ctx, typ := r.Context(), st.Type()
	v, err := f.e.find(ctx, query.Get("session"))
	if err != nil {
		return page, 0, err
	}
	if f.e.cfg.Client != nil {
		v.s.Client = f.e.cfg.Client(r)
	}
	page.Action = v.describe()

	state := FormState{Languages: languages(r.Header.Get("Accept-Language"))}
	var values url.Values
	var failure error
	if r.Method == http.MethodPost && !v.s.Has(typ) && v.awaits(typ) {
		if values, failure = f.values(r); failure == nil {
			state.Extra, failure = v.submit(ctx, st, values)
		}
	}
	switch {
	case v.s.Has(typ):
		page.done()
		return page, http.StatusOK, nil
	case errors.Is(failure, errUnknownSession), errors.Is(failure, errFinished):
		return page, 0, failure
	case !v.awaits(typ):
		return page, 0, v.misplaced(typ)
	}
	form, err := st.fallback.Form(ctx, v.s, state)
	if err != nil {
		return page, 0, err
	}
	shown := *form
	page.ask(&shown, values)
	return page, http.StatusOK, failure
}

// values reads the submitted form, whatever its Content-Type.
func (f *Fallback) values(r *http.Request) (url.Values, error) {
	if r.ContentLength > f.e.cfg.MaxBody {
		return nil, errLargeForm
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, f.e.cfg.MaxBody+1))
	switch {
	case err != nil:
		return nil, errBadForm
	case int64(len(body)) > f.e.cfg.MaxBody:
		return nil, errLargeForm
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errBadForm
	}
	for name, list := range values {
		if len(list) != 1 || !utf8.ValidString(name) || !utf8.ValidString(list[0]) {
			return nil, errBadForm
		}
	}
	return values, nil
}

// submit attempts the stage with what was submitted, as a client's request would,
// but never runs the operation: its result is the client's. Without an error the
// stage is completed, or has returned the members that it needs to continue.
func (v *visit) submit(ctx context.Context, st *stage, values url.Values) (map[string]json.RawMessage, error) {
	auth, err := st.fallback.FormAuth(v.s, values)
	if err != nil {
		return nil, err
	}
	lost, err := v.renew(ctx)
	if err != nil {
		return nil, err
	}
	v.auth = authData{object: auth, typ: st.Type(), session: v.s.ID}
	_, err = v.step(ctx, lost, false)
	if c, ok := errors.AsType[*Challenge](err); ok && c.ErrCode == "" {
		return c.Extra, nil
	}
	return nil, err
}

// misplaced says why the session does not wait for the stage.
func (v *visit) misplaced(typ string) error {
	for _, flow := range v.flows {
		if slices.Contains(flow, typ) {
			return errTooEarly
		}
	}
	return errNotOffered
}

// describe says what the session is about to authorise.
func (v *visit) describe() string {
	if v.op.Describe == nil {
		return v.op.Name
	}
	return v.op.Describe(v.s)
}

// languages returns the languages of an Accept-Language header, most preferred
// first.
func languages(header string) []string {
	type weighted struct {
		tag string
		q   string
	}
	var list []weighted
	for part := range strings.SplitSeq(header, ",") {
		tag, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		q = strings.TrimPrefix(strings.ReplaceAll(q, " ", ""), "q=")
		if tag = strings.TrimSpace(tag); tag == "" || tag == "*" || len(list) == 16 {
			continue
		}
		if q == "" {
			q = "1"
		}
		list = append(list, weighted{tag, q})
	}
	// Weights have the forms 0.xyz and 1.000: they sort as text.
	slices.SortStableFunc(list, func(a, b weighted) int { return strings.Compare(b.q, a.q) })
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = w.tag
	}
	return out
}
