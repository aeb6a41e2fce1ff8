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
		require.NotEmpty(t, c.Kills, c.Name)
		require.Regexp(t, `^[a-z]+(/[a-z0-9-]+){1,2}$`, c.Name)
		for _, need := range c.Needs {
			require.Contains(t, features, need, c.Name)
		}
		checkSteps(t, s, c.Name, c.steps)
	}
	for name, steps := range s.sequences {
		checkSteps(t, s, name, steps)
	}
	require.Greater(t, levels[Must], 60)
	require.Greater(t, levels[Should], 150)
	require.Greater(t, levels[Client], 40)
	require.Less(t, guesses, MaxGuesses, "or the last of them do not apply")
}

// demands is a word by which a sentence demands something.
var demands = regexp.MustCompile(`(?i)\b(must|required|requires)\b`)

// A case at the level must quotes a sentence that demands something, or the data says
// what else binds the server. At the level client it names clients and versions.
func TestLevels(t *testing.T) {
	for _, c := range Cases() {
		switch c.Level {
		case Must:
			require.True(t, demands.MatchString(c.Says) || c.Because != "", "%s: the sentence demands nothing, and no reason stands beside it", c.Name)
			require.Contains(t, []string{"Client-Server API", "MSC3231"}, strings.Split(c.Place, ",")[0], c.Name)
		case Client:
			require.Empty(t, c.Because, c.Name)
			for client := range strings.SplitSeq(c.Place, ", ") {
				require.Regexp(t, `^[A-Za-z][A-Za-z -]+ [0-9a-f.]+$`, client, "%s: a client and its version", c.Name)
			}
		case Should:
			require.Empty(t, c.Because, c.Name)
		}
	}
}

// A feature that is asked for is one that cases need.
func TestFeatures(t *testing.T) {
	s, err := load()
	require.NoError(t, err)
	needed := make(map[string]bool)
	for _, c := range s.cases {
		for _, need := range c.Needs {
			needed[need] = true
		}
	}
	for _, feature := range features {
		require.True(t, needed[feature], "no case needs %s", feature)
	}
	for feature, probe := range s.probes {
		require.Contains(t, features, feature)
		require.NotEmpty(t, probe.Says)
		checkSteps(t, s, feature, probe.Steps)
	}
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
			checkExpect(t, name, st.Expect)
		}
		if st.Request != "" {
			require.Regexp(t, `^[A-Z]+ /`, st.Request, name)
		}
	}
}

func checkExpect(t *testing.T, name string, e *expect) {
	checkMatcher(t, name, e.JSON)
	for _, m := range e.Headers {
		checkMatcher(t, name, m)
	}
	for _, one := range e.Any {
		checkExpect(t, name, &one)
	}
}

var operators = []string{"$absent", "$type", "$optional", "$any", "$all", "$not", "$match", "$contains", "$lacks", "$each", "$values", "$only", "$min", "$max"}

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
	for name, v := range map[string]any{"case": caseData{}, "token": tokenDecl{}, "account": accountDecl{}, "step": step{}, "race": race{}, "expect": expect{}} {
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
