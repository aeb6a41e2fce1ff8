// Package invites lets the members of a homeserver invite others: an authenticated member
// makes, lists and revokes registration tokens of their own, within a quota.
//
//	GET    /          the member's invitations, the newest first, and the quota
//	POST   /          make one
//	GET    /{token}   one of them
//	DELETE /{token}   revoke it
//
// An invitation is a registration token whose CreatedBy is the member's user ID. So it is
// known who came through whom: an account belongs to the creator of the token with which
// it was made, and that is written with the token's use. Administrators see the tree, and
// revoke the invitations of a member or of a whole branch, at package admin.
//
// # Making an invitation
//
// POST takes a JSON object, whose members are all optional: uses_allowed, how many accounts
// it is good for (1); expiry_time, in milliseconds since 1970 (the latest that the quota
// allows; a later one means the same); label, a note of at most 255 bytes; username and
// email, which pin the invitation to a name or an address ([register.Pin]). The value is made
// up, so that nobody learns by trying which tokens there are.
//
// The answer is the invitation: token, uses_allowed, pending, completed, expiry_time (null:
// never), label, created_ts, revoked, valid, invalid_reason (revoked, expired or exhausted),
// username and email if it is pinned, and invite_url if there is one. The list has them in
// invites, a next_token if there are more, to be sent as from, and the quota: live, daily,
// uses and life_ms (absent: no limit). It takes limit, at most 1000, which is also the default.
//
// Whoever has reached the quota gets 403 M_RESOURCE_LIMIT_EXCEEDED, and whoever may not invite
// 403 M_FORBIDDEN. The invitation of somebody else is 404 M_NOT_FOUND, as if there were none.
// A member can revoke what they have made, and not take that back.
package invites

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/observe"
	"github.com/matrix-uia/uia/register"
)

// Path is where the API is expected. It is no path of the Client-Server API.
const Path = "/_uia/v1/invites"

// Quota is what a member may do. The zero value lets them invite nobody.
type Quota struct {
	// Live is how many of the member's invitations may be live at once: neither revoked,
	// nor expired, nor used up. Zero or less means that the member may not invite.
	Live int
	// Daily is how many the member may make within 24 hours, whatever becomes of them.
	// Zero or less means ten times Live. It keeps a member who makes and revokes
	// invitations all the time from filling the store.
	Daily int
	// Uses is how many accounts one invitation may be good for. Zero or less means 1.
	Uses int64
	// Life is how long an invitation may be good. Zero means DefaultLife, a negative one
	// that invitations need not expire.
	Life time.Duration
}

// DefaultLife is how long an invitation is good unless the quota says otherwise.
const DefaultLife = 7 * 24 * time.Hour

// normal returns the quota with its defaults filled in. A negative Life stays.
func (q Quota) normal() Quota {
	q.Live = max(q.Live, 0)
	if q.Daily <= 0 {
		q.Daily = min(q.Live, math.MaxInt/10) * 10
	}
	q.Uses = min(max(q.Uses, 1), uia.MaxUses)
	if q.Life == 0 {
		q.Life = DefaultLife
	}
	return q
}

// Options are the options of [New]. The zero value is good.
type Options struct {
	// Path is where Handler is mounted, as it sees it. Empty means Path.
	Path string
	// CheckMeta returns what is wrong with the name or address that an invitation is pinned
	// to: Registration.CheckMeta of package register, where that is used. Nil means that the
	// pin has to be readable ([register.ReadPin]).
	CheckMeta func(meta json.RawMessage) error
	// InviteURL is the link that a member hands to somebody, with {token} in it; see
	// admin.Options. Empty means none.
	InviteURL string
	// Secrets seal next_token; see admin.Options. Nil makes one up.
	Secrets uia.Secrets
	// Observer is called with the events of invitations that are made and revoked. Their By
	// is the member. Nil for none.
	Observer func(context.Context, uia.Event)
	// Logger gets what goes wrong. Nil discards it. It never sees a token.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}

// Invites serves the invitations of members. Make one with New. It is safe for concurrent
// use.
type Invites struct {
	store        uia.InviteStore
	authenticate func(*http.Request) (string, error)
	quota        func(ctx context.Context, userID string) (Quota, error)
	opts         Options
	log          *slog.Logger
	now          func() time.Time
	observe      func(context.Context, uia.Event)
	pages        api.Pages
}

// New returns the invitations in store.
//
// authenticate returns the full user ID of the member who sent a request. It is called for
// every request but a CORS preflight. If it returns an error nothing is done: an *uia.Error is
// answered as it is (401 M_MISSING_TOKEN, 401 M_UNKNOWN_TOKEN), any other is logged and answered
// with 500. It must refuse guests, deactivated and locked accounts. It must not trust what
// a browser sends by itself, such as a cookie: an access token in the Authorization header is
// right. In case it does so anyway, a request which changes something, has no access token
// there, and comes from a page of another origin is refused with 403 M_FORBIDDEN.
//
// quota returns what a member may do, by their role for example.
//
// The error says what is missing, and which options are not what they have to be.
func New(store uia.InviteStore, authenticate func(*http.Request) (userID string, err error),
	quota func(ctx context.Context, userID string) (Quota, error), opts *Options) (*Invites, error) {
	if opts == nil {
		opts = &Options{}
	}
	i := &Invites{store: store, authenticate: authenticate, quota: quota, opts: *opts, log: opts.Logger, now: opts.Now}
	if i.log == nil {
		i.log = slog.New(slog.DiscardHandler)
	}
	if i.now == nil {
		i.now = time.Now
	}
	i.observe = observe.Safely(opts.Observer, i.log)
	if i.opts.CheckMeta == nil {
		i.opts.CheckMeta = func(meta json.RawMessage) error {
			_, err := register.ReadPin(meta)
			return err
		}
	}
	if i.opts.Path = strings.TrimSuffix(i.opts.Path, "/"); i.opts.Path == "" {
		i.opts.Path = Path
	}
	var m mistake.List
	m.Add("", mistake.Required("the store", !mistake.IsNil(store)))
	m.Add("", mistake.Required("authenticate", authenticate != nil))
	m.Add("", mistake.Required("quota", quota != nil))
	if !strings.HasPrefix(i.opts.Path, "/") {
		m.Addf("Path does not begin with a slash")
	}
	if opts.InviteURL != "" && !strings.Contains(opts.InviteURL, "{token}") {
		m.Addf("InviteURL has no {token}")
	}
	var err error
	i.pages, err = api.NewPages(context.Background(), opts.Secrets, "invites pages", i.now())
	m.Add("Secrets: ", err)
	if err := m.Err(); err != nil {
		return nil, mistake.In("invites: ", err)
	}
	return i, nil
}

// quotaOf returns the quota of a member.
func (i *Invites) quotaOf(ctx context.Context, userID string) (Quota, error) {
	q, err := i.quota(ctx, userID)
	return q.normal(), err
}

// errUser says that authenticate has returned no user: an account that everybody shares would
// list and revoke the invitations of everybody.
var errUser = errors.New("invites: authenticate has returned no user ID and no error")
