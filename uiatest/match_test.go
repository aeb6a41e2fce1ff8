package uiatest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func decode(t *testing.T, text string) (v any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&v))
	return v
}

func TestMatch(t *testing.T) {
	const body = `{"s":"text","n":3,"f":1.50,"b":true,"z":null,"l":["a","b"],"o":{"x":1},"e":[],"huge":1e999999999}`
	for _, right := range []string{
		`{}`, `{"s":"text","n":3}`, `{"n":3.0,"f":1.5}`, `{"z":null,"b":true}`, `{"l":["a","b"],"e":[]}`, `{"o":{"x":1}}`,
		`{"gone":{"$absent":true}}`, `{"gone":{"$optional":"x"},"s":{"$optional":"text"}}`, `{"s":{"$type":"string"},"n":{"$type":"integer"}}`,
		`{"n":{"$type":"number"},"f":{"$type":"number"},"b":{"$type":"boolean"},"z":{"$type":"null"},"l":{"$type":"array"},"o":{"$type":"object"}}`,
		`{"s":{"$any":["x","text"]}}`, `{"gone":{"$any":[{"$absent":true},[]]},"e":{"$any":[{"$absent":true},[]]}}`, `{"s":{"$all":["text",{"$match":"^t"}]}}`,
		`{"s":{"$not":"x"},"gone":{"$not":"x"}}`, `{"s":{"$match":"ex"}}`, `{"l":{"$contains":"a"}}`, `{"l":{"$lacks":"c"}}`, `{"l":{"$each":{"$type":"string"}}}`,
		`{"o":{"$only":["x","y"]}}`, `{"o":{"$values":1}}`, `{"n":{"$min":3}}`, `{"n":{"$max":3}}`, `{"huge":1e999999999}`,
	} {
		require.Empty(t, match("", decode(t, right), decode(t, body)), right)
	}
	for _, wrong := range []string{
		`[]`, `{"s":"x"}`, `{"n":"3"}`, `{"s":3}`, `{"n":4}`, `{"z":false}`, `{"gone":null}`, `{"z":{"$absent":true}}`, `{"s":{"$optional":"x"}}`,
		`{"f":{"$type":"integer"}}`, `{"gone":{"$type":"string"}}`, `{"l":["a"]}`, `{"l":["b","a"]}`, `{"o":{"x":2}}`, `{"s":{"a":1}}`,
		`{"s":{"$any":["x"]}}`, `{"s":{"$all":["text","x"]}}`, `{"s":{"$not":"text"}}`, `{"n":{"$match":"3"}}`, `{"l":{"$contains":"c"}}`,
		`{"l":{"$lacks":"a"}}`, `{"gone":{"$lacks":"a"}}`, `{"l":{"$each":"a"}}`, `{"gone":{"$each":"a"}}`, `{"o":{"$only":[]}}`, `{"o":{"$values":2}}`, `{"s":{"$values":1}}`, `{"s":{"$only":[]}}`,
		`{"n":{"$min":4}}`, `{"n":{"$max":2}}`, `{"s":{"$min":1}}`, `{"s":{"$unknown":1}}`, `{"huge":{"$min":1}}`,
	} {
		require.NotEmpty(t, match("", decode(t, wrong), decode(t, body)), wrong)
	}
}

// Of several expectations one is enough. What is said of an answer that is like none
// of them is about those that have its status.
func TestAlternatives(t *testing.T) {
	var e expect
	require.NoError(t, json.Unmarshal([]byte(`{"any":[{"status":200,"json":{"user_id":"@a:b"}},{"status":[401,403],"json":{"completed":["x"]}}]}`), &e))
	require.True(t, e.allows(403))
	require.False(t, e.allows(429))
	for body, want := range map[string][]string{
		`200 {"user_id":"@a:b"}`:  nil,
		`401 {"completed":["x"]}`: nil,
		`401 {"completed":["y"]}`: {`member "completed[0]" is "y", expected "x"`},
		`200 {"completed":["x"]}`: {`member "user_id" is missing, expected "@a:b"`},
		`500 {}`:                  {"status 500, expected 200 or 401 or 403"},
	} {
		a := &answer{json: decode(t, body[4:])}
		fmt.Sscan(body, &a.status)
		require.Equal(t, want, e.problems(a), body)
	}
	e = expect{}
	require.NoError(t, json.Unmarshal([]byte(`{"any":[{"headers":{"A":"1"}},{"headers":{"B":"2"}}]}`), &e))
	require.Equal(t, []string{`header A is missing, expected "1", or else header B is missing, expected "2"`}, e.problems(&answer{header: http.Header{}}))
	require.Empty(t, e.problems(&answer{header: http.Header{"B": {"2"}}}))
}

