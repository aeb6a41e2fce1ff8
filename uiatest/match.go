package uiatest

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/big"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// statuses is one status or several, in JSON a number or a list.
type statuses []int

func (s *statuses) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		return json.Unmarshal(raw, (*[]int)(s))
	}
	*s = make([]int, 1)
	return json.Unmarshal(raw, &(*s)[0])
}

func (s statuses) String() string {
	words := make([]string, len(s))
	for i, status := range s {
		words[i] = strconv.Itoa(status)
	}
	return strings.Join(words, " or ")
}

// expect is what is expected of an answer.
type expect struct {
	Status  statuses       `json:"status"`
	Headers map[string]any `json:"headers"`
	JSON    any            `json:"json"`
	Body    bodyExpect     `json:"body"`
	Any     []expect       `json:"any"`
	Served  bool           `json:"served"`
}

type bodyExpect struct {
	Contains []string `json:"contains"`
	Lacks    []string `json:"lacks"`
	Calls    []string `json:"calls"`
	Uncalled []string `json:"uncalled"`
	// Password says whether a form asks for a password; nil if that does not matter.
	Password *bool `json:"password"`
}

// allows reports whether an answer with this status may be as expected.
func (e *expect) allows(status int) bool {
	return slices.Contains(e.Status, status) || slices.ContainsFunc(e.Any, func(e expect) bool { return e.allows(status) })
}

// problems returns in which ways the answer is not what is expected. Variables
// have been put in already.
func (e *expect) problems(a *answer) (out []string) {
	if len(e.Status) > 0 && !slices.Contains(e.Status, a.status) {
		out = append(out, fmt.Sprintf("status %d, expected %v", a.status, e.Status))
	}
	if e.Served && !a.served() {
		out = append(out, fmt.Sprintf("status %d, as of an endpoint that is not there", a.status))
	}
	for name, want := range e.Headers {
		var got any = absent{}
		if values := a.header.Values(name); len(values) > 0 {
			got = strings.Join(values, ", ")
		}
		out = append(out, match(http.CanonicalHeaderKey(name), want, got)...)
	}
	if e.JSON != nil {
		if a.jsonErr != nil {
			out = append(out, "the body is not JSON: "+a.jsonErr.Error())
		} else {
			out = append(out, match("", e.JSON, a.json)...)
		}
	}
	out = append(out, e.Body.problems(string(a.body))...)
	slices.Sort(out)
	return append(out, e.alternatives(a)...)
}

// problems returns in which ways a body is not what is expected.
func (e *bodyExpect) problems(body string) (out []string) {
	for _, want := range e.Contains {
		if !strings.Contains(body, want) {
			out = append(out, fmt.Sprintf("the body does not contain %q", want))
		}
	}
	for _, no := range e.Lacks {
		if strings.Contains(body, no) {
			out = append(out, fmt.Sprintf("the body contains %q", no))
		}
	}
	if e.Password != nil && *e.Password != (formOf(body, true) != nil) {
		if *e.Password {
			out = append(out, "the page has no form that asks for a password")
		} else {
			out = append(out, "the page has a form that asks for a password")
		}
	}
	for _, name := range e.Calls {
		if pageCalls(body, name) == neverCalls {
			out = append(out, "no script of the page calls "+name)
		}
	}
	for _, name := range e.Uncalled {
		if pageCalls(body, name) == callsAtOnce {
			out = append(out, "a script of the page calls "+name+" at once")
		}
	}
	return out
}

// alternatives returns how the answer differs from each alternative that expects its
// status, or nothing if it is as one of them expects. If no alternative expects its status,
// that is the only difference it returns.
func (e *expect) alternatives(a *answer) []string {
	var near []string
	var others statuses
	for _, one := range e.Any {
		list := one.problems(a)
		if len(list) == 0 {
			return nil
		}
		if len(one.Status) == 0 || slices.Contains(one.Status, a.status) {
			near = append(near, strings.Join(list, " and "))
		}
		others = append(others, one.Status...)
	}
	switch {
	case len(e.Any) == 0:
		return nil
	case near == nil:
		return []string{fmt.Sprintf("status %d, expected %v", a.status, others)}
	}
	return []string{strings.Join(near, ", or else ")}
}

// served reports whether the endpoint is there that has answered. If it is not, the answer
// has the code M_UNRECOGNIZED, or is not Matrix's at all.
func (a *answer) served() bool {
	switch a.status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		object, _ := a.json.(map[string]any)
		code, _ := object["errcode"].(string)
		return code != "" && code != "M_UNRECOGNIZED"
	}
	return true
}

