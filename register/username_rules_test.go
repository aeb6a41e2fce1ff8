package register_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/matrix-org/gomatrixserverlib/spec"
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

// The host is asked about every name, wherever it comes from, and is told who asks.
func TestUsernameIsAsked(t *testing.T) {
	var asked []register.UsernameRequest
	s := newServer(t, func(r *register.Registration) {
		r.Username = func(_ context.Context, q register.UsernameRequest) error {
			asked = append(asked, q)
			if strings.HasPrefix(q.Localpart, "evil") {
				return uia.NewError(400, spec.ASExclusive("not you"))
			}
			return nil
		}
		r.MakeUp = func(context.Context) (string, error) {
			return []string{"evil-made-up", "made-up"}[min(len(asked), 1)], nil
		}
	})
	about := func() (names []string) {
		for _, q := range asked {
			names = append(names, q.Localpart)
		}
		asked = nil
		return names
	}
	s.get("?username=Evil").is(t, 400, "M_EXCLUSIVE")
	assert.Nil(t, asked[0].Session)
	assert.Equal(t, []string{"evil"}, about())

	a := s.post("", dict{"username": "evil", "password": "p"})
	a.is(t, 400, "M_EXCLUSIVE")
	require.NotEmpty(t, asked)
	assert.NotNil(t, asked[0].Session)
	assert.Empty(t, s.accounts.asked, "the accounts were asked about a name that is refused")
	about()

	s.register(dict{"username": "alice", "password": "p"}).is(t, 200, "")
	names := about()
	assert.Equal(t, "alice", names[0])
	assert.Equal(t, "alice", names[len(names)-1])

	s.register(dict{"password": "p"}).is(t, 200, "")
	assert.Equal(t, []string{"evil-made-up", "made-up"}, about())
	assert.Equal(t, "made-up", s.accounts.last(t).Localpart)
}

// A name that was allowed on the first leg and is not any more makes no account.
func TestUsernameIsAskedAtTheEnd(t *testing.T) {
	closed := false
	s := newServer(t, func(r *register.Registration) {
		r.Username = func(context.Context, register.UsernameRequest) error {
			if closed {
				return uia.NewError(400, spec.InvalidUsername("no more"))
			}
			return nil
		}
	})
	params := dict{"username": "alice", "password": "p"}
	session := s.post("", params).session()
	s.post("", with(params, dict{"type": uia.TokenType, "token": "abc", "session": session})).is(t, 401, "")
	closed = true
	s.post("", dict{"auth": dict{"type": "m.login.dummy", "session": session}}).is(t, 400, "M_INVALID_USERNAME")
	assert.Empty(t, s.accounts.created)
}
