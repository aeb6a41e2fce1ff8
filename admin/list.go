package admin

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

const (
	// maxOffset bounds a from that is a number.
	maxOffset = 10_000
	// maxParts bounds how many pages of the store one answer is made of. A full one
	// is made of two.
	maxParts = 4
)

// page is a page of tokens.
type page struct {
	Tokens []record `json:"registration_tokens"`
	Next   string   `json:"next_token,omitempty"`
	Total  *int64   `json:"total,omitempty"`
}

// orders are the fields that a list can be ordered by.
var orders = map[string]uia.TokenOrder{
	"token":        uia.ByValue,
	"created_ts":   uia.ByCreated,
	"expiry_time":  uia.ByExpires,
	"uses_allowed": uia.ByUsesAllowed,
}

// listing is what GET on the list asks for.
type listing struct {
	uia.TokenQuery
	name   string // what its pages have in common
	offset int    // from, if it is a number
	// follows says that the client knows next_token: it has followed one, or it asks for
	// a label, which only this API has.
	follows bool
}

func (h *handler) list(r *request) (any, error) {
	l, err := h.listingOf(r)
	if err != nil {
		return nil, err
	}
	found, err := h.read(r.Context(), l, r.now)
	if err != nil {
		return nil, refusal(err)
	}
	out := page{Tokens: h.records(found.Tokens, r.now)}
	if l.Total {
		out.Total = &found.Total
	}
	if found.Next != nil {
		if out.Next, err = h.pages.Seal(r.Context(), r.now, l.name, found.Next); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// listingOf reads the query. An order that is not offered is ignored, as are unknown
// parameters: web interfaces send both.
func (h *handler) listingOf(r *request) (l listing, err error) {
	q, err := api.ReadQuery(r.Request)
	if err != nil {
		return l, err
	}
	if l.Valid, err = q.Flag("valid"); err != nil {
		return l, err
	}
	total, err := q.Flag("total")
	if err != nil {
		return l, err
	}
	l.Total = total != nil && *total
	if l.Limit, err = q.Limit(); err != nil {
		return l, err
	}
	l.LabelPrefix = q.Get("label")
	l.follows = l.LabelPrefix != ""
	l.Order = orders[q.Get("order_by")]
	l.Descending = q.Get("dir") == "b"
	l.name = fmt.Sprintf("tokens %d %t %q %q", l.Order, l.Descending, q.Get("valid"), l.LabelPrefix)
	switch from := q.Get("from"); {
	case from == "":
	case api.Digits(from) && len(from) <= 20:
		l.offset, err = strconv.Atoi(from)
		if err != nil || l.offset > maxOffset {
			return l, api.Invalid(fmt.Sprintf("from can count at most %d tokens: use next_token", maxOffset))
		}
	default:
		l.After, l.follows = new(uia.TokenCursor), true
		err = h.pages.Open(r.Context(), r.now, l.name, from, l.After)
	}
	return l, err
}

// read returns the page. A client that does not follow a next_token gets what a few pages
// of the store have together, because it would take a short page for the whole list.
func (h *handler) read(ctx context.Context, l listing, now time.Time) (out uia.TokenPage, err error) {
	q, want, skip := l.TokenQuery, l.Limit, l.offset
	parts := max(2, min(maxParts, 2*api.MaxLimit/want))
	for part := range maxParts + maxOffset/api.MaxLimit {
		q.Limit = min(want-len(out.Tokens)+skip, api.MaxLimit)
		found, err := h.store.ListTokens(ctx, q, now)
		if err != nil {
			return out, err
		}
		if part == 0 {
			out.Total = found.Total
			q.Total = false
		}
		skipped := min(skip, len(found.Tokens))
		skip -= skipped
		out.Tokens = append(out.Tokens, found.Tokens[skipped:]...)
		out.Next, q.After = found.Next, found.Next
		if found.Next == nil || len(out.Tokens) == want || skip == 0 && (l.follows || part >= parts-1) {
			break
		}
	}
	return out, nil
}
