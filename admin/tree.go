package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

// maxRevoked is how many accounts one request looks at whose invitations it revokes, and
// revokedAtOnce how many tokens one transaction revokes.
const (
	maxRevoked    = 10_000
	revokedAtOnce = 100
)

// member is an account and how it came here, as clients see it.
type member struct {
	UserID    string `json:"user_id"`
	InvitedBy string `json:"invited_by"`
	Joined    *int64 `json:"joined_ts,omitempty"`
	Token     string `json:"token,omitempty"`
	Depth     int    `json:"depth"`
	// More says that the accounts below this one are too deep for the tree.
	More bool `json:"more,omitempty"`
}

type tree struct {
	member
	Members []member `json:"members"`
	Next    string   `json:"next_token,omitempty"`
}

// invites returns the store as one that knows who has invited whom.
func (h *handler) invites() (uia.InviteStore, error) {
	store, ok := h.store.(uia.InviteStore)
	if !ok {
		return nil, uia.NewError(http.StatusNotFound, spec.Unrecognized("The token store does not know who has invited whom"))
	}
	return store, nil
}

// tree shows an account and those below it: whom it has invited, whom they have invited,
// and so on. Each account is followed by those below it.
func (h *handler) tree(r *request) (any, error) {
	params, err := api.ReadQuery(r.Request)
	if err != nil {
		return nil, err
	}
	limit, err := params.Limit()
	if err != nil {
		return nil, err
	}
	w, err := h.walk(r, params.Get("from"))
	if err != nil {
		return nil, err
	}
	out := tree{member: member{UserID: r.user}, Members: []member{}} // never null
	switch use, err := w.store.InviteOf(r.Context(), r.user); {
	case err == nil:
		out.member = memberOf(use, 0)
	case !errors.Is(err, uia.ErrNotFound):
		return nil, err
	}
	for len(out.Members) < limit {
		a, ok, err := w.next(r.Context(), limit-len(out.Members))
		if err != nil {
			return nil, err
		}
		if !ok {
			return out, nil
		}
		m := memberOf(a.Use, a.depth)
		m.More = a.cut
		out.Members = append(out.Members, m)
	}
	out.Next, err = h.sealWalk(r, out.Members[len(out.Members)-1].UserID)
	return out, err
}

func memberOf(u uia.Use, depth int) member {
	return member{UserID: u.UserID, InvitedBy: u.InvitedBy, Joined: api.Milliseconds(u.Changed), Token: u.Token, Depth: depth}
}

type revoked struct {
	Revoked int    `json:"revoked"` // tokens
	Members int    `json:"members"` // accounts whose tokens were looked at
	Next    string `json:"next_token,omitempty"`
}

// revokeAll revokes the invitations of an account and, if the body asks for the branch,
// those of every account below it. An account comes before those that it has invited, so
// that nobody is invited behind the walk's back.
func (h *handler) revokeAll(r *request) (any, error) {
	body, err := api.ReadObject(r.Request)
	if err != nil {
		return nil, err
	}
	branch, err := body.Flag("branch")
	if err != nil {
		return nil, err
	}
	from, err := body.Text("from")
	if err != nil {
		return nil, err
	}
	if from != "" && !branch {
		return nil, api.Invalid("from belongs to a branch")
	}
	w, err := h.walk(r, from)
	if err != nil {
		return nil, err
	}
	var out revoked
	if from == "" {
		if err := h.revokeOf(r, w.store, r.user, &out); err != nil || !branch {
			return out, err
		}
	}
	for last := ""; ; {
		if out.Members >= maxRevoked && last != "" {
			out.Next, err = h.sealWalk(r, last)
			return out, err
		}
		a, ok, err := w.next(r.Context(), api.MaxLimit)
		if err != nil || !ok {
			return out, err
		}
		if err := h.revokeOf(r, w.store, a.UserID, &out); err != nil {
			return out, err
		}
		last = a.UserID
	}
}

