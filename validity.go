package uia

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/wire"
)

// The paths of the validity endpoint: Client-Server API, and MSC3231 before it was
// merged.
const (
	ValidityPath         = "/_matrix/client/v1/register/m.login.registration_token/validity"
	ValidityPathUnstable = "/_matrix/client/unstable/org.matrix.msc3231/register/org.matrix.msc3231.login.registration_token/validity"
)

// ValidityOptions are the options of [ValidityHandler].
type ValidityOptions struct {
	// Disabled reports whether registration is off, in which case every answer is
	// 403 M_FORBIDDEN. It is asked for each request, which tells virtual hosts apart. Nil
	// means that it is on.
	Disabled func(*http.Request) bool
}

var errValidityOff = NewError(http.StatusForbidden, spec.Forbidden("Registration is not enabled on this homeserver."))

// ValidityHandler answers GET .../validity?token= with 200 {"valid": true} or {"valid":
// false} (Client-Server API, "Token-authenticated registration"). Unknown, malformed,
// expired, revoked and used-up tokens, and those whose uses are all held at the moment,
// look alike. An answer is one read of the store, and false is charged to the same budget
// as a failed stage: the engine's Limiter. A client that asks after each key stroke
// spends one failure for every character. The host chooses the path; opts may be nil. The
// error says that the engine or the store is nil.
func ValidityHandler(e *Engine, tokens TokenStore, opts *ValidityOptions) (http.Handler, error) {
	if e == nil || mistake.IsNil(tokens) {
		return nil, errors.New("uia: ValidityHandler needs an engine and a TokenStore")
	}
	if opts == nil {
		opts = &ValidityOptions{}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			wire.MethodNotAllowed(w, r, "GET, HEAD")
			return
		}
		if opts.Disabled != nil && opts.Disabled(r) {
			e.WriteError(w, r, errValidityOff)
			return
		}
		valid, err := e.valid(r, tokens)
		if err != nil {
			e.WriteError(w, r, fmt.Errorf("uia: whether a token is valid: %w", err))
			return
		}
		e.WriteJSON(w, r, http.StatusOK, struct {
			Valid bool `json:"valid"`
		}{valid})
	}), nil
}

// validityOperation stands in events for the operation of the endpoint, which has none.
const validityOperation = "validity"

// LookUpToken looks at a token for somebody who wants to register with it: for a page on
// which an invitation ends, for example. It is one read of the store. A token that nobody
// could register with now is charged to the client's budget, like a failed stage, and the
// error is [ErrNotFound], [ErrRevoked], [ErrExpired] or [ErrExhausted]: the page may say
// which, because who has the link has the token. With the last three the token is
// returned as well; an exhausted one with Pending uses may be free again in a minute. Any
// other error is for [Answer]: a *LimitError if the client's budget is spent, or what the
// store has returned.
func (e *Engine) LookUpToken(ctx context.Context, client netip.Addr, tokens TokenStore, value string) (Token, error) {
	settle, err := e.charge(ctx, client)
	if err != nil {
		return Token{}, err
	}
	defer settle(false) // if the store panics or fails; after the first call it does nothing
	token, err := e.usable(ctx, tokens, strings.TrimSpace(value))
	why, known := storeReason(err)
	if err == nil || !known {
		return token, err
	}
	settle(true)
	e.observe(ctx, Event{Kind: EventStageFailed, Operation: validityOperation, Stage: TokenType, Client: client, Reason: why})
	return token, err
}

// usable returns the token, and why nobody could register with it now; nil if somebody
// could.
func (e *Engine) usable(ctx context.Context, tokens TokenStore, value string) (Token, error) {
	if !ValidTokenValue(value) {
		return Token{}, ErrNotFound
	}
	now := e.now()
	token, err := tokens.Token(ctx, value, now)
	if err != nil {
		return Token{}, err
	}
	return token, token.Usable(now)
}

func (e *Engine) valid(r *http.Request, tokens TokenStore) (bool, error) {
	query := r.URL.Query() // a part that cannot be decoded counts as absent
	switch values := query["token"]; len(values) {
	case 0:
		return false, NewError(http.StatusBadRequest, spec.MissingParam("The query parameter token is missing."))
	case 1:
	default:
		return false, NewError(http.StatusBadRequest, spec.InvalidParam("The query parameter token is there more than once."))
	}
	var client netip.Addr
	if e.cfg.Client != nil {
		client = e.cfg.Client(r)
	}
	_, err := e.LookUpToken(r.Context(), client, tokens, query.Get("token"))
	if _, known := storeReason(err); known {
		return false, nil
	}
	return err == nil, err
}
