package uiatest

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// The data files say what they must, and nothing that is not understood.
func TestData(t *testing.T) {
	s, err := load()
	require.NoError(t, err)
	names := make(map[string]bool)
	levels := make(map[Level]int)
	guesses := 0
	for _, c := range s.cases {
		require.False(t, names[c.Name], "two cases are called %s", c.Name)
		names[c.Name] = true
		levels[c.Level]++
		guesses += c.Guesses
		require.Contains(t, Areas(), c.Area, c.Name)
		require.Contains(t, []Level{Must, Should, Client}, c.Level, c.Name)
		require.NotEmpty(t, c.Says, c.Name)
		require.NotEmpty(t, c.Place, c.Name)
		require.NotEmpty(t, c.steps, c.Name)
		require.Regexp(t, `^[a-z]+(/[a-z0-9-]+){1,2}$`, c.Name)
		for _, need := range c.Needs {
			require.Contains(t, features, need, c.Name)
		}
		checkSteps(t, s, c.Name, c.steps)
	}
	for name, steps := range s.sequences {
		checkSteps(t, s, name, steps)
	}
	require.Greater(t, levels[Must], 80)
	require.Greater(t, levels[Should], 60)
	require.Greater(t, levels[Client], 50)
	require.LessOrEqual(t, guesses, MaxGuesses-5, "the cases about limits need some")
}

func checkSteps(t *testing.T, s *suite, name string, steps []step) {
	for _, st := range steps {
		if st.Use != "" {
			require.Contains(t, s.sequences, st.Use, name)
		}
		if st.Race != nil {
			require.LessOrEqual(t, st.Race.Contestants, 8, name)
			checkSteps(t, s, name, st.Race.Steps)
		}
		if st.Expect != nil {
			checkMatcher(t, name, st.Expect.JSON)
			for _, m := range st.Expect.Headers {
				checkMatcher(t, name, m)
			}
		}
		if st.Request != "" {
			require.Regexp(t, `^[A-Z]+ /`, st.Request, name)
		}
	}
}

var operators = []string{"$absent", "$type", "$optional", "$any", "$all", "$not", "$match", "$contains", "$lacks", "$each", "$only", "$min", "$max"}

func checkMatcher(t *testing.T, name string, m any) {
	switch m := m.(type) {
	case []any:
		for _, item := range m {
			checkMatcher(t, name, item)
		}
	case map[string]any:
		for operator, arg := range m {
			if strings.HasPrefix(operator, "$") {
				require.Contains(t, operators, operator, name)
			}
			if operator == "$match" {
				_, err := regexp.Compile(arg.(string))
				require.NoError(t, err, name)
			}
			checkMatcher(t, name, arg)
		}
	}
}

// The schema describes the members that the kit reads, each of them.
func TestSchema(t *testing.T) {
	raw, err := data.ReadFile("cases.schema.json")
	require.NoError(t, err)
	type object struct {
		Properties map[string]any
		Items      struct{ Enum []string }
	}
	var schema struct {
		object
		Defs map[string]object `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(raw, &schema))
	members := func(v any) (out []string) {
		for field := range reflect.TypeOf(v).Fields() {
			out = append(out, field.Tag.Get("json"))
		}
		slices.Sort(out)
		return out
	}
	for name, v := range map[string]any{"case": caseData{}, "token": tokenDecl{}, "step": step{}, "race": race{}, "expect": expect{}} {
		var got []string
		for member, what := range schema.Defs[name].Properties {
			got = append(got, member)
			if _, reference := what.(map[string]any)["$ref"]; !reference {
				require.NotNil(t, what)
			}
		}
		slices.Sort(got)
		require.Equal(t, members(v), got, name)
	}
	var top []string
	for member := range schema.Properties {
		top = append(top, member)
	}
	require.ElementsMatch(t, members(file{}), top)
	require.Equal(t, features, schema.Defs["needs"].Items.Enum)
}

func TestMalformedData(t *testing.T) {
	for _, text := range []string{`{`, `{"unknown":1}`, `{"area":"other"}`, `{"cases":[{"steps":[{"expect":{"status":"x"}}]}]}`} {
		_, err := parse(fstest.MapFS{"cases/x.json": {Data: []byte(text)}})
		require.Error(t, err, text)
	}
}
