package uia_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

func TestTokenStageNames(t *testing.T) {
	types := map[string]string{
		"":                    "m.login.registration_token",
		uia.TokenType:         "m.login.registration_token",
		uia.TokenTypeUnstable: "org.matrix.msc3231.login.registration_token",
		uia.TokenTypeDraft:    "m.registration.token",
		uia.TokenTypeDraft2:   "org.matrix.msc3231.registration.token",
	}
	for name, typ := range types {
		t.Run(typ, func(t *testing.T) {
			store := newMeter()
			h := newHomeserver(t, setup{store: store, flows: []uia.Flow{{typ}}, change: func(c *uia.Config) {
				c.Stages = []uia.Stage{&uia.TokenStage{Store: store, AuthType: name}, passwordStage{}}
			}})
			h.token("abc", 1)
			var used string
			operate := h.operate
			h.operate = func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
				token, ok := s.Token()
				assert.True(t, ok)
				used = token.Token
				return operate(ctx, s)
			}
			a := h.post(dict{})
			assert.Equal(t, []any{dict{"stages": []any{typ}}}, a.JSON["flows"])
			h.post(dict{"auth": dict{"type": typ, "session": a.session(), "token": "abc"}}).is(t, 200, "")
			assert.Equal(t, "abc", used)
			_, completed := h.left("abc")
			assert.EqualValues(t, 1, completed)
		})
	}
}

func TestTokenStageOfSeveralNames(t *testing.T) {
	store := newMeter()
	h := newHomeserver(t, setup{
		store: store, flows: []uia.Flow{{uia.TokenType}, {uia.TokenTypeUnstable}},
		change: func(c *uia.Config) {
			c.Stages = append(c.Stages, &uia.TokenStage{Store: store, AuthType: uia.TokenTypeUnstable})
		},
	})
	h.token("abc", 2)
	for _, typ := range []string{uia.TokenType, uia.TokenTypeUnstable} {
		h.post(dict{"auth": dict{"type": typ, "session": h.open(dict{}), "token": "abc"}}).is(t, 200, "")
	}
	_, completed := h.left("abc")
	assert.EqualValues(t, 2, completed)
}

func TestTokenStageFailuresAreAlike(t *testing.T) {
	clock, store := newClock(), newMeter()
	h := newHomeserver(t, setup{store: store, change: func(c *uia.Config) { c.Now = clock.Now }})
	for _, token := range []uia.Token{
		{Value: "expired", Expires: clock.Now()}, {Value: "disabled", UsesAllowed: new(int64(0))}, {Value: "revoked", Revoked: true},
		{Value: "held", UsesAllowed: new(int64(1))}, {Value: "good"}, {Value: "expires", Expires: clock.Now().Add(1)},
	} {
		require.NoError(t, h.store.CreateTokens(t.Context(), token))
	}
	h.post(dict{"auth": submitToken(h.open(dict{}), "held")}).is(t, 401, "")
	s := h.open(dict{})
	want := h.post(dict{"auth": submitToken(s, "unknown")})
	want.is(t, 401, "M_UNAUTHORIZED")
	store.reset()
	for _, token := range []string{"expired", "disabled", "revoked", "", "not a token", "\x00", strings.Repeat("a", 65), "Good", "go od"} {
		a := h.post(dict{"auth": submitToken(s, token)})
		assert.Equal(t, want.Body, a.Body, "%q", token)
		assert.Equal(t, want.Header, a.Header)
	}
	store.unwritten(t)
	a := h.post(dict{"auth": submitToken(s, "held")}) // may be this session's own, so it takes a Reserve to know
	assert.Equal(t, want.Body, a.Body)
	assert.Zero(t, store.calls["SaveSession"])
	h.post(dict{"auth": submitToken(s, "good")}).is(t, 401, "")
}

func TestTokenStageHolds(t *testing.T) {
	clock := newClock()
	h := newHomeserver(t, setup{flows: []uia.Flow{{uia.TokenType, "m.login.password"}}, change: func(c *uia.Config) {
		c.Now = clock.Now
		c.Stages[0].(*uia.TokenStage).HoldTTL = time.Minute
	}})
	h.token("abc", 1)
	pending := func() int64 {
		token, err := h.store.Token(t.Context(), "abc", clock.Now())
		require.NoError(t, err)
		return token.Pending
	}
	s := h.open(dict{"username": "alice"})
	h.post(dict{"auth": submitToken(s, "abc")}).is(t, 401, "")
	assert.EqualValues(t, 1, pending())
	clock.advance(29 * time.Second) // more than half is left: nothing to renew
	h.post(dict{"auth": dict{"session": s}}).is(t, 401, "")
	clock.advance(31 * time.Second)
	assert.Zero(t, pending(), "it was renewed too early")
	h.post(dict{"auth": dict{"session": s}}).is(t, 401, "") // lapsed, but nobody took it
	assert.EqualValues(t, 1, pending())
	for range 5 { // as long as the client goes on, it keeps its use
		clock.advance(31 * time.Second)
		assert.EqualValues(t, 1, pending(), "it has lapsed in between")
		h.post(dict{"auth": submitPassword(s, "wrong")}).is(t, 401, "M_FORBIDDEN")
	}
	clock.advance(time.Minute)
	assert.Zero(t, pending(), "an abandoned session gives its use back")
	h.post(dict{"auth": submitPassword(s, "right")}).is(t, 200, "") // and still finishes
}

func TestTokenStageStoreDown(t *testing.T) {
	for _, method := range []string{"Token", "Reserve"} {
		logger, out := logged()
		store := newMeter()
		h := newHomeserver(t, setup{store: store, change: func(c *uia.Config) { c.Logger = logger }})
		h.token("abc", 1)
		s := h.open(dict{})
		store.fail = func(m string) error {
			if m == method {
				return errors.New("no connection")
			}
			return nil
		}
		h.post(dict{"auth": submitToken(s, "abc")}).is(t, 500, "M_UNKNOWN")
		assert.Contains(t, out.String(), "no connection")
		store.fail = nil
		assert.Len(t, h.post(dict{"auth": submitToken(s, "abc")}).completed(), 1)
	}
}

func TestGenerateToken(t *testing.T) {
	seen := map[string]bool{}
	for n := -1; n <= uia.MaxTokenLength+1; n++ {
		want := n
		if n < 1 || n > uia.MaxTokenLength {
			want = 16
		}
		token := uia.GenerateToken(n)
		assert.Len(t, token, want)
		assert.True(t, uia.ValidTokenValue(token))
		assert.Empty(t, strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
	}
	for range 1000 {
		token := uia.GenerateToken(0)
		assert.False(t, seen[token])
		seen[token] = true
	}
}

func TestValidTokenValue(t *testing.T) {
	for value, ok := range map[string]bool{
		"a": true, "aZ09._~-": true, strings.Repeat("~", 64): true,
		"": false, strings.Repeat("a", 65): false, "a b": false, "a+b": false, "a/b": false, "a=": false, "é": false, "a\x00": false, "a\n": false, "A:": false, "@": false, "[": false, "`": false, "{": false,
	} {
		assert.Equal(t, ok, uia.ValidTokenValue(value), "%q", value)
	}
}
