package register

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// UsernameRules are rules for new usernames. The zero value has none. They are made
// into a [Usernames] with [NewUsernames].
type UsernameRules struct {
	// MinLength and MaxLength bound the length in bytes. Zero means no bound.
	MinLength, MaxLength int
	// Reserved are names that nobody gets, in any disguise: 4dm1n, ro.ot and adminn are
	// refused where admin and root are reserved, groot is not. They are refused with
	// M_EXCLUSIVE.
	Reserved []string
	// Bad are parts that no name may have: p00phead and po-op are refused where poop
	// is bad. Everything but Reserved is refused with M_INVALID_USERNAME.
	Bad []string
	// Except are words in which a bad part is none: assassin.
	Except []string
	// Allow, if there are any, are expressions of which one has to match the whole
	// name.
	Allow []*regexp.Regexp
	// Deny are expressions of which none may match, anywhere in the name.
	Deny []*regexp.Regexp
	// PlainEnds refuses punctuation at the beginning, at the end, and twice in a row.
	PlainEnds bool
}

// Usernames tells which new usernames are allowed. It is safe for concurrent use.
type Usernames struct {
	rules    UsernameRules
	allow    []*regexp.Regexp // anchored
	reserved map[string][][]run
	bad      []string
	except   []string
}

// NewUsernames returns the Usernames of these rules, or every mistake in them at once.
func NewUsernames(rules UsernameRules) (*Usernames, error) {
	u := &Usernames{rules: rules, reserved: make(map[string][][]run)}
	var mistakes []error
	mistake := func(format string, args ...any) {
		mistakes = append(mistakes, fmt.Errorf("register: UsernameRules."+format, args...))
	}
	if rules.MinLength < 0 || rules.MaxLength < 0 || rules.MaxLength > 0 && rules.MinLength > rules.MaxLength {
		mistake("MinLength and MaxLength leave no length: %d to %d", rules.MinLength, rules.MaxLength)
	}
	for _, name := range rules.Reserved {
		letters, runs := runsOf(plain(name, '1'))
		if letters == "" {
			mistake("Reserved: %q has neither letter nor digit", name)
		}
		u.reserved[letters] = append(u.reserved[letters], runs)
	}
	for _, part := range rules.Bad {
		if plain(part, '1') == "" {
			mistake("Bad: %q has neither letter nor digit, and would refuse every name", part)
		}
		u.bad = append(u.bad, plain(part, 'i'))
	}
	for _, word := range rules.Except {
		u.except = append(u.except, plain(word, 'i'))
	}
	for _, re := range rules.Allow {
		anchored, err := regexp.Compile(`\A(?:` + re.String() + `)\z`)
		if err != nil {
			mistake("Allow: %w", err)
			continue
		}
		u.allow = append(u.allow, anchored)
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return u, nil
}

// Check returns nil if a user may be called so, and otherwise the *uia.Error that
// says why not. The name is within the grammar of localparts.
func (u *Usernames) Check(name string) error {
	switch {
	case len(name) < u.rules.MinLength:
		return errInvalidName(fmt.Sprintf("A username has at least %d characters.", u.rules.MinLength))
	case u.rules.MaxLength > 0 && len(name) > u.rules.MaxLength:
		return errInvalidName(fmt.Sprintf("A username has at most %d characters.", u.rules.MaxLength))
	case u.rules.PlainEnds && !plainEnds(name):
		return errInvalidName("A username begins and ends with a letter or a digit, and has no two signs in a row.")
	case !u.matched(name):
		return errInvalidName("This username is not of the form that this homeserver wants.")
	case u.isReserved(name):
		return refuse(http.StatusBadRequest, spec.ErrorExclusive, "This username is reserved.")
	case u.isBad(name):
		return errInvalidName("This username is not allowed here.")
	}
	return nil
}

// matched looks at the expressions.
func (u *Usernames) matched(name string) bool {
	for _, re := range u.rules.Deny {
		if re.MatchString(name) {
			return false
		}
	}
	for _, re := range u.allow {
		if re.MatchString(name) {
			return true
		}
	}
	return len(u.allow) == 0
}

func plainEnds(name string) bool {
	sign := true // the beginning counts as a sign
	for i := range len(name) {
		was := sign
		if sign = !alphanumeric(name[i]); sign && was {
			return false
		}
	}
	return !sign
}

func alphanumeric(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// lookalikes are the digits that are read as letters. 1 is read as two of them.
var lookalikes = map[byte]byte{'0': 'o', '3': 'e', '4': 'a', '5': 's', '7': 't', '8': 'b', '9': 'g'}

// plain undoes the usual disguises: it leaves out punctuation, and makes letters of
// digits. one is the letter for which 1 stands.
func plain(name string, one byte) string {
	out := make([]byte, 0, len(name))
	for _, c := range []byte(strings.ToLower(name)) {
		if !alphanumeric(c) {
			continue
		}
		if c == '1' {
			c = one
		} else if letter, ok := lookalikes[c]; ok {
			c = letter
		}
		out = append(out, c)
	}
	return string(out)
}

// run is a character that stands n times in a row.
type run struct {
	c byte
	n int
}

// runsOf returns the runs of a plain name, in which i, l and 1 are one character, and
// the characters of the runs.
func runsOf(name string) (letters string, runs []run) {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c == 'l' || c == '1' {
			c = 'i'
		}
		if n := len(runs); n > 0 && runs[n-1].c == c {
			runs[n-1].n++
			continue
		}
		runs = append(runs, run{c, 1})
		b.WriteByte(c)
	}
	return b.String(), runs
}

// isReserved reports whether a name is a reserved one with characters repeated: rooot
// is root, but rot, which has one o too few, is not.
func (u *Usernames) isReserved(name string) bool {
	letters, runs := runsOf(plain(name, '1'))
	for _, reserved := range u.reserved[letters] {
		covers := true
		for i := range runs {
			covers = covers && runs[i].n >= reserved[i].n
		}
		if covers {
			return true
		}
	}
	return false
}

// isBad reports whether a name has a bad part that is not inside of an excepted word.
func (u *Usernames) isBad(name string) bool {
	if u.hasBad(plain(name, 'i')) {
		return true
	}
	return strings.Contains(name, "1") && u.hasBad(plain(name, 'l'))
}

func (u *Usernames) hasBad(text string) bool {
	var reach []int
	for _, bad := range u.bad {
		for from := 0; ; from++ {
			i := strings.Index(text[from:], bad)
			if i < 0 {
				break
			}
			if reach == nil {
				reach = u.excepted(text)
			}
			if from += i; reach[from] < from+len(bad) {
				return true
			}
		}
	}
	return false
}

// excepted returns for each character of a text where the excepted words end that
// begin at it or before it.
func (u *Usernames) excepted(text string) []int {
	reach := make([]int, len(text))
	end := 0
	for from := range text {
		for _, word := range u.except {
			if strings.HasPrefix(text[from:], word) {
				end = max(end, from+len(word))
			}
		}
		reach[from] = end
	}
	return reach
}
