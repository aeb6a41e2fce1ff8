package uia_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/matrix-uia/uia"
)

func TestTokenValidate(t *testing.T) {
	for _, c := range []struct {
		says  string // empty: valid
		token uia.Token
	}{
		{"", uia.Token{}},
		{"", uia.Token{UsesAllowed: new(int64(uia.MaxUses)), Completed: uia.MaxUses, Label: strings.Repeat("ä", 127), Meta: json.RawMessage(" {\"a\":[]} ")}},
		{"", uia.Token{UsesAllowed: new(int64(0)), Pending: -1, Expires: time.Unix(-1, 0), CreatedBy: "@admin:example.org"}},
		{"token value", uia.Token{Value: strings.Repeat("a", 65)}},
		{"token value", uia.Token{Value: "ä"}},
		{"uses allowed", uia.Token{UsesAllowed: new(int64(-1))}},
		{"uses allowed", uia.Token{UsesAllowed: new(int64(math.MaxInt64))}},
		{"completed uses", uia.Token{Completed: -1}},
		{"label", uia.Token{Label: strings.Repeat("a", 256)}},
		{"label", uia.Token{Label: "a\x00"}},
		{"created by", uia.Token{CreatedBy: "\xff"}},
		{"meta", uia.Token{Meta: json.RawMessage{}}},
		{"meta", uia.Token{Meta: json.RawMessage("null")}},
		{"meta", uia.Token{Meta: json.RawMessage("[]")}},
		{"meta", uia.Token{Meta: json.RawMessage(`{"a":1}{}`)}},
		{"meta", uia.Token{Meta: json.RawMessage("{\"a\":\"\xff\"}")}},
	} {
		if c.token.Value == "" {
			c.token.Value = "t"
		}
		err := c.token.Validate()
		if c.says == "" {
			assert.NoError(t, err, "%+v", c.token)
			continue
		}
		assert.ErrorIs(t, err, uia.ErrInvalid, "%+v", c.token)
		assert.ErrorContains(t, err, c.says)
	}
	assert.ErrorIs(t, uia.Token{}.Validate(), uia.ErrInvalid)
}

func TestTokenPatchApply(t *testing.T) {
	token := uia.Token{Value: "t", UsesAllowed: new(int64(3)), Expires: time.Unix(9, 0), Revoked: true, Label: "label", Meta: json.RawMessage(`{}`), CreatedBy: "me", Completed: 2}
	assert.Equal(t, token, uia.TokenPatch{}.Apply(token))
	cleared := uia.TokenPatch{UsesAllowed: new((*int64)(nil)), Expires: new(time.Time{}), Revoked: new(false), Label: new(""), Meta: new(json.RawMessage(nil))}
	assert.Equal(t, uia.Token{Value: "t", CreatedBy: "me", Completed: 2}, cleared.Apply(token))
}

func TestTokenOrders(t *testing.T) {
	at := func(ms int64) time.Time { return time.UnixMilli(ms) }
	a := uia.Token{Value: "a", Created: at(2), Expires: at(5), UsesAllowed: new(int64(7))}
	b := uia.Token{Value: "b", Created: at(1)}
	for order, want := range map[uia.TokenOrder][2]int64{
		uia.ByValue: {0, 0}, uia.ByCreated: {2, 1}, uia.ByExpires: {5, math.MaxInt64}, uia.ByUsesAllowed: {7, math.MaxInt64},
	} {
		first, err := order.Cursor(a)
		assert.NoError(t, err)
		second, err := order.Cursor(b)
		assert.NoError(t, err)
		assert.Equal(t, want, [2]int64{first.Key, second.Key})
		up, down := uia.TokenQuery{Order: order}, uia.TokenQuery{Order: order, Descending: true}
		assert.Equal(t, order == uia.ByCreated, up.Compare(first, second) > 0)
		assert.Equal(t, up.Compare(first, second), -down.Compare(first, second))
		assert.Zero(t, up.Compare(first, first))
	}
	assert.Positive(t, uia.TokenQuery{}.Compare(uia.TokenCursor{Key: 1, Value: "b"}, uia.TokenCursor{Key: 2, Value: "a"}), "by value no key counts")
	_, err := uia.TokenOrder(9).Cursor(a)
	assert.ErrorIs(t, err, uia.ErrInvalid)
}

func TestLive(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	for name, c := range map[string]struct {
		token uia.Token
		live  bool
	}{
		"unlimited":             {uia.Token{Completed: 9}, true},
		"a use is left":         {uia.Token{UsesAllowed: new(int64(2)), Completed: 1}, true},
		"the last use is held":  {uia.Token{UsesAllowed: new(int64(2)), Completed: 1, Pending: 1}, true},
		"every use is spent":    {uia.Token{UsesAllowed: new(int64(2)), Completed: 2}, false},
		"disabled":              {uia.Token{UsesAllowed: new(int64(0))}, false},
		"revoked":               {uia.Token{Revoked: true}, false},
		"expires in a moment":   {uia.Token{Expires: now.Add(time.Millisecond)}, true},
		"expires at the moment": {uia.Token{Expires: now}, false},
	} {
		assert.Equal(t, c.live, c.token.Live(now), name)
	}
}