// absent stands for a member or header that is not there.
type absent struct{}

// match returns in which ways got differs from want. An object in want is matched
// member by member, and other members may be there too; an object with a member
// whose name begins with $ is an operator.
func match(at string, want, got any) []string {
	if object, ok := want.(map[string]any); ok {
		for name := range object {
			if strings.HasPrefix(name, "$") {
				return matchOperators(at, object, got)
			}
		}
		members, ok := got.(map[string]any)
		if !ok {
			return []string{differs(at, want, got)}
		}
		var out []string
		for name, w := range object {
			out = append(out, match(at+"."+name, w, member(members, name))...)
		}
		return out
	}
	if list, ok := want.([]any); ok {
		items, ok := got.([]any)
		if !ok || len(items) != len(list) {
			return []string{differs(at, want, got)}
		}
		var out []string
		for i := range list {
			out = append(out, match(fmt.Sprintf("%s[%d]", at, i), list[i], items[i])...)
		}
		return out
	}
	if equal(want, got) {
		return nil
	}
	return []string{differs(at, want, got)}
}

func member(object map[string]any, name string) any {
	if v, ok := object[name]; ok {
		return v
	}
	return absent{}
}

func matchOperators(at string, operators map[string]any, got any) (out []string) {
	for name, arg := range operators {
		switch {
		case name == "$optional" && got == any(absent{}):
		case name == "$optional":
			out = append(out, match(at, arg, got)...)
		case !operate(at, name, arg, got):
			out = append(out, differs(at, map[string]any{name: arg}, got))
		}
	}
	return out
}

// operate reports whether got is as the operator wants it.
func operate(at, name string, arg, got any) bool {
	list, _ := got.([]any)
	object, _ := got.(map[string]any)
	text, _ := got.(string)
	fits := func(want any) func(any) bool {
		return func(v any) bool { return len(match(at, want, v)) == 0 }
	}
	switch name {
	case "$absent":
		return got == any(absent{})
	case "$type":
		return typeOf(got) == arg || arg == "number" && typeOf(got) == "integer"
	case "$any":
		return slices.ContainsFunc(arg.([]any), func(w any) bool { return fits(w)(got) })
	case "$all":
		return !slices.ContainsFunc(arg.([]any), func(w any) bool { return !fits(w)(got) })
	case "$not":
		return !fits(arg)(got)
	case "$match":
		return typeOf(got) == "string" && regexp.MustCompile(arg.(string)).MatchString(text)
	case "$contains":
		return slices.ContainsFunc(list, fits(arg))
	case "$lacks":
		return list != nil && !slices.ContainsFunc(list, fits(arg))
	case "$each":
		return list != nil && !slices.ContainsFunc(list, func(v any) bool { return !fits(arg)(v) })
	case "$values":
		return object != nil && all(maps.Values(object), fits(arg))
	case "$only":
		return object != nil && all(maps.Keys(object), func(name string) bool { return slices.Contains(arg.([]any), any(name)) })
	case "$min", "$max":
		x, isNumber := number(got)
		bound, _ := number(arg)
		return isNumber && (name == "$min" && x.Cmp(bound) >= 0 || name == "$max" && x.Cmp(bound) <= 0)
	}
	return false // there is no such operator: a test makes sure that the data has none of these
}

func all[T any](seq iter.Seq[T], ok func(T) bool) bool {
	for v := range seq {
		if !ok(v) {
			return false
		}
	}
	return true
}

func typeOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case bool:
		return "boolean"
	case string:
		return "string"
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "absent"
}

func equal(a, b any) bool {
	x, xNumber := number(a)
	y, yNumber := number(b)
	if xNumber || yNumber {
		return xNumber && yNumber && x.Cmp(y) == 0
	}
	switch a.(type) {
	case nil, bool, string, absent:
		return a == b
	}
	return show(a) == show(b)
}

func number(v any) (*big.Rat, bool) {
	n, ok := v.(json.Number)
	if !ok || len(n) > 40 || strings.ContainsAny(n.String(), "eE") { // an exponent may stand for gigabytes
		return nil, false
	}
	return new(big.Rat).SetString(n.String())
}

// show writes a value as JSON, shortened.
func show(v any) string {
	if _, ok := v.(absent); ok {
		return "absent"
	}
	out := encode(v)
	if len(out) > 300 {
		out = append(out[:300:300], "..."...)
	}
	return string(out)
}
