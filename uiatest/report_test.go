package uiatest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The most that can be said about a failure takes 30 lines, and what matters most is
// among them.
func TestExplainIsShort(t *testing.T) {
	r := Report{Case: Case{Name: "races/x", Level: Must, Says: "It must.", Place: "somewhere"}, Outcome: Failed}
	for i := range 20 {
		r.Problems = append(r.Problems, fmt.Sprint("problem ", i, strings.Repeat(" and so on", 100)))
	}
	long := strings.Repeat("line\n", 100)
	for i := range 64 {
		r.Exchanges = append(r.Exchanges, Exchange{
			Request: fmt.Sprintf("POST /%d\nContent-Type: text/plain\nX-Other: 1\n\n%s", i, long),
			Answer:  "401 Unauthorized\nContent-Type: text/plain\nCache-Control: no-store\n\n" + long,
			Failed:  i == 40 || i > 50,
		})
	}
	text := r.Explain()
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	require.LessOrEqual(t, len(lines), 30)
	require.GreaterOrEqual(t, len(lines), 28, "there is room for what there is")
	for _, line := range lines {
		require.Less(t, len(line), 600)
	}
	for _, part := range []string{
		"It must.", "problem 0", "and 16 more", "35 more requests", "     before  POST /39 ", "    request  POST /40\n", ">>> answer   401", ">>> and 13 more answers like that",
	} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, "X-Other")
	require.NotContains(t, text, "Cache-Control")
	r.Problems = []string{"header Cache-Control is missing, expected none"}
	require.Contains(t, r.Explain(), "Cache-Control: no-store", "a header that a problem is about is shown")

	passed := Report{Outcome: Passed}
	require.Empty(t, passed.Explain())
}

// A long session does not hide what stands beside it, and a long line is not cut off as
// long as there is room.
func TestExplainShowsWhatMatters(t *testing.T) {
	session := strings.Repeat("s1-_", 40)
	r := Report{Case: Case{Name: "uia/x"}, Outcome: Failed, Exchanges: []Exchange{{Failed: true,
		Request: `POST /` + "\n\n" + `{"auth":{"session":"` + session + `","type":"m.login.dummy"}}`,
		Answer:  `401 Unauthorized` + "\n\n" + `{"session":"` + session + `","flows":[` + strings.Repeat(`{"stages":["m.login.dummy"]},`, 12) + `{}],"completed":[]}`,
	}}}
	text := r.Explain()
	require.Contains(t, text, `"session":"s1-_s1-_s1-_s1-_..."`)
	require.Contains(t, text, `"type":"m.login.dummy"`)
	require.Contains(t, text, `"completed":[]`)
	require.NotContains(t, text, session)
}

// What is expected is said in words, not in the operators of the data.
func TestWords(t *testing.T) {
	for want, got := range map[string]string{
		`{"errcode":{"$absent":true}}`:                          `member "errcode" is "M_X", expected none`,
		`{"gone":{"$type":"array"}}`:                            `member "gone" is missing, expected a list`,
		`{"gone":{"$any":[{"$type":"string"},[]]}}`:             `member "gone" is missing, expected a string or an empty list`,
		`{"o":{"x":2}}`:                                         `member "o.x" is 1, expected 2`,
		`{"n":{"$all":[{"$type":"integer"},{"$min":4}]}}`:       `member "n" is 3, expected an integer and at least 4`,
		`{"l":{"$contains":"c"}}`:                               `member "l" is ["a"], expected a list that contains "c"`,
		`{"l":{"$lacks":"a"}}`:                                  `member "l" is ["a"], expected a list without "a"`,
		`{"l":{"$each":{"$type":"object"}}}`:                    `member "l" is ["a"], expected a list of nothing but an object`,
		`{"o":{"$only":["y"]}}`:                                 `member "o" is {"x":1}, expected an object with no members but "y"`,
		`{"errcode":{"$not":"M_X"}}`:                            `member "errcode" is "M_X", expected anything but "M_X"`,
		`{"errcode":{"$match":"^Y"}}`:                           `member "errcode" is "M_X", expected text like ^Y`,
		`{"n":{"$max":2}}`:                                      `member "n" is 3, expected at most 2`,
		`{"n":{"$optional":"x"}}`:                               `member "n" is 3, expected "x"`,
		`{"l":[{"x":{"$type":"number"},"y":{"$absent":true}}]}`: `member "l[0]" is "a", expected an object with "x": a number, "y": none`,
		`{"l":[{},"b"]}`:                                        `member "l" is ["a"], expected [an object, "b"]`,
		`[]`:                                                    `the body is {"errcode":"M_X","l":["a"],"n":3,"o":{"x":1}}, expected an empty list`,
	} {
		require.Equal(t, []string{got}, match("", decode(t, want), decode(t, `{"errcode":"M_X","n":3,"o":{"x":1},"l":["a"]}`)), want)
	}
	require.Equal(t, []string{`header Retry-After is missing, expected text like ^[0-9]+$ or none`},
		[]string{differs("Retry-After", map[string]any{"$optional": map[string]any{"$match": "^[0-9]+$"}}, absent{})})
}

// Nothing that is secret is in a report, however it is written there.
func TestSecretsAreHidden(t *testing.T) {
	s := secrets{}
	s.add(`s3cret "+/é`, "(admin token)")
	s.add("abc", "(registration token)")
	s.add("token-1", "(access token 1)")
	s.add("token-12", "(access token 2)")
	s.add("", "(nothing)")
	r := Report{
		Reason:   `s3cret "+/é`,
		Problems: []string{`member "x" is "s3cret \"+/é"`},
		Exchanges: []Exchange{{
			Request: "GET /?a=s3cret+%22%2B%2F%C3%A9&b=abcdef\nAuthorization: Bearer token-12",
			Answer:  `{"token":"abc","access_token":"token-1","path":"s3cret%20%22+%2F%C3%A9"}`,
		}},
	}
	s.hide(&r)
	require.Equal(t, "(admin token)", r.Reason)
	require.Equal(t, []string{`member "x" is "(admin token)"`}, r.Problems)
	require.Equal(t, "GET /?a=(admin token)&b=abcdef\nAuthorization: Bearer (access token 2)", r.Exchanges[0].Request)
	require.Equal(t, `{"token":"(registration token)","access_token":"(access token 1)","path":"(admin token)"}`, r.Exchanges[0].Answer)
}
