package admin

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

// use is one use of a token as clients see it.
type use struct {
	State   string `json:"state"` // held, lapsed, pinned or spent
	UserID  string `json:"user_id,omitempty"`
	Session string `json:"session"` // uia.Session.Key, which audit logs have too
	Made    int64  `json:"made_ts"`
	Changed int64  `json:"changed_ts"`
	Until   *int64 `json:"until_ts,omitempty"`
}

type usesPage struct {
	Uses []use  `json:"uses"`
	Next string `json:"next_token,omitempty"`
}

// uses lists the uses of a token, newest first.
func (h *handler) uses(r *request) (any, error) {
	params, err := api.ReadQuery(r.Request)
	if err != nil {
		return nil, err
	}
	deleted, err := params.Flag("deleted")
	if err != nil {
		return nil, err
	}
	q := uia.UseQuery{Token: r.token, Deleted: deleted != nil && *deleted}
	if !q.Deleted {
		if _, err := h.find(r); err != nil {
			return nil, err
		}
	}
	list := fmt.Sprintf("uses %s %t", r.token, q.Deleted)
	if q.Limit, err = params.Limit(); err != nil {
		return nil, err
	}
	if from := params.Get("from"); from != "" && from != "0" {
		q.After = new(uia.UseCursor)
		if err := h.pages.Open(r.Context(), r.now, list, from, q.After); err != nil {
			return nil, err
		}
	}
	found, err := h.store.ListUses(r.Context(), q)
	if err != nil {
		return nil, refusal(err)
	}
	out := usesPage{Uses: make([]use, len(found.Uses))} // never null
	for i, u := range found.Uses {
		out.Uses[i] = use{
			State: stateOf(u, r.now), UserID: u.UserID, Session: u.Session,
			Made: u.Made.UnixMilli(), Changed: u.Changed.UnixMilli(), Until: api.Milliseconds(u.Until),
		}
	}
	if found.Next != nil {
		out.Next, err = h.pages.Seal(r.Context(), r.now, list, found.Next)
	}
	return out, err
}

// release gives back a use that is held.
func (h *handler) release(r *request) (any, error) {
	// Release as the highest possible run: a held use cannot bear a higher one, and a
	// pinned use bears another one and is refused.
	err := uia.ErrNotHeld
	if !strings.ContainsFunc(r.session, func(c rune) bool { return c <= ' ' || c > '~' }) { // otherwise it is no key, and a database may fail on it
		err = h.store.Release(r.Context(), uia.Claim{Token: r.token, Session: r.session, Run: math.MaxInt64})
	}
	switch {
	case errors.Is(err, uia.ErrNotFound), errors.Is(err, uia.ErrNotHeld):
		return nil, uia.NewError(http.StatusNotFound, spec.NotFound("This session holds no use of the registration token that could be given back"))
	case errors.Is(err, uia.ErrSpent):
		return nil, uia.NewError(http.StatusConflict, spec.Forbidden("An account was made from this use: it stays spent"))
	case err != nil:
		return nil, err
	}
	operation, _, _ := strings.Cut(r.session, ".") // see uia.Session.Key
	h.observe(r.Context(), uia.Event{
		Kind: uia.EventUseReleased, Token: uia.Fingerprint(r.token), By: r.by, Operation: operation, Session: r.session,
	})
	return struct{}{}, nil
}

func stateOf(u uia.Use, now time.Time) string {
	switch {
	case u.State == uia.Held && !now.Before(u.Until):
		return "lapsed" // another session may take its place
	case u.State == uia.Held:
		return "held"
	case u.State == uia.Pinned:
		return "pinned"
	}
	return "spent"
}
