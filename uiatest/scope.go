package uiatest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// scope is the variables of a case. A contestant of a race begins with a copy of the
// variables of the case. Values that are made up, such as usernames, all of them share.
type scope struct {
	from   *origin // the client that the case is
	values map[string]any
	made   *madeUp
	number string      // of the contestant or the repetition; "" if there is none
	page   *answer     // the last answer that was HTML
	log    *transcript // what has been sent
	last   int         // the exchange that was sent last
	lent   map[string]lentAccount
}

// madeUp is what was made up for a case.
type madeUp struct {
	mu     sync.Mutex
	values map[string]string
}

// transcript is what a case has sent, and what came back.
type transcript struct {
	mu        sync.Mutex
	all       []Exchange
	access    []string // the access tokens that were in answers, each once
	passwords []string // of the accounts
}

// maxExchanges is how many exchanges of a case are kept.
const maxExchanges = 64

// add keeps an exchange. When there are too many, only the latest of the further ones is
// kept, because a failure is about the latest.
func (x *transcript) add(e Exchange, a *answer) (at int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a != nil {
		for _, token := range accessTokens(a.json) {
			if !slices.Contains(x.access, token) {
				x.access = append(x.access, token)
			}
		}
	}
	if len(x.all) < maxExchanges {
		x.all = append(x.all, e)
	} else {
		x.all[maxExchanges-1] = e
	}
	return len(x.all) - 1
}

// addAll appends the exchanges of another transcript, and returns the new place of the
// exchange that has this place there.
func (x *transcript) addAll(other *transcript, place int) (at int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, token := range other.access {
		if !slices.Contains(x.access, token) {
			x.access = append(x.access, token)
		}
	}
	for i, password := range other.passwords {
		if !slices.Contains(x.passwords, password) {
			x.passwords = append(x.passwords, other.passwords[i])
		}
	}
	at = min(len(x.all)+place, maxExchanges-1)
	x.all = append(x.all, other.all...)
	x.all = x.all[:min(len(x.all), maxExchanges)]
	return at
}

// count is how many exchanges there are.
func (x *transcript) count() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}

// blame marks an exchange whose answer is not as expected.
func (x *transcript) blame(at int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if at < len(x.all) {
		x.all[at].Failed = true
	}
}

// blamed reports whether an exchange is marked.
func (x *transcript) blamed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(x.all, func(e Exchange) bool { return e.Failed })
}

func newScope(from *origin) *scope {
	return &scope{from: from, values: map[string]any{}, made: &madeUp{values: map[string]string{}}, log: &transcript{}, lent: map[string]lentAccount{}}
}

// contestant returns a scope for one that takes part in a race.
func (s *scope) contestant(i int) *scope {
	c := *s
	c.values = maps.Clone(s.values)
	c.number = strconv.Itoa(i)
	return &c
}

var variable = regexp.MustCompile(`\$\{([^{}]+)\}`)

// text puts the variables into a string.
func (s *scope) text(in string) (string, error) {
	var failed error
	out := variable.ReplaceAllStringFunc(s.numbered(in), func(ref string) string {
		v, err := s.lookup(ref[2 : len(ref)-1])
		if err != nil {
			failed = err
		}
		if t, ok := v.(string); ok {
			return t
		}
		return string(encode(v))
	})
	return out, failed
}

func (s *scope) numbered(in string) string {
	if s.number == "" {
		return in
	}
	return strings.ReplaceAll(in, "${i}", s.number)
}

// value puts the variables into every string of a JSON value. A string that is
// nothing but a variable becomes its value.
func (s *scope) value(in any) (any, error) {
	switch v := in.(type) {
	case string:
		v = s.numbered(v)
		if whole := variable.FindString(v); whole == v && v != "" {
			return s.lookup(v[2 : len(v)-1])
		}
		return s.text(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = s.value(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for name := range v {
			key, err := s.text(name)
			if err != nil {
				return nil, err
			}
			if out[key], err = s.value(v[name]); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return in, nil
}

// lookup returns the value of what stands between ${ and }: a variable, perhaps
// with filters.
func (s *scope) lookup(ref string) (any, error) {
	name, filters, _ := strings.Cut(ref, "|")
	v, err := s.variable(name)
	if err != nil {
		return nil, err
	}
	for filter := range strings.SplitSeq(filters, "|") {
		t, ok := v.(string)
		if filter == "" {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("${%s}: not a string", ref)
		}
		switch filter {
		case "query":
			v = url.QueryEscape(t)
		case "path":
			v = url.PathEscape(t)
		case "upper":
			v = strings.ToUpper(t)
		default:
			return nil, fmt.Errorf("${%s}: there is no filter %s", ref, filter)
		}
	}
	return v, nil
}

func (s *scope) variable(name string) (any, error) {
	if v, ok := s.values[name]; ok {
		return v, nil
	}
	kind, arg, _ := strings.Cut(name, ".")
	switch kind {
	case "user":
		return s.madeUp(name, "uiatest-"+random(12)), nil
	case "guess":
		return s.madeUp(name, "uiatest-guess-"+random(16)), nil
	case "random":
		return s.madeUp(name, random(20)), nil
	case "ms":
		n, err := strconv.ParseInt(arg, 10, 64)
		return json.Number(strconv.FormatInt(time.Now().UnixMilli()+n, 10)), err
	case "repeat":
		count, what, _ := strings.Cut(arg, ".")
		n, err := strconv.Atoi(count)
		return strings.Repeat(what, n), err
	case "name":
		return s.filling(name, arg)
	case "account":
		_, member, _ := strings.Cut(arg, ".")
		return nil, problems(fmt.Sprintf("member %q is missing where the account was registered", member))
	}
	return nil, fmt.Errorf("${%s}: there is no such variable", name)
}

// filling returns a username that makes a user ID of so many bytes, on the server of
// ${user_id} or of ${account.a.user_id}.
func (s *scope) filling(name, size string) (any, error) {
	id, ok := s.values["user_id"].(string)
	if !ok {
		id, _ = s.values["account.a.user_id"].(string)
	}
	_, server, ok := strings.Cut(id, ":")
	n, err := strconv.Atoi(size)
	if !ok || err != nil {
		return nil, fmt.Errorf("${%s}: there is no ${user_id} yet, or no such length", name)
	}
	missing := n - len("@:") - len(server)
	made := "uiatest-" + random(12)
	return s.madeUp(name, made+strings.Repeat("x", max(missing-len(made), 0))), nil
}

// madeUp returns the value that was made up under this name before, or else fresh, which
// is kept for the next time.
func (s *scope) madeUp(name, fresh string) string {
	s.made.mu.Lock()
	defer s.made.mu.Unlock()
	if v, ok := s.made.values[name]; ok {
		return v
	}
	s.made.values[name] = fresh
	return fresh
}

// random returns n random characters of a-z and 2-7.
func random(n int) string { return strings.ToLower(rand.Text())[:n] }

// dig returns what stands at a dotted path of a JSON value.
func dig(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = member(at, name)
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(at) {
				return absent{}
			}
			v = at[i]
		default:
			return absent{}
		}
	}
	return v
}
