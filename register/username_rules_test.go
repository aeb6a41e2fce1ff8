package register_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

func TestUsernameRules(t *testing.T) {
	u, err := register.NewUsernames(register.UsernameRules{
		MinLength: 2, MaxLength: 32,
		Reserved: []string{"root", "admin", "support", "bill"},
		Bad:      []string{"poop", "ass", "slut"}, Except: []string{"assassin", "ashamed", "class"},
		Deny: []*regexp.Regexp{regexp.MustCompile(`^guest`)}, PlainEnds: true,
	})
	require.NoError(t, err)
	for code, names := range map[string]string{
		"": "bob alice alice.b b0b groot treeroots rot admins badmin bi bil supporter sup " +
			"assassin assassins class cl-ass ashamed snoop pop 1234",
		"M_EXCLUSIVE": "root r00t ro.ot rooot roottt 4dm1n admin ad-min aadmiin admln sup-port suppport bill b1ll billl bi1l",
		"M_INVALID_USERNAME": "a bob. bob_ _bob b..b b._b - -- poop poophead mrpoopypants p00phead p.o.o.p po-0p " +
			"s1ut 5lut grass classass cla55a55 guest guest1 " + strings.Repeat("x", 33),
	} {
		for name := range strings.FieldsSeq(names) {
			assert.Equal(t, code, errcode(u.Check(name)), name)
		}
	}
}

func errcode(err error) string {
	if e, ok := errors.AsType[*uia.Error](err); ok {
		return string(e.ErrCode)
	}
	return ""
}

func TestUsernameRulesAllowed(t *testing.T) {
	u, err := register.NewUsernames(register.UsernameRules{Allow: []*regexp.Regexp{
		regexp.MustCompile(`student-\d+`), regexp.MustCompile(`a|b`),
	}})
	require.NoError(t, err)
	for _, name := range []string{"student-1", "student-42", "a", "b"} {
		assert.NoError(t, u.Check(name), name)
	}
	for _, name := range []string{"student-", "xstudent-1", "student-1x", "ab", "student-1\n", ""} {
		assert.Equal(t, "M_INVALID_USERNAME", errcode(u.Check(name)), name)
	}
}

func TestUsernameRulesZero(t *testing.T) {
	u, err := register.NewUsernames(register.UsernameRules{})
	require.NoError(t, err)
	for _, name := range []string{"root", "a", "..", "_x", strings.Repeat("x", 200)} {
		assert.NoError(t, u.Check(name), name)
	}
}

func TestUsernameRulesMistakes(t *testing.T) {
	_, err := register.NewUsernames(register.UsernameRules{MinLength: 3, MaxLength: 2, Reserved: []string{"ok", "_"}, Bad: []string{"..", "b"}})
	for _, want := range []string{"MinLength", `Reserved: "_"`, `Bad: ".."`} {
		assert.ErrorContains(t, err, "register: UsernameRules."+want)
	}
	assert.NotContains(t, err.Error(), "ok")
}

func BenchmarkUsernameRules(b *testing.B) {
	rules := register.UsernameRules{PlainEnds: true}
	for i := range 500 {
		word := strings.Repeat(string(rune('a'+i%26)), 3) + strings.Repeat(string(rune('a'+i/26)), 2)
		rules.Reserved, rules.Bad = append(rules.Reserved, word), append(rules.Bad, word)
	}
	u, err := register.NewUsernames(rules)
	require.NoError(b, err)
	name := strings.Repeat("alice1", 40)
	for b.Loop() {
		_ = u.Check(name)
	}
}
