package flow

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// flows reads "a b|c" as two flows.
func flows(s string) (out [][]string) {
	for f := range strings.SplitSeq(s, "|") {
		out = append(out, strings.Fields(f))
	}
	return out
}

func TestNextAndDone(t *testing.T) {
	for _, c := range []struct {
		flows, completed string
		anyOrder         bool
		next             string
		done             bool
	}{
		{"a b|c", "", false, "a c", false},
		{"a b|c", "a", false, "b", false},
		{"a b|c", "a b", false, "", true},
		{"a b|c", "b", false, "", false},
		{"a b|a c", "a", false, "b c", false},
		{"a b|a", "a", false, "b", true},
		{"a b|c", "a b c", false, "", false},
		{"a b|c b", "", true, "a b c", false},
		{"a b|c b", "b", true, "a c", false},
		{"a b|c b", "b c", true, "", true},
		{"a b", "a x", true, "", false},
	} {
		completed := strings.Fields(c.completed)
		assert.Equal(t, strings.Fields(c.next), append([]string{}, Next(flows(c.flows), completed, c.anyOrder)...), "%+v", c)
		assert.Equal(t, c.done, Done(flows(c.flows), completed, c.anyOrder), "%+v", c)
		for _, typ := range Types(flows(c.flows)) {
			assert.Equal(t, strings.Contains(c.next, typ), Awaits(flows(c.flows), completed, c.anyOrder, typ), "%+v %s", c, typ)
		}
	}
}

func TestCheck(t *testing.T) {
	known := func(typ string) bool { return typ != "x" }
	for _, c := range []struct {
		flows    string
		anyOrder bool
		mistakes string // in the order in which they are reported
	}{
		{"a|b c", false, ""},
		{"a b|b a", false, ""},
		{"a b|b a", true, "flow [a b] is there twice"},
		{"a b|c|a b", false, "flow [a b] is there twice"},
		{"a b|a", false, "flow [a] is the beginning of flow [a b], which could never be completed: append m.login.dummy to it"},
		{"b|a b", true, "flow [b] is the beginning of flow [a b], which could never be completed: append m.login.dummy to it"},
		{"a|", false, "flow 1 is empty"},
		{"a a", false, `flow [a a] has the stage "a" twice`},
		{"x|a x", false, "flow [x] names the stage \"x\", which is not registered\nflow [a x] names the stage \"x\", which is not registered"},
	} {
		err := Check(flows(c.flows), c.anyOrder, known)
		if c.mistakes == "" {
			assert.NoError(t, err, c.flows)
		} else {
			assert.EqualError(t, err, c.mistakes, c.flows)
		}
	}
}

func TestDigestAndEncode(t *testing.T) {
	assert.JSONEq(t, `[{"stages":["a","b"]},{"stages":["c"]}]`, string(Encode(flows("a b|c"))))
	assert.Equal(t, "[]", string(Encode[[]string](nil)))
	digest := Digest(flows("a b|c"), false)
	assert.Len(t, digest, 16)
	assert.Equal(t, digest, Digest(flows("a b|c"), false))
	for _, other := range [][]byte{Digest(flows("a b|c"), true), Digest(flows("a|b c"), false), Digest(flows("c|a b"), false)} {
		assert.NotEqual(t, digest, other)
	}
}
