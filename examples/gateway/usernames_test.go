package gateway

import (
	"testing"

	"github.com/sethvargo/go-diceware/diceware"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
)

// words returns the 7,776 words of the list that people draw passphrases from.
func words() (out []string) {
	list := diceware.WordListEffLarge()
	digits := list.Digits()
	for i := range 7776 {
		key, power := 0, 1
		for n, left := i, digits; left > 0; n, left = n/6, left-1 {
			key += (n%6 + 1) * power
			power *= 10
		}
		out = append(out, list.WordAt(key))
	}
	return out
}

// TestUsernames counts the ordinary words that the rules for usernames refuse.
func TestUsernames(t *testing.T) {
	list := words()
	require.Len(t, list, 7776)
	refused := func(rules register.UsernameRules) (out []string) {
		u, err := register.NewUsernames(rules)
		require.NoError(t, err)
		for _, word := range list {
			if u.Check(word) != nil {
				out = append(out, word)
			}
		}
		return out
	}
	// A reserved name is reserved in disguise too, and no other word is.
	rules := gateway.DefaultUsernames()
	rules.Reserved = append(rules.Reserved, "bill", "bot", "news", "rape")
	reserved := map[string]bool{}
	for _, name := range rules.Reserved {
		reserved[name] = true
	}
	for _, word := range refused(rules) {
		assert.True(t, reserved[word], word)
	}
	// Parts of words are found in words. What the disguises add to that is nothing.
	bad := []string{"ass", "cum", "sex", "tit", "fag", "poop", "nazi", "rape"}
	found := refused(register.UsernameRules{Bad: bad})
	t.Log(len(found), "words have a bad part:", found)
	assert.LessOrEqual(t, len(found), 69)
	// With those words excepted none is left, and disguises are still found.
	excepted := register.UsernameRules{Bad: bad, Except: found}
	assert.Empty(t, refused(excepted))
	u, err := register.NewUsernames(excepted)
	require.NoError(t, err)
	for _, name := range []string{"a55", "p.o0p", "ass", "sex", "brass-ass", "t1t", "n4z1"} {
		assert.Error(t, u.Check(name), name)
	}
}
