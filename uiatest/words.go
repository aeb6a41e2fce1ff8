package uiatest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// differs says in words how a value is not what is expected of it.
func differs(at string, want, got any) string {
	what := "header " + at
	switch {
	case at == "":
		what = "the body"
	case strings.HasPrefix(at, ".") || strings.HasPrefix(at, "["):
		what = fmt.Sprintf("member %q", strings.TrimPrefix(at, "."))
	}
	is := "is " + show(got)
	if got == any(absent{}) {
		is = "is missing"
	}
	return fmt.Sprintf("%s %s, expected %s", what, is, words(want))
}

// words says in words what is expected of a value.
func words(want any) string {
	switch want := want.(type) {
	case map[string]any:
		var operators, members []string
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if strings.HasPrefix(name, "$") {
				operators = append(operators, operatorWords(name, want[name]))
			} else {
				members = append(members, fmt.Sprintf("%q: %s", name, words(want[name])))
			}
		}
		if operators != nil {
			return strings.Join(operators, " and ")
		}
		if members == nil {
			return "an object"
		}
		return "an object with " + strings.Join(members, ", ")
	case []any:
		if len(want) == 0 {
			return "an empty list"
		}
		return "[" + list(want, ", ") + "]"
	}
	return show(want)
}

// typeWords are the types of JSON in words.
var typeWords = map[any]string{
	"string": "a string", "boolean": "true or false", "integer": "an integer", "number": "a number", "array": "a list",
	"object": "an object", "null": "null",
}

// operatorWords says in words what an operator wants.
func operatorWords(name string, arg any) string {
	items, _ := arg.([]any)
	switch name {
	case "$absent":
		return "none"
	case "$optional":
		return words(arg) + " or none"
	case "$type":
		return typeWords[arg]
	case "$any":
		return list(items, " or ")
	case "$all":
		return list(items, " and ")
	case "$not":
		return "anything but " + words(arg)
	case "$match":
		return fmt.Sprintf("text like %v", arg)
	case "$contains":
		return "a list that contains " + words(arg)
	case "$lacks":
		return "a list without " + words(arg)
	case "$each":
		return "a list of nothing but " + words(arg)
	case "$values":
		return "an object of nothing but " + words(arg)
	case "$only":
		return "an object with no members but " + list(items, ", ")
	case "$min":
		return fmt.Sprintf("at least %v", arg)
	case "$max":
		return fmt.Sprintf("at most %v", arg)
	}
	return name
}

// list says what each of several is expected to be.
func list(items []any, between string) string {
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = words(item)
	}
	return strings.Join(out, between)
}
