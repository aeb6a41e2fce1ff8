package conformance

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// tokenMutants are broken in what they do with tokens.
var tokenMutants = []mutant{
	{name: "spends at the stage", by: "token/the-stage-alone-spends-nothing", store: func(s uia.Store) uia.Store { return spendsAtStage{s} }},
	{name: "forgets to give back", by: "token/a-refused-registration-keeps-the-token", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if token := x.authString("token"); token != "" {
			b.put(id, token)
		}
		if x.errcode() == "M_USER_IN_USE" && b.get(id) != "" {
			_, _ = b.tokens.UpdateToken(context.Background(), b.get(id), uia.TokenPatch{Revoked: new(true)}, time.Now())
		}
	}},
	{name: "double-spends in a race", by: "races/one-use-one-account", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "double-spends in a race of single stages", flow: "T", by: "races/one-use-one-account", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "lets two sessions hold one use", by: "token/a-held-use-is-nobody-elses", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "takes expired tokens", by: "token/an-expired-token-is-401", store: func(s uia.Store) uia.Store { return neverExpires{s} }},
	{name: "has no unlimited tokens", by: "token/an-unlimited-token-has-no-limit", store: func(s uia.Store) uia.Store { return alwaysLimited{s} }},
	{name: "leaks the reason", by: "token/the-reason-is-not-told", answer: func(b *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			if _, err := b.tokens.Token(context.Background(), x.authString("token"), time.Now()); err == nil {
				x.json["error"] = "The token has been used."
			}
		}
	}},
	{name: "echoes the token", by: "token/the-token-is-not-echoed", answer: func(_ *backend, x *exchange) {
		if token := x.authString("token"); token != "" && x.json != nil {
			x.json["token"] = token
		}
	}},
	{name: "folds the case of tokens", by: "token/tokens-are-case-sensitive", answer: func(_ *backend, x *exchange) {
		if token := x.authString("token"); x.errcode() == "M_UNAUTHORIZED" {
			x.send(with(x.sent, "auth", with(x.auth(), "token", strings.ToLower(token))))
		}
	}},
	{name: "breaks on a token that is no string", by: "token/a-token-that-is-no-string/number", answer: func(_ *backend, x *exchange) {
		if _, ok := x.auth()["token"].(float64); ok {
			x.refuse(500, "M_UNKNOWN")
		}
	}},
	{name: "has tokens of 63 characters at most", by: "token/a-token-of-64-characters", answer: func(_ *backend, x *exchange) {
		if len(x.authString("token")) == 64 && x.status < 402 {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
}

// spendsAtStage shows a held use as spent.
type spendsAtStage struct{ uia.Store }

func (s spendsAtStage) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	t, err := s.Store.Token(ctx, value, now)
	t.Completed, t.Pending = t.Completed+t.Pending, 0
	return t, err
}

// overdraws makes room for whoever comes while the last use is not spent yet.
type overdraws struct{ uia.Store }

func (s overdraws) Reserve(ctx context.Context, h uia.Hold, now time.Time) error {
	for {
		err := s.Store.Reserve(ctx, h, now)
		if !errors.Is(err, uia.ErrExhausted) {
			return err
		}
		t, err := s.Store.Token(ctx, h.Token, now)
		if err != nil {
			return err
		}
		more := new(*t.UsesAllowed + 1)
		if _, err := s.UpdateToken(ctx, h.Token, uia.TokenPatch{UsesAllowed: &more}, now); err != nil {
			return err
		}
	}
}

// neverExpires forgets when tokens expire.
type neverExpires struct{ uia.Store }

func (s neverExpires) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	for i := range tokens {
		tokens[i].Expires = time.Time{}
	}
	return s.Store.CreateTokens(ctx, tokens...)
}

// alwaysLimited takes any number of uses for one.
type alwaysLimited struct{ uia.Store }

func (s alwaysLimited) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	for i, t := range tokens {
		if t.UsesAllowed == nil {
			tokens[i].UsesAllowed = new(int64(1))
		}
	}
	return s.Store.CreateTokens(ctx, tokens...)
}
