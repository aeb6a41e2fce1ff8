package uia

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia/internal/mistake"
	"github.com/matrix-uia/uia/internal/wire"
)

// The names under which the stage has been proposed and specified. A homeserver
// registers one TokenStage for each name it offers.
const (
	TokenType         = "m.login.registration_token"                  // Client-Server API since v1.2
	TokenTypeUnstable = "org.matrix.msc3231.login.registration_token" // MSC3231 before it was merged
	TokenTypeDraft    = "m.registration.token"                        // MSC3231, first draft
	TokenTypeDraft2   = "org.matrix.msc3231.registration.token"       // its unstable prefix
)

// DefaultHoldTTL is how long a token's use is held firmly for a session.
const DefaultHoldTTL = 30 * time.Second

// TokenStage is m.login.registration_token (MSC3231): it passes for a token that
// has a use left, and sets that use aside until an account is made from it or
// the session is abandoned.
//
// Unknown, malformed, expired, revoked, used-up and held tokens fail alike, with 401
// M_UNAUTHORIZED; a missing one with M_MISSING_PARAM, which is not charged.
type TokenStage struct {
	// Store keeps the tokens. Required.
	Store TokenStore
	// AuthType is the name of the stage; empty means TokenType.
	AuthType string
	// HoldTTL is how long nobody else can have the use after the session's last request;
	// each request of the session renews the hold when less than half of it is left.
	// After HoldTTL the use stays the session's until another session needs it. Zero
	// means DefaultHoldTTL, which is right if no later stage takes a person's time. If
	// slow stages follow, 10 minutes are right.
	HoldTTL time.Duration
}

var (
	_ ConfiguredStage = (*TokenStage)(nil)
	_ TxStage         = (*TokenStage)(nil)
	_ Sweeper         = (*TokenStage)(nil)
)

// TokenResult is what a passed TokenStage leaves in the session.
type TokenResult struct {
	// Token is the token's value.
	Token string `json:"token"`
	// Meta is the token's Meta at the time of the attempt; nil if it has none.
	Meta json.RawMessage `json:"meta,omitempty"`
	// Until is when the hold lapses, in milliseconds since 1970.
	Until int64 `json:"until"`
}

// Token returns what the session's token stage left, under whichever name it was
// completed, and false if none was.
func (s *Session) Token() (TokenResult, bool) {
	for _, c := range s.completed {
		switch c.Type {
		case TokenType, TokenTypeUnstable, TokenTypeDraft, TokenTypeDraft2:
			r, err := tokenResult(c.Result)
			return r, err == nil
		}
	}
	return TokenResult{}, false
}

func tokenResult(result json.RawMessage) (r TokenResult, err error) {
	err = json.Unmarshal(result, &r)
	return r, err
}

// heldToken returns the fingerprint of the token that a stage's result is about; ""
// if it is about something else.
func heldToken(result json.RawMessage) string {
	r, err := tokenResult(result)
	if err != nil || r.Token == "" {
		return ""
	}
	return Fingerprint(r.Token)
}

// GenerateToken returns a random token of n of the characters A-Z and 2-7; an n
// below 1 or above MaxTokenLength means 16, which has 80 bits.
func GenerateToken(n int) string {
	if n < 1 || n > MaxTokenLength {
		n = 16
	}
	s := rand.Text()
	for len(s) < n {
		s += rand.Text()
	}
	return s[:n]
}

// Configured reports a Store that is missing, and a HoldTTL that is negative.
func (t *TokenStage) Configured() error {
	err := mistake.Required("Store", !mistake.IsNil(t.Store))
	if t.HoldTTL < 0 {
		err = errors.Join(err, errors.New("HoldTTL is negative"))
	}
	return err
}

// Type returns the AuthType.
func (t *TokenStage) Type() string {
	if t.AuthType == "" {
		return TokenType
	}
	return t.AuthType
}

func (t *TokenStage) holdTTL() time.Duration {
	if t.HoldTTL <= 0 {
		return DefaultHoldTTL
	}
	return t.HoldTTL
}

// refuseToken returns the same answer for every token that cannot be used, so that a
// wrong guess reveals nothing about the token.
func refuseToken(cause error) error {
	return &Error{
		Status:      http.StatusUnauthorized,
		MatrixError: spec.MatrixError{ErrCode: wire.CodeUnauthorized, Err: "The registration token is not valid, or somebody is registering with it right now. Try again in a minute."},
		Cause:       cause,
	}
}

