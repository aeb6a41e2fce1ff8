// Package admin lets an operator manage registration tokens with the tools they
// already have: it speaks the registration tokens API of Synapse's admin API, and a
// superset of it that older tools ignore.
//
//	GET    /                list; ?valid= filters
//	POST   /new             create
//	GET    /{token}         show
//	PUT    /{token}         change
//	DELETE /{token}         delete
//	GET    /{token}/uses    which accounts came from it
//	GET    /{token}/qr      its invite link as a PNG
//	DELETE /{token}/uses/{session}
//	                        give a held use back
//	GET    /{user}/tree     who came through a user, and through those, and so on
//	POST   /{user}/revoke   revoke the invitations of a user, or of the whole branch
//
// # Beyond Synapse
//
// Each record also has label, created_ts, created_by, revoked, last_used_ts, meta,
// fingerprint ([uia.Fingerprint], to find it in an audit log), valid, which says
// whether somebody could register with it now, invalid_reason if nobody can (revoked,
// expired or exhausted: every use is taken), and invite_url if Options.InviteURL is
// set.
//
// The list takes limit (at most 1000, which is also the default) and from, the
// next_token of the page before; a filtered page may be short, even empty, and still
// have a next_token. It takes order_by (token, created_ts, expiry_time or
// uses_allowed) with dir (f or b), label, which keeps the labels that begin with it,
// and total=true, which adds the total. A from of digits counts tokens from the
// beginning, as web interfaces do for other lists: up to 10,000.
//
// POST /new takes label, meta (a JSON object of at most 4 KiB for the homeserver; see
// [register.Pin] for what register makes of it), style (random, readable or words), and
// count: with it, that many tokens are made, all or none, and the answer is a list of
// them. completed is for a token that comes from another homeserver: it is how many uses
// of it were spent there. A record of Synapse can be posted as it is.
//
// PUT takes label, meta and revoked too. Web interfaces send the whole record back as
// it was when a form was opened, revoked included: a body that has members which
// cannot be changed, such as pending, never makes a revoked token valid again. To do
// that, send {"revoked":false} alone.
//
// GET /{token}/uses?deleted=true lists the uses of deleted tokens of this value. DELETE
// /{token}/uses/{session} gives a held use back for others to take. It does not give back
// a use from which an account was made or is being made.
//
// # Who has invited whom
//
// With a store that is a [uia.InviteStore], an account belongs to whoever created the
// token that it was made with: see package invites. GET /{user}/tree returns user_id and,
// if the account came through a token, invited_by (empty if that has no creator),
// joined_ts and token; and members, the accounts below it, each followed by those below
// itself, with the same fields and depth. It takes limit and from.
//
// POST /{user}/revoke revokes the live tokens that the user has created; with
// {"branch":true} also those of every account below. The answer says how many tokens were
// revoked, and of how many members; for a branch of more than 10,000 accounts it has a
// next_token, to be sent as from. The call can be repeated. It does not keep the
// members from making new ones: that is up to their quota, and to their accounts.
//
// # Tokens and paths
//
// A token called "new" is shown, changed and deleted like any other. One called "." or
// ".." is not created here, since browsers and proxies resolve such paths, but can be
// managed as %2E and %2E%2E by tools that can send these.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/observe"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/register"
)

// Path is where Synapse has this API, and where tools look for it. See also
// Options.Path.
const Path = "/_synapse/admin/v1/registration_tokens"

