package conformance

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"

	"github.com/matrix-uia/uia"
)

// tokenMutants are broken in what they do with tokens.
var tokenMutants = []mutant{
	{name: "spends at the stage", store: func(s uia.Store) uia.Store { return spendsAtStage{s} }},
	{name: "forgets to give back", answer: func(b *backend, x *exchange) {
		id := x.authString("session")
		if token := x.authString("token"); token != "" {
			b.put(id, token)
		}
		if x.errcode() == "M_USER_IN_USE" && b.get(id) != "" {
			b.revoke(b.get(id))
		}
	}},
	{name: "makes room while the last use is held", store: func(s uia.Store) uia.Store { return overdraws{s} }},
	{name: "double-spends one after the other", store: func(s uia.Store) uia.Store { return respends{overdraws{s}} }},
	{name: "takes a limit of zero for none", store: func(s uia.Store) uia.Store { return zeroUnlimited{s} }},
	{name: "has no tokens of several uses", store: func(s uia.Store) uia.Store { return single{s} }},
	{name: "takes expired tokens", store: func(s uia.Store) uia.Store { return neverExpires{s} }},
	{name: "has no unlimited tokens", store: func(s uia.Store) uia.Store { return alwaysLimited{s} }},
	{name: "leaks the reason", answer: func(b *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			if b.exists(x.authString("token")) {
				x.json["error"] = "The token has been used."
			}
		}
	}},
	{name: "echoes the token", answer: func(_ *backend, x *exchange) {
		if token := x.authString("token"); token != "" && x.json != nil {
			x.json["token"] = token
		}
	}},
	{name: "folds the case of tokens", answer: func(_ *backend, x *exchange) {
		if token := x.authString("token"); x.errcode() == "M_UNAUTHORIZED" {
			x.send(with(x.sent, "auth", with(x.auth(), "token", strings.ToLower(token))))
		}
	}},
	{name: "knows no token", answer: func(_ *backend, x *exchange) {
		if x.authString("token") != "" && x.errcode() == "" {
			x.refuse(401, "M_UNAUTHORIZED")
		}
	}},
	{name: "takes a missing token for a right one", answer: passes(func(x *exchange) bool { return !x.shows() })},
	{name: "takes an empty token", answer: passes(func(x *exchange) bool { return x.shows() && x.auth()["token"] == "" })},
	{name: "takes any other type for a token", answer: passes(func(x *exchange) bool {
		_, ok := x.auth()["token"].(string)
		return x.shows() && !ok
	})},
	{name: "takes anything long for a token", answer: passes(func(x *exchange) bool { return len(x.authString("token")) > 64 })},
	{name: "takes anything odd for a token", answer: passes(func(x *exchange) bool { return !grammar.MatchString(x.authString("token")) })},
	{name: "answers a missing token with 400", answer: func(_ *backend, x *exchange) {
		if x.authString("type") == uia.TokenType && !x.shows() {
			x.refuse(400, "M_MISSING_PARAM")
		}
	}},
	{name: "breaks on a token that is no string", answer: breaks(func(x *exchange) bool {
		_, ok := x.auth()["token"].(string)
		return x.shows() && !ok
	})},
	{name: "has tokens of letters and digits only", answer: func(_ *backend, x *exchange) {
		if strings.ContainsAny(x.authString("token"), "._~-") {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "takes the token of who is refused", answer: func(b *backend, x *exchange) {
		if x.errcode() == "M_USER_IN_USE" && x.authString("token") != "" {
			b.revoke(x.authString("token"))
		}
	}},
	{name: "refuses members of auth that it does not know", answer: func(_ *backend, x *exchange) {
		if x.register() && len(without(x.auth(), "type", "token", "session")) > 0 {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
	{name: "keeps the username of who fails", answer: func(b *backend, x *exchange) {
		if x.errcode() == "M_UNAUTHORIZED" {
			b.put("kept "+x.user(), x.authString("session"))
		} else if owner := b.get("kept " + x.user()); x.user() != "" && owner != "" && owner != x.authString("session") {
			x.refuse(400, "M_USER_IN_USE")
		}
	}},
	{name: "takes every token of a session", answer: func(b *backend, x *exchange) {
		id, token := x.authString("session"), x.authString("token")
		if token != "" && x.completed() > 0 {
			if first := b.put(id, token); first != "" && first != token {
				b.revoke(token)
				b.put("taken "+token, "yes")
			}
		}
		if x.record() && b.get("taken "+x.one()) != "" {
			x.json["completed"] = 1
		}
	}},
	{name: "has tokens of 63 characters at most", answer: func(_ *backend, x *exchange) {
		if len(x.authString("token")) == 64 && x.status < 402 {
			x.refuse(400, "M_INVALID_PARAM")
		}
	}},
}

// grammar is that of tokens.
var grammar = regexp.MustCompile(`^[A-Za-z0-9._~-]*$`)

// shows reports whether the request shows a token, whatever it is.
func (x *exchange) shows() bool {
	_, ok := x.auth()["token"]
	return ok
}

// passes takes some requests of the token's stage for right ones.
func passes(right func(x *exchange) bool) func(*backend, *exchange) {
	return func(_ *backend, x *exchange) {
		if x.register() && x.authString("type") == uia.TokenType && right(x) {
			x.pass()
		}
	}
}

// raceMutants do wrong when several requests of one session, or of one name, come.
var raceMutants = []mutant{
	{name: "makes an account for each of racing requests", answer: func(_ *backend, x *exchange) {
		if x.authString("type") == "m.login.dummy" {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "spends a use for each of racing requests", answer: func(b *backend, x *exchange) {
		if x.authString("type") == "m.login.dummy" {
			b.count("spent")
		} else if x.record() {
			x.json["completed"] = b.count("spent") - 1
		}
	}},
	{name: "makes two accounts of one username", answer: func(_ *backend, x *exchange) {
		if x.errcode() == "M_USER_IN_USE" && x.authString("session") != "" {
			x.status, x.json = 200, x.made()
		}
	}},
	{name: "registers one account", answer: func(b *backend, x *exchange) {
		if x.register() && x.status == 200 && b.count("accounts") > 1 {
			x.refuse(403, "M_FORBIDDEN")
		}
	}},
	{name: "breaks on a poll beside the final request", answer: breaks((*exchange).poll)},
}

// count counts, and returns how often it has.
func (b *backend) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[what]++
	return b.counts[what]
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

// respends shows a token that is used up as one with a use left.
type respends struct{ overdraws }

func (s respends) Token(ctx context.Context, value string, now time.Time) (uia.Token, error) {
	t, err := s.Store.Token(ctx, value, now)
	if taken := t.Completed + t.Pending; t.UsesAllowed != nil && taken >= *t.UsesAllowed {
		t.UsesAllowed = new(taken + 1)
	}
	return t, err
}

// zeroUnlimited takes a limit of zero for none.
type zeroUnlimited struct{ uia.Store }

func (s zeroUnlimited) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	for i, t := range tokens {
		if t.UsesAllowed != nil && *t.UsesAllowed == 0 {
			tokens[i].UsesAllowed = nil
		}
	}
	return s.Store.CreateTokens(ctx, tokens...)
}

func (s zeroUnlimited) UpdateToken(ctx context.Context, value string, p uia.TokenPatch, now time.Time) (uia.Token, error) {
	if p.UsesAllowed != nil && *p.UsesAllowed != nil && **p.UsesAllowed == 0 {
		p.UsesAllowed = new((*int64)(nil))
	}
	return s.Store.UpdateToken(ctx, value, p, now)
}

// single makes tokens of one use at most.
type single struct{ uia.Store }

func (s single) CreateTokens(ctx context.Context, tokens ...uia.Token) error {
	for i, t := range tokens {
		if t.UsesAllowed != nil && *t.UsesAllowed > 1 {
			tokens[i].UsesAllowed = new(int64(1))
		}
	}
	return s.Store.CreateTokens(ctx, tokens...)
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
