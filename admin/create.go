package admin

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/api"
)

const (
	defaultLength = 16
	maxCount      = 1000
	// maxTries bounds how often values are drawn anew because one of them exists,
	// which happens to very short ones alone.
	maxTries = 32
)

// draft is what POST /new asks for.
type draft struct {
	token uia.Token // all but the value
	value string    // "": draw one
	batch bool      // count was given
	count int
	style func() string
}

func (h *handler) create(r *request) (any, error) {
	body, err := api.ReadObject(r.Request)
	if err != nil {
		return nil, err
	}
	d, err := h.draftOf(body, r.now)
	if err != nil {
		return nil, err
	}
	d.token.Created, d.token.CreatedBy = r.now.UTC().Truncate(time.Millisecond), r.by
	tokens, err := h.make(r, d)
	if err != nil {
		return nil, refusal(err)
	}
	for _, t := range tokens {
		h.observe(r.Context(), uia.Event{
			Kind: uia.EventTokenCreated, Token: uia.Fingerprint(t.Value), By: r.by, UsesAllowed: t.UsesAllowed, Expires: t.Expires,
		})
	}
	if d.batch {
		return page{Tokens: h.records(tokens, r.now)}, nil
	}
	return h.record(tokens[0], r.now), nil
}

// make creates all of the tokens or none.
func (h *handler) make(r *request, d draft) ([]uia.Token, error) {
	if d.value != "" {
		d.token.Value = d.value
		return []uia.Token{d.token}, h.store.CreateTokens(r.Context(), d.token)
	}
	for range maxTries {
		tokens, ok := d.draw()
		if !ok {
			break
		}
		err := h.store.CreateTokens(r.Context(), tokens...)
		if !errors.Is(err, uia.ErrExists) {
			return tokens, err
		}
	}
	return nil, api.Invalid("There are not enough tokens of this length that do not exist yet")
}

// draw makes up values that all differ; false if the style does not have that many.
func (d draft) draw() ([]uia.Token, bool) {
	tokens := make([]uia.Token, 0, d.count)
	seen := make(map[string]bool, d.count)
	for range d.count * maxTries {
		if d.token.Value = d.style(); seen[d.token.Value] {
			continue
		}
		seen[d.token.Value] = true
		if tokens = append(tokens, d.token); len(tokens) == d.count {
			return tokens, true
		}
	}
	return nil, false
}

// draftOf reads a POST /new.
func (h *handler) draftOf(body api.Object, now time.Time) (d draft, err error) {
	if d.token.UsesAllowed, err = body.Integer("uses_allowed", 0, maxInt); err != nil {
		return d, err
	}
	completed, err := body.Integer("completed", 0, maxInt)
	if err != nil {
		return d, err
	}
	if completed != nil {
		d.token.Completed = *completed
	}
	until, err := body.Integer("expiry_time", 0, maxInt)
	if err != nil {
		return d, err
	}
	if d.token.Expires, err = api.Expiry(until, now); err != nil {
		return d, err
	}
	if d.token.Label, err = body.Label(); err != nil {
		return d, err
	}
	if d.token.Meta, err = h.meta(body); err != nil {
		return d, err
	}
	count, err := body.Integer("count", 1, maxCount)
	if err != nil {
		return d, err
	}
	d.count = 1
	if count != nil {
		d.batch, d.count = true, int(*count)
	}
	// A length is checked even if a value is given with it, as one tool does.
	length, err := body.Integer("length", 1, uia.MaxTokenLength)
	if err != nil {
		return d, err
	}
	style, err := body.Text("style")
	if err != nil {
		return d, err
	}
	if d.style, err = h.styleOf(style, length); err != nil {
		return d, err
	}
	if !body.Given("token") {
		return d, nil
	}
	if d.value, err = body.Text("token"); err != nil {
		return d, err
	}
	d.value = strings.TrimSpace(d.value) // white space comes with copying, and is ignored wherever a token is typed
	switch {
	case !uia.ValidTokenValue(d.value):
		return d, api.Invalid(fmt.Sprintf("token must be 1 to %d of the characters A-Z a-z 0-9 . _ ~ -", uia.MaxTokenLength))
	case d.value == "." || d.value == "..":
		return d, api.Invalid("A token of this value could not be managed: browsers and proxies resolve such paths")
	case d.count > 1:
		return d, api.Invalid("count and token exclude each other")
	}
	return d, nil
}