func TestVariables(t *testing.T) {
	s := newScope(nil)
	s.values["session"], s.values["n"], s.values["t.1"] = "a/b c", json.Number("5"), "one"
	got, err := s.value(decode(t, `{"whole":"${n}","part":"x${n}","q":"${session|query}","p":"${session|path}","u":"${session|upper}","r":"${repeat.3.x}","again":["${user.a}","${user.a}","${user.b}"],"plain":"$5 {a}"}`))
	require.NoError(t, err)
	object := got.(map[string]any)
	again := object["again"].([]any)
	delete(object, "again")
	require.Equal(t, map[string]any{"whole": json.Number("5"), "part": "x5", "q": "a%2Fb+c", "p": "a%2Fb%20c", "u": "A/B C", "r": "xxx", "plain": "$5 {a}"}, object)
	require.Equal(t, again[0], again[1])
	require.NotEqual(t, again[0], again[2])

	c := s.contestant(1)
	text, err := c.text("${t.${i}} ${i}")
	require.NoError(t, err)
	require.Equal(t, "one 1", text)
	_, err = s.text("${name.255}")
	require.Error(t, err, "there is no user ID yet")
	s.values["user_id"] = "@a:example.org:8448"
	text, err = s.text("@${name.255}:example.org:8448")
	require.NoError(t, err)
	require.Len(t, text, 255)
	s.values["session"] = "${n}" // what a homeserver sends is not looked into
	text, err = s.text("${session}")
	require.NoError(t, err)
	require.Equal(t, "${n}", text)
	for _, wrong := range []string{"${unknown}", "${session|unknown}", "${n|upper}", "${ms.x}", "${repeat.x.y}"} {
		_, err := s.value(wrong)
		require.Error(t, err, wrong)
	}
}

func TestForm(t *testing.T) {
	s := newScope(nil)
	s.page = &answer{path: "/a/b?session=1", body: []byte(`<p><input name=outside><FORM method='POST'
		action="c?x=1&amp;y=2"><input type=hidden name="h" value="&lt;1"><input type="email" name="mail"><input name="token" value="old"><input name="second"><button name=go value=1>Go</button><button name=no value=2></button></form>`)}
	m, err := s.submit("a b", "")
	require.NoError(t, err)
	require.Equal(t, "POST /a/c?x=1&y=2", m.method+" "+m.path)
	require.Equal(t, "go=1&h=%3C1&token=a+b", string(m.body))
	for _, wrong := range []string{
		``, `<form method="post"></form>`, `<form><input name="token"></form>`,
		`<form method="post" action="https://elsewhere.example.org/"><input name="token"></form>`,
		`<form method="post" action="//elsewhere.example.org/"><input name="token"></form>`, `<form method="post" action=":"><input name="token"></form>`,
	} {
		s.page = &answer{path: "/a", body: []byte(wrong)}
		_, err := s.submit("x", "")
		require.Error(t, err, wrong)
	}
}

// With a secret it is the form that asks for a password, wherever on the page that is.
func TestFormWithPassword(t *testing.T) {
	const page = `<form action="/lang"><select name="lang"></select><button>Go</button></form><form method="post">
		<input name="name" type="text"><input type="PASSWORD" name="p"><input type=password name="again"><input type="hidden" name="h" value="1"></form>`
	s := newScope(nil)
	s.page = &answer{path: "/register?token=x", body: []byte(page)}
	m, err := s.submit("alice", "a secret")
	require.NoError(t, err)
	require.Equal(t, "POST /register?token=x", m.method+" "+m.path)
	require.Equal(t, "again=a+secret&h=1&name=alice&p=a+secret", string(m.body))
	s.page.body = []byte(`<form method="post"><input name="token"></form>`)
	_, err = s.submit("alice", "a secret")
	require.Error(t, err, "no form asks for a password")
}

func TestExpectPassword(t *testing.T) {
	for page, asks := range map[string]bool{
		`<form><input name="n"><input TYPE='password' name=p></form>`: true,
		`<form><input name="password"></form>`:                        false,
		`<p>type="password"</p>`:                                      false,
	} {
		for _, want := range []bool{true, false} {
			e := expect{Body: bodyExpect{Password: &want}}
			require.Equal(t, want == asks, len(e.problems(&answer{body: []byte(page)})) == 0, page)
		}
	}
}

// A page that refuses an invitation has counted a wrong guess, one that is not there none.
func TestGuessAtSignup(t *testing.T) {
	m := &message{method: "GET", path: "/register?token=x"}
	require.True(t, guess(m))
	require.False(t, guess(&message{method: "POST", path: "/register?token=x"}))
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	asks := []byte(`<form><input name="n"><input type="password" name="p"></form>`)
	require.True(t, failedGuess(m, &answer{status: 404, header: html, body: []byte("<p>This invitation is not known.</p>")}))
	require.False(t, failedGuess(m, &answer{status: 200, header: html, body: asks}))
	require.False(t, failedGuess(m, &answer{status: 404, header: http.Header{"Content-Type": {"application/json"}}, body: []byte(`{}`)}))
	require.False(t, failedGuess(m, &answer{status: 429, header: html}))
}