// revokeOf revokes what one account has created, and adds to what was done.
func (h *handler) revokeOf(r *request, store uia.InviteStore, user string, done *revoked) error {
	done.Members++
	for {
		values, err := store.RevokeCreated(r.Context(), user, revokedAtOnce, r.now)
		for _, value := range values {
			done.Revoked++
			h.observe(r.Context(), uia.Event{Kind: uia.EventTokenRevoked, Token: uia.Fingerprint(value), By: r.by})
		}
		if err != nil || len(values) < revokedAtOnce {
			return refusal(err)
		}
	}
}

// walk begins a walk below the account that the path names, or goes on with one.
func (h *handler) walk(r *request, from string) (*walker, error) {
	store, err := h.invites()
	if err != nil {
		return nil, err
	}
	w := &walker{store: store, root: r.user}
	if from == "" {
		w.below(r.user)
		return w, nil
	}
	var last string
	if err := h.pages.Open(r.Context(), r.now, walkName(r), from, &last); err != nil {
		return nil, err
	}
	return w, w.resume(r.Context(), last)
}

func (h *handler) sealWalk(r *request, last string) (string, error) {
	return h.pages.Seal(r.Context(), r.now, walkName(r), last)
}

func walkName(r *request) string { return "tree " + r.user }

// maxDepth bounds how deep a walk goes, and so how many steps back to the root it takes.
const maxDepth = 10_000

// walker goes through the accounts below a root, each before those that it has invited.
// It keeps no list of where it has been, because an account belongs to one inviter: the
// one account that it could meet again is the root.
type walker struct {
	store uia.InviteStore
	root  string
	path  []*place // from the root to where the walk is
}

// place is how far the walk has come among the accounts that somebody has invited.
type place struct {
	inviter string
	after   *uia.UseCursor
	read    []uia.Invited // what the store has returned of them and the walk has not
	done    bool          // the store has no more of them
}

// account is an account at which the walk arrives.
type account struct {
	uia.Invited
	depth int
	cut   bool // there are accounts below it, and the walk does not go there
}

func (w *walker) below(inviter string) { w.path = append(w.path, &place{inviter: inviter}) }

// next returns the next account; false if there is none. want is how many the caller
// still asks for.
func (w *walker) next(ctx context.Context, want int) (account, bool, error) {
	for len(w.path) > 0 {
		p := w.path[len(w.path)-1]
		if len(p.read) == 0 && p.done {
			w.path = w.path[:len(w.path)-1]
			continue
		}
		if len(p.read) == 0 {
			page, err := w.store.ListInvited(ctx, uia.InvitedQuery{InvitedBy: p.inviter, After: p.after, Limit: min(want, 100)})
			if err != nil {
				return account{}, false, err
			}
			p.read, p.after, p.done = page.Invited, page.Next, page.Next == nil
			continue
		}
		a := account{Invited: p.read[0], depth: len(w.path)}
		p.read = p.read[1:]
		if a.UserID == w.root {
			continue
		}
		if a.Invites && a.depth < maxDepth {
			w.below(a.UserID)
		} else {
			a.cut = a.Invites
		}
		return a, true, nil
	}
	return account{}, false, nil
}

// resume goes to where the walk was when it had returned this account last.
func (w *walker) resume(ctx context.Context, last string) error {
	var up []*place // from the account to the root
	for user := last; user != w.root; {
		use, err := w.store.InviteOf(ctx, user)
		if errors.Is(err, uia.ErrNotFound) || len(up) == maxDepth {
			return api.ErrFrom // an account has come to another inviter since
		}
		if err != nil {
			return err
		}
		up = append(up, &place{inviter: use.InvitedBy, after: &uia.UseCursor{Made: use.Made, Session: use.Session}})
		user = use.InvitedBy
	}
	for i := range up {
		w.path = append(w.path, up[len(up)-1-i])
	}
	if len(w.path) < maxDepth {
		w.below(last)
	}
	return nil
}

// isUser reports whether an element of a path is a user ID: no token begins like one.
func isUser(element string) bool {
	return strings.HasPrefix(element, "@") && len(element) <= maxUserID && !strings.ContainsFunc(element, func(c rune) bool { return c <= ' ' || c == 0x7f })
}

const maxUserID = 255