// Handler serves the administration of the tokens in store, under any prefix: it reads
// the part of the path that follows the first element named registration_tokens. It never
// redirects, but an http.ServeMux does unless it knows both forms of the path:
//
//	h, err := admin.Handler(store, authorize, nil)
//	...
//	mux.Handle(admin.Path, h)
//	mux.Handle(admin.Path+"/", h)
//
// authorize returns the name of the administrator, which becomes the created_by of new
// tokens. It is called for every request but a CORS preflight. If it returns an error
// nothing is done: an *uia.Error is answered as it is (tools know 401 M_MISSING_TOKEN,
// 401 M_UNKNOWN_TOKEN and 403 M_FORBIDDEN), any other is logged and answered with 500.
//
// authorize must not trust what a browser sends by itself, such as a cookie or HTTP Basic
// authentication: any page that an administrator visits could then make tokens in their
// name. An access token in the Authorization header is right. In case authorize does so
// anyway, a request which changes something, has no access token there, and comes from a
// page of another origin is refused with 403 M_FORBIDDEN.
//
// The error says that store or authorize is nil, and which options are not what they have
// to be.
func Handler(store uia.TokenStore, authorize func(*http.Request) (by string, err error), opts *Options) (http.Handler, error) {
	if opts == nil {
		opts = &Options{}
	}
	h := &handler{store: store, authorize: authorize, opts: *opts, log: opts.Logger, now: opts.Now}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	if h.now == nil {
		h.now = time.Now
	}
	h.observe = observe.Safely(opts.Observer, h.log)
	var mistakes []error
	if store == nil {
		mistakes = append(mistakes, errors.New("admin: the store is nil"))
	}
	if authorize == nil {
		mistakes = append(mistakes, errors.New("admin: authorize is nil"))
	}
	if opts.InviteURL != "" && !strings.Contains(opts.InviteURL, "{token}") {
		mistakes = append(mistakes, errors.New("admin: InviteURL has no {token}"))
	}
	if opts.Path != "" && !strings.HasPrefix(opts.Path, "/") {
		mistakes = append(mistakes, errors.New("admin: Path does not begin with a slash"))
	}
	if h.opts.CheckMeta == nil {
		h.opts.CheckMeta = func(meta json.RawMessage) error {
			_, err := register.ReadPin(meta)
			return err
		}
	}
	var err error
	if h.words, err = newWords(opts.Words); err != nil {
		mistakes = append(mistakes, err)
	}
	h.pages, err = api.NewPages(context.Background(), opts.Secrets, "admin pages", h.now())
	mistakes = append(mistakes, mistake.In("admin: Secrets: ", err))
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return h, nil
}

type handler struct {
	store     uia.TokenStore
	authorize func(*http.Request) (string, error)
	opts      Options
	log       *slog.Logger
	now       func() time.Time
	observe   func(context.Context, uia.Event)
	words     *words // nil: none
	pages     api.Pages
}

// request is one authorised request.
type request struct {
	*http.Request
	names
	by  string
	now time.Time
}

// answer is an endpoint. Its result is written as JSON, except that a png is written as
// it is.
type answer func(*request) (any, error)

type png []byte

var errNoEndpoint = uia.NewError(http.StatusNotFound, spec.Unrecognized("Unrecognized request"))

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		wire.MethodNotAllowed(w, r, "")
		return
	}
	body, err := h.serve(w, r)
	if errors.Is(err, errAnswered) {
		return
	}
	if err != nil {
		h.writeError(w, r, err)
		return
	}
	if image, ok := body.(png); ok {
		wire.SetCORS(w.Header())
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(image)
		return
	}
	uia.WriteJSON(w, r, h.log, http.StatusOK, body)
}

// errAnswered says that there is nothing left to write.
var errAnswered = errors.New("admin: answered")

func (h *handler) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	by, err := h.authorize(r)
	if err == nil {
		err = api.SameOrigin(r)
	}
	if err != nil {
		return nil, err
	}
	methods, names, err := h.route(r.URL)
	if err != nil {
		return nil, err
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	endpoint := methods[method]
	if endpoint == nil {
		wire.MethodNotAllowed(w, r, methods.allow())
		return nil, errAnswered
	}
	return endpoint(&request{Request: r, by: by, now: h.now(), names: names})
}

// writeError answers err, and logs the details that the client does not get.
func (h *handler) writeError(w http.ResponseWriter, r *http.Request, err error) {
	uia.WriteError(w, r, h.log, fmt.Errorf("admin: %s: %w", r.Method, err))
}

// refusal turns an error of a store into the answer for the operator.
func refusal(err error) error {
	switch {
	case errors.Is(err, uia.ErrNotFound):
		return uia.NewError(http.StatusNotFound, spec.NotFound("No such registration token"))
	case errors.Is(err, uia.ErrExists):
		return api.Invalid("A registration token of this value exists already")
	case errors.Is(err, uia.ErrInvalid):
		return &uia.Error{Status: http.StatusBadRequest, MatrixError: spec.InvalidParam("The store refuses these values"), Cause: err}
	case errors.Is(err, uia.ErrFull):
		return uia.NewError(http.StatusForbidden, spec.MatrixError{ErrCode: "M_RESOURCE_LIMIT_EXCEEDED", Err: "There is no room for more registration tokens"})
	}
	return err
}
