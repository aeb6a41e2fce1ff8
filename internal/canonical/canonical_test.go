package canonical

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzCanonical compares the parser of requests with encoding/json. A body is
// accepted if and only if encoding/json accepts it and it is an object, is UTF-8
// with whole surrogate pairs only, repeats no name and nests 64 deep at most. Its
// canonical form is the same value, and is the same however the body is written.
func FuzzCanonical(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		got, err := Object(body)
		require.Equal(t, before, body, "the body was changed")
		want := acceptable(body)
		require.Equal(t, want, err == nil, "Object: %v", err)
		if err != nil {
			return
		}
		if len(bytes.Trim(body, " \t\r\n")) == 0 {
			body = []byte("{}")
		}
		value := decode(t, body)
		require.Empty(t, cmp.Diff(value, decode(t, got)), "another value")
		again, err := Object(got)
		require.NoError(t, err)
		require.Equal(t, string(got), string(again), "not canonical")
		rewritten, err := Object(rewrite(nil, value))
		require.NoError(t, err)
		require.Equal(t, string(got), string(rewritten), "depends on how it was written")

		joined := []byte{'{'}
		for name, value := range Members(got) {
			joined = append(append(append(append(joined, name...), ':'), value...), ',')
		}
		if len(joined) > 1 {
			joined = joined[:len(joined)-1]
		}
		require.Equal(t, string(got), string(append(joined, '}')), "Members does not yield them all")

		object := value.(map[string]any)
		rest, auth := Without(got, "auth")
		_, has := object["auth"]
		require.Equal(t, has, auth != nil)
		if has {
			require.Empty(t, cmp.Diff(object["auth"], decode(t, auth)))
			require.Equal(t, string(auth), string(Member(got, "auth")))
			delete(object, "auth")
		}
		require.Empty(t, cmp.Diff(value, decode(t, rest)), "Without took something else away")
		_, err = Object(rest)
		require.NoError(t, err)
	})
}

var escapes = regexp.MustCompile(`(?s)\\(u[0-9a-fA-F]{4}|.)`)

// acceptable decides by other means whether a body is to be accepted.
func acceptable(body []byte) bool {
	if len(bytes.Trim(body, " \t\r\n")) == 0 {
		return true
	}
	if !utf8.Valid(body) || !json.Valid(body) || bytes.TrimLeft(body, " \t\r\n")[0] != '{' {
		return false
	}
	high, end := rune(0), 0 // the half of a pair that has just ended
	for _, at := range escapes.FindAllIndex(body, -1) {
		r := rune(0)
		if body[at[0]+1] == 'u' {
			n, _ := strconv.ParseUint(string(body[at[0]+2:at[1]]), 16, 16)
			r = rune(n)
		}
		switch {
		case high != 0 && (at[0] != end || utf16.DecodeRune(high, r) == utf8.RuneError):
			return false
		case high != 0:
			high = 0
		case 0xdc00 <= r && r <= 0xdfff:
			return false
		case 0xd800 <= r && r <= 0xdbff:
			high, end = r, at[1]
		}
	}
	if high != 0 {
		return false
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	members := 0
	depth, ok := walk(d, &members)
	return ok && depth <= maxDepth && members <= maxMembers
}

// walk reads one value. It returns how deeply it nests, and false if an object
// repeats a name, and counts the members.
func walk(d *json.Decoder, members *int) (depth int, ok bool) {
	token, err := d.Token()
	if err != nil {
		panic(err)
	}
	open, nested := token.(json.Delim)
	if !nested {
		return 0, true
	}
	ok = true
	var names []any
	for d.More() {
		if open == '{' {
			name, err := d.Token()
			if err != nil {
				panic(err)
			}
			ok = ok && !slices.Contains(names, any(name))
			names = append(names, name)
			*members++
		}
		n, fine := walk(d, members)
		depth, ok = max(depth, n), ok && fine
	}
	if _, err := d.Token(); err != nil {
		panic(err)
	}
	return depth + 1, ok
}

func decode(t testing.TB, body []byte) (v any) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	require.NoError(t, d.Decode(&v), "%q", body)
	_, err := d.Token()
	require.ErrorIs(t, err, io.EOF)
	return v
}

// rewrite writes a value as differently as can be: members backwards, white
// space everywhere, every character escaped.
func rewrite(out []byte, v any) []byte {
	out = append(out, " \n"...)
	switch v := v.(type) {
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		slices.Reverse(names)
		out = append(out, '{')
		for i, name := range names {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(rewrite(out, name), ':')
			out = rewrite(out, v[name])
		}
		out = append(out, "\t}"...)
	case []any:
		out = append(out, '[')
		for i, value := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = rewrite(out, value)
		}
		out = append(out, "\r]"...)
	case string:
		out = append(out, '"')
		for _, unit := range utf16.Encode([]rune(v)) {
			out = fmt.Appendf(out, `\u%04X`, unit)
		}
		out = append(out, '"')
	case json.Number:
		out = append(out, v...)
	default:
		out = fmt.Append(out, map[any]string{nil: "null", true: "true", false: "false"}[v])
	}
	return append(out, ' ')
}

func TestTooManyMembers(t *testing.T) {
	object := func(members int) string {
		var b strings.Builder
		for i := range members {
			fmt.Fprintf(&b, `,"m%d":0`, i)
		}
		return "{" + strings.TrimPrefix(b.String(), ",") + "}"
	}
	for body, want := range map[string]error{
		object(maxMembers): nil, object(maxMembers + 1): ErrMembers,
		`{"a":[` + object(maxMembers-2) + `],"b":1}`: nil, `{"a":[` + object(maxMembers-1) + `],"b":1}`: ErrMembers,
	} {
		_, err := Object([]byte(body))
		assert.Equal(t, want, err, "%.40s", body)
	}
}

func TestCanonicalForm(t *testing.T) {
	for body, want := range map[string]string{
		"":                            `{}`,
		"  ":                          `{}`,
		`{ "b" : 1 , "a" : [ ] }`:     `{"a":[],"b":1}`,
		`{"aa":1,"a":2,"a!":3}`:       `{"a!":3,"a":2,"aa":1}`,
		`{"a":1.0,"b":1e3,"c":-0}`:    `{"a":1.0,"b":1e3,"c":-0}`,
		`{"\u0061":"\/\u00e9\u0000"}`: "{\"a\":\"/é\\u0000\"}",
		`{"a":"\ud83d\ude00\b"}`:      "{\"a\":\"😀\\u0008\"}",
		`{"x":{"b":{"d":1,"c":2},"a":[{"f":1,"e":2}]}}`: `{"x":{"a":[{"e":2,"f":1}],"b":{"c":2,"d":1}}}`,
	} {
		got, err := Object([]byte(body))
		require.NoError(t, err)
		assert.Equal(t, want, string(got))
	}
}