// Attempt looks the token up. It only reads: a wrong guess costs no write.
func (t *TokenStage) Attempt(ctx context.Context, s *Session, auth json.RawMessage) (json.RawMessage, error) {
	var value string
	if ok, err := Field(auth, "token", &value); err != nil {
		return nil, err
	} else if !ok {
		return nil, NewError(http.StatusBadRequest, spec.MissingParam("The member token of auth is missing."))
	}
	value = strings.TrimSpace(value) // white space comes with copying
	if !ValidTokenValue(value) {
		return nil, refuseToken(nil)
	}
	token, err := t.Store.Token(ctx, value, s.Now)
	if errors.Is(err, ErrNotFound) {
		return nil, refuseToken(err)
	}
	if err != nil {
		return nil, err
	}
	// A pending use may be this session's own, of a request whose answer was lost or that
	// runs at the same time. Hold finds out.
	if err := token.Usable(s.Now); err != nil && !(errors.Is(err, ErrExhausted) && token.Pending > 0) {
		return nil, refuseToken(err)
	}
	return json.Marshal(TokenResult{Token: value, Meta: token.Meta})
}

// Hold reserves a use, or renews the hold when less than half of it is left. A loose
// hold is one that has lapsed.
func (t *TokenStage) Hold(ctx context.Context, c TxClaim) (json.RawMessage, error) {
	r, err := tokenResult(c.Result)
	if err != nil {
		return nil, err
	}
	left, until := r.Until-c.Now.UnixMilli(), c.Now.Add(t.holdTTL())
	switch {
	case c.Hold == HoldFirmly && left > t.holdTTL().Milliseconds()/2, c.Hold == HoldLoosely && left <= 0:
		return c.Result, nil
	case c.Hold == HoldLoosely:
		until = c.Now
	}
	err = t.Store.Reserve(ctx, Hold{Token: r.Token, Session: c.Key, Until: until}, c.Now)
	if err != nil {
		return nil, t.asRefusal(err)
	}
	r.Until = until.UnixMilli()
	return json.Marshal(r)
}

// asRefusal turns each reason of the store for which the session has no use into the one
// answer of the stage. ErrSpent is not such a reason: it means that the account exists.
func (t *TokenStage) asRefusal(err error) error {
	for _, reason := range [...]error{ErrNotFound, ErrRevoked, ErrExpired, ErrExhausted, ErrNotHeld} {
		if errors.Is(err, reason) {
			return refuseToken(err)
		}
	}
	return err
}

// Begin pins the use.
func (t *TokenStage) Begin(ctx context.Context, c TxClaim) error {
	claim, err := tokenClaim(c)
	if err != nil {
		return err
	}
	return t.asRefusal(t.Store.Pin(ctx, claim, c.Now))
}

// Commit spends the use.
func (t *TokenStage) Commit(ctx context.Context, c TxClaim, userID string) error {
	claim, err := tokenClaim(c)
	if err != nil {
		return err
	}
	return t.Store.Commit(ctx, claim, userID, c.Now)
}

// Rollback makes the use held again. The hold has lapsed: the use is the session's until
// another session needs it.
func (t *TokenStage) Rollback(ctx context.Context, c TxClaim) error {
	claim, err := tokenClaim(c)
	if err != nil {
		return err
	}
	return t.Store.Unpin(ctx, claim, c.Now, c.Now)
}

// Release gives the use back, unless kept is of the same token.
func (t *TokenStage) Release(ctx context.Context, c TxClaim, kept json.RawMessage) error {
	claim, err := tokenClaim(c)
	if err != nil {
		return err
	}
	if kept != nil {
		if r, err := tokenResult(kept); err == nil && r.Token == claim.Token {
			return nil
		}
	}
	return t.Store.Release(ctx, claim)
}

// InDoubt lists the uses that have been pinned since before the given time.
func (t *TokenStage) InDoubt(ctx context.Context, before time.Time, limit int) ([]TxClaim, error) {
	uses, err := t.Store.PinnedUses(ctx, before, limit)
	if err != nil {
		return nil, err
	}
	claims := make([]TxClaim, 0, len(uses))
	for _, u := range uses {
		result, err := json.Marshal(TokenResult{Token: u.Token})
		if err != nil {
			return nil, err
		}
		claims = append(claims, TxClaim{Key: u.Session, Run: u.Run, Result: result})
	}
	return claims, nil
}

// Sweep deletes at most 20,000 holds that lapsed before the given time, in batches,
// between which registrations get their turn.
func (t *TokenStage) Sweep(ctx context.Context, since time.Time) (total int, err error) {
	for range 20 {
		n, err := t.Store.SweepHolds(ctx, since, sweepBatch)
		if total += n; err != nil || n < sweepBatch {
			return total, err
		}
	}
	return total, nil
}

func tokenClaim(c TxClaim) (Claim, error) {
	r, err := tokenResult(c.Result)
	return Claim{Token: r.Token, Session: c.Key, Run: c.Run}, err
}
