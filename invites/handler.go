package invites

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
	"github.com/matrix-uia/uia/internal/wire"
	"github.com/matrix-uia/uia/register"
)

// Handler returns the API. It is to be mounted at Options.Path and below:
//
//	mux.Handle(invites.Path, i.Handler())
//	mux.Handle(invites.Path+"/", i.Handler())
func (i *Invites) Handler() http.Handler { return http.HandlerFunc(i.serveHTTP) }

// request is one authenticated request.
type request struct {
	*http.Request
	user  string
	token string // that the path names; "" for none
	now   time.Time
}

func (i *Invites) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodOptions {
		wire.MethodNotAllowed(w, r, "")
		return
	}
	user, err := i.authenticate(r)
	switch {
	case err == nil && user == "":
		err = errUser
	case err == nil:
		err = api.SameOrigin(r)
	}
	var token string
	if err == nil {
		token, err = i.tokenOf(r.URL)
	}
	if err != nil {
		i.writeError(w, r, err)
		return
	}
	allow, endpoint := i.endpoint(r.Method, token)
	if endpoint == nil {
		wire.MethodNotAllowed(w, r, allow)
		return
	}
	body, err := endpoint(&request{Request: r, user: user, token: token, now: i.now()})
	if err != nil {
		i.writeError(w, r, err)
		return
	}
	uia.WriteJSON(w, r, i.log, http.StatusOK, body)
}

// writeError answers err, and logs the details that the client does not get.
func (i *Invites) writeError(w http.ResponseWriter, r *http.Request, err error) {
	uia.WriteError(w, r, i.log, fmt.Errorf("invites: %s: %w", r.Method, err))
}

// tokenOf returns the token that a path names; "" for the list.
func (i *Invites) tokenOf(u *url.URL) (string, error) {
	rest, ok := strings.CutPrefix(u.EscapedPath(), i.opts.Path)
	rest = strings.TrimSuffix(rest, "/")
	if !ok || rest != "" && rest[0] != '/' || strings.Count(rest, "/") > 1 {
		return "", uia.NewError(http.StatusNotFound, spec.Unrecognized("Unrecognized request"))
	}
	token, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
	if err != nil {
		return "", api.Invalid("The path cannot be decoded")
	}
	return token, nil
}

// endpoint returns what answers a method, nil if nothing does, and the methods that there
// are.
func (i *Invites) endpoint(method, token string) (allow string, answer func(*request) (any, error)) {
	switch {
	case token == "" && (method == http.MethodGet || method == http.MethodHead):
		answer = i.list
	case token == "" && method == http.MethodPost:
		answer = i.create
	case token != "" && (method == http.MethodGet || method == http.MethodHead):
		answer = i.show
	case token != "" && method == http.MethodDelete:
		answer = i.remove
	}
	if token == "" {
		return "GET, POST", answer
	}
	return "GET, DELETE", answer
}

// record is an invitation as the member sees it.
type record struct {
	Token       string `json:"token"`
	UsesAllowed *int64 `json:"uses_allowed"`
	Pending     int64  `json:"pending"`
	Completed   int64  `json:"completed"`
	ExpiryTime  *int64 `json:"expiry_time"`
	Label       string `json:"label"`
	Created     *int64 `json:"created_ts"`
	Revoked     bool   `json:"revoked"`
	Valid       bool   `json:"valid"`
	Reason      string `json:"invalid_reason,omitempty"`
	Username    string `json:"username,omitempty"`
	Email       string `json:"email,omitempty"`
	InviteURL   string `json:"invite_url,omitempty"`
}

func (i *Invites) record(t uia.Token, now time.Time) record {
	reason := api.InvalidReason(t.Usable(now))
	pin, _ := register.ReadPin(t.Meta) // an administrator may have put something else there
	return record{
		Token: t.Value, UsesAllowed: t.UsesAllowed, Pending: t.Pending, Completed: t.Completed, ExpiryTime: api.Milliseconds(t.Expires),
		Label: t.Label, Created: api.Milliseconds(t.Created), Revoked: t.Revoked, Valid: reason == "", Reason: reason,
		Username: pin.Username, Email: pin.Email, InviteURL: i.url(t.Value),
	}
}

// quotaRecord is a quota as the member sees it.
type quotaRecord struct {
	Live  int    `json:"live"`
	Daily int    `json:"daily"`
	Uses  int64  `json:"uses"`
	Life  *int64 `json:"life_ms,omitempty"`
}

func (q Quota) record() quotaRecord {
	out := quotaRecord{Live: q.Live, Daily: q.Daily, Uses: q.Uses}
	if q.Life >= 0 {
		out.Life = new(q.Life.Milliseconds())
	}
	return out
}

type listing struct {
	Invites []record    `json:"invites"`
	Next    string      `json:"next_token,omitempty"`
	Quota   quotaRecord `json:"quota"`
}

func (i *Invites) list(r *request) (any, error) {
	params, err := api.ReadQuery(r.Request)
	if err != nil {
		return nil, err
	}
	q := uia.CreatedQuery{CreatedBy: r.user}
	if q.Limit, err = params.Limit(); err != nil {
		return nil, err
	}
	name := "invites of " + r.user
	if from := params.Get("from"); from != "" {
		q.After = new(uia.TokenCursor)
		if err := i.pages.Open(r.Context(), r.now, name, from, q.After); err != nil {
			return nil, err
		}
	}
	quota, err := i.quotaOf(r.Context(), r.user)
	if err != nil {
		return nil, err
	}
	page, err := i.store.ListCreated(r.Context(), q, r.now)
	if err != nil {
		return nil, err
	}
	out := listing{Invites: make([]record, len(page.Tokens)), Quota: quota.record()} // never null
	for n, t := range page.Tokens {
		out.Invites[n] = i.record(t, r.now)
	}
	if page.Next != nil {
		out.Next, err = i.pages.Seal(r.Context(), r.now, name, page.Next)
	}
	return out, err
}

func (i *Invites) create(r *request) (any, error) {
	body, err := api.ReadObject(r.Request)
	if err != nil {
		return nil, err
	}
	d, err := draftOf(body, r.now)
	if err != nil {
		return nil, err
	}
	t, err := i.make(r.Context(), r.user, d, r.now)
	if err != nil {
		return nil, err
	}
	return i.record(t, r.now), nil
}

func (i *Invites) show(r *request) (any, error) {
	t, err := i.find(r.Context(), r.user, r.token, r.now)
	if err != nil {
		return nil, err
	}
	return i.record(t, r.now), nil
}

func (i *Invites) remove(r *request) (any, error) {
	return struct{}{}, i.revoke(r.Context(), r.user, r.token, r.now)
}
