package uia_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// guarded is a homeserver that is asked for nothing legal: it must answer each
// request with a 4xx in Matrix JSON, and write nothing.
type guarded struct {
	*homeserver
	meter *meter
}

func newGuarded(t testing.TB, change func(*uia.Config)) guarded {
	m := newMeter()
	g := guarded{newHomeserver(t, setup{store: m, change: change}), m}
	g.operate = func(context.Context, *uia.Session) (uia.Effect, error) {
		t.Error("the operation was run")
		return uia.Effect{}, nil
	}
	return g
}

func (g guarded) refuses(t testing.TB, body string) answer {
	t.Helper()
	g.meter.reset()
	a := g.post(body)
	assert.True(t, 400 <= a.Status && a.Status < 500, "%d %s", a.Status, a.Body)
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
	if a.Status != 401 || a.session() == "" {
		assert.NotEmpty(t, a.errcode(), a.Body)
		assert.NotEmpty(t, a.JSON["error"], a.Body)
	}
	g.meter.unwritten(t)
	return a
}

func nested(n int, open, shut string) string {
	return strings.Repeat(open, n) + strings.Repeat(shut, n)
}

func TestBadInput(t *testing.T) {
	g := newGuarded(t, nil)
	g.token("abc", 1)
	fresh, begun := g.open(dict{}), g.open(dict{})
	require.Len(t, g.post(dict{"auth": submitToken(begun, "abc")}).completed(), 1)
	g.post(dict{"username": 7, "auth": dict{"session": begun}}) // the first refusal lets go of the hold, once

	for name, members := range map[string][]string{
		"malformed": {`"a"`, `"a":`, `"a":1,,"b":2`, `"a":1 "b":2`, `a:1`, `"a":.5`, `"a":NaN`, `"a":Infinity`, `"a":0x10`, `"a":1e`, `"a":--1`,
			`"a":"`, `"a":"\u12"`, `"a":"\u12g4"`, `"a":"\q"`, "\"a\":\"\t\"", "\"a\":\"\x00\"", `"a":[`, `"a":{`, `"a":]`, `"a":tru`, `"a":nullx`, `"a":1/*c*/`, `'a':1`, "\u00a0\"a\":1"},
		"not UTF-8":        {"\"a\":\"\xff\"", "\"\xfe\":1", "\"a\":\"\xc0\xaf\"", "\"a\":\"\xed\xa0\x80\"", "\"a\":\"\xf4\x90\x80\x80\"", "\"a\":\"\xe2\x82\"", "\xff", `"a":"\ud800"`, `"a":"\udfff"`, `"\ud800":1`},
		"duplicate":        {`"a":1,"a":1`, `"a":1,"\u0061":2`, `"a":{"b":1,"b":1}`, `"username":"alice","username":"bob"`, `"a":[{"":1,"":2}]`},
		"nesting":          {`"a":` + nested(64, "[", "]"), `"a":` + nested(64, `{"a":`, "}"), `"a":` + nested(20000, "[", "]"), `"a":` + strings.Repeat("[", 30000), `"a":` + strings.Repeat(`{"a":`, 10000)},
		"too many members": {`"a":[` + strings.TrimSuffix(strings.Repeat(`{"a":0},`, 1000), ",") + `]`},
		"a wrong type":     {`"username":7`, `"username":{}`, `"username":["alice"]`, `"username":true`},
		"a body too large": {`"a":"` + strings.Repeat("x", 1<<20) + `"`, `"a":` + nested(1<<19, "[", "]")},
	} {
		t.Run(name, func(t *testing.T) {
			for _, text := range members {
				auth := fmt.Sprintf(`"auth":{"type":"m.login.dummy","session":%q}`, begun)
				for _, body := range []string{"{" + text + "}", "{" + text + "," + auth + "}", "{" + auth + "," + text + "}"} {
					assert.NotEqual(t, 401, g.refuses(t, body).Status)
				}
			}
		})
	}

	t.Run("auth", func(t *testing.T) {
		g.post(dict{"auth": dict{"session": begun}}) // a poll renews the hold that a refusal has let go of
		for _, session := range []string{fresh, begun} {
			s := fmt.Sprintf("%q", session)
			for _, auth := range []string{
				`[]`, `[{"type":"m.login.dummy"}]`, `"m.login.dummy"`, `1`, `true`, `false`, `1e400`,
				`{"type":1,"session":` + s + `}`, `{"type":{},"session":` + s + `}`, `{"type":["m.login.dummy"],"session":` + s + `}`,
				`{"type":"m.login.dummy","session":[` + s + `]}`, `{"type":"m.login.dummy","session":7}`, `{"session":true}`,
				`{"type":"m.login.dummy","session":` + s + `,"session":` + s + `}`,
				`{"type":"m.login.dummy","type":"m.login.dummy","session":` + s + `}`,
				`{"type":"m.login.dummy","typ\u0065":"m.login.password","session":` + s + `}`,
			} {
				assert.Equal(t, "M_BAD_JSON", g.refuses(t, `{"auth":`+auth+`}`).errcode(), auth)
			}
			// Members are case sensitive: these are others, and no stage is attempted.
			for _, body := range []string{
				`{"Auth":{"type":"m.login.dummy","session":` + s + `}}`, `{"AUTH":null}`,
				`{"auth":{"Type":"m.login.dummy","session":` + s + `}}`, `{"auth":{"type":"m.login.dummy","Session":` + s + `}}`,
			} {
				g.refuses(t, body)
			}
			for _, token := range []string{`1`, `["abc"]`, `{}`, `true`} {
				body := `{"auth":{"type":"` + uia.TokenType + `","session":` + fmt.Sprintf("%q", fresh) + `,"token":` + token + `}}`
				g.refuses(t, body).is(t, 401, "M_INVALID_PARAM")
			}
			for _, rest := range []string{``, `,"token":null`, `,"Token":"abc"`} {
				body := `{"auth":{"type":"` + uia.TokenType + `","session":` + fmt.Sprintf("%q", fresh) + rest + `}}`
				g.refuses(t, body).is(t, 401, "M_MISSING_PARAM")
			}
			for _, token := range []string{``, `a b`, `abc\u0000`, `abc/`, `\u0000`, `é`, strings.Repeat("a", 65), `ab\nc`, `ABC`, `%61bc`} {
				body := `{"auth":{"type":"` + uia.TokenType + `","session":` + fmt.Sprintf("%q", fresh) + `,"token":"` + token + `"}}`
				assert.Equal(t, "M_UNAUTHORIZED", g.refuses(t, body).errcode())
			}
		}
	})

	t.Run("sessions", func(t *testing.T) {
		for _, s := range []string{"x", strings.Repeat("A", 8193), strings.Repeat("A", 60000), "\x00", "\u0000" + begun, begun + " ", "é", "-", begun + begun} {
			body := fmt.Sprintf(`{"auth":{"type":"m.login.dummy","session":%s}}`, quote(s))
			assert.Equal(t, "M_UNKNOWN", g.refuses(t, body).errcode())
			g.meter.untouched(t)
		}
		for _, path := range []string{"/devices/A", "/devices/B"} { // of another operation
			g.meter.reset()
			a := g.send("DELETE", path, "@a:test", dict{"auth": submitPassword(begun, "right")})
			a.is(t, 403, "M_FORBIDDEN")
			g.meter.untouched(t)
		}
	})
	g.operate = g.accounts.create
	g.post(with(dict{"username": "alice"}, submitDummy(begun))).is(t, 200, "") // none of it did any harm
}

// quote returns s as a JSON string.
func quote(s string) string {
	r := strings.NewReplacer("\x00", `\u0000`, "\n", `\n`, "\r", `\r`)
	return `"` + r.Replace(s) + `"`
}

func TestBadInputHugeSessionID(t *testing.T) {
	g := newGuarded(t, func(c *uia.Config) { c.MaxBody = 4 << 20 })
	for _, c := range []string{"A", "_", "=", "é"} {
		a := g.refuses(t, `{"auth":{"type":"m.login.dummy","session":"`+strings.Repeat(c, 1<<20)+`"}}`)
		a.is(t, 400, "M_UNKNOWN")
		g.meter.untouched(t)
	}
	small := newGuarded(t, nil)
	a := small.refuses(t, `{"auth":{"type":"m.login.dummy","session":"`+strings.Repeat("A", 1<<20)+`"}}`)
	a.is(t, 413, "M_TOO_LARGE")
}

func TestBadInputDamagedSessionIDs(t *testing.T) {
	g := newGuarded(t, nil)
	g.token("abc", 1)
	s := g.open(dict{"username": "alice"})
	require.Len(t, g.post(dict{"auth": submitToken(s, "abc")}).completed(), 1)
	refused := func(id string) {
		t.Helper()
		a := g.refuses(t, `{"auth":{"type":"m.login.dummy","session":`+quote(id)+`}}`)
		require.Equal(t, 400, a.Status, a.Body)
		g.meter.untouched(t)
	}
	for i := range len(s) * 7 { // bits of an ASCII string
		flipped := []byte(s)
		flipped[i/7] ^= 1 << (i % 7)
		if c := flipped[i/7]; c < 0x20 || c == '"' || c == '\\' || c == 0x7f {
			flipped[i/7] = '*' // it is no character of an ID anyway
		}
		refused(string(flipped))
	}
	for i := 1; i < len(s); i++ {
		refused(s[:i])
		refused(s[i:])
		refused(s[:i] + "\n" + s[i:])
	}
	for _, id := range []string{s + "\n", s + "=", s + "A", s + "AAAA", "\n" + s} {
		refused(id)
	}
}

func TestBadInputBrokenBodies(t *testing.T) {
	g := newGuarded(t, nil)
	for name, body := range map[string]io.Reader{
		"hung up": io.MultiReader(strings.NewReader(`{"a":`), iotest.ErrReader(errors.New("connection reset"))),
		"short":   strings.NewReader(`{"a"`),
	} {
		t.Run(name, func(t *testing.T) {
			for _, length := range []int64{-1, 100} {
				r := httptest.NewRequest("POST", "/register", body)
				r.ContentLength = length
				w := httptest.NewRecorder()
				g.handler.ServeHTTP(w, r)
				assert.Equal(t, 400, w.Code)
				assert.Contains(t, w.Body.String(), "M_NOT_JSON")
				assert.NotContains(t, w.Body.String(), "reset")
			}
		})
	}
	// A length is believed only within the limit: nothing is set aside or read for it.
	r := httptest.NewRequest("POST", "/register", iotest.ErrReader(errors.New("read")))
	r.ContentLength = 1 << 50
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	assert.Equal(t, 413, w.Code)
	g.meter.untouched(t)
}

// exactly decodes a JSON object with its numbers as they are written.
func exactly(t testing.TB, object string) (v dict) {
	d := json.NewDecoder(strings.NewReader(object))
	d.UseNumber()
	require.NoError(t, d.Decode(&v))
	return v
}

func TestOddInputReachesTheHostIntact(t *testing.T) {
	h := newHomeserver(t, setup{flows: []uia.Flow{{"m.login.password", "m.login.dummy"}}})
	var params string
	h.operate = func(_ context.Context, s *uia.Session) (uia.Effect, error) {
		params = string(s.Params)
		return uia.Effect{UserID: "@a:test"}, nil
	}
	for name, text := range map[string]string{
		"numbers":    `{"n":123456789012345678901234567890,"i":-9223372036854775809,"f":0.1000000000000000000000000000000001,"e":1e400,"z":-0,"one":1.0}`,
		"characters": `{"password":"\u0000\u0001\u001f\u007f\u0080\u2028\ufffd\ufffe\uffff\ud83d\ude00é<>&\"\\/"}`,
		"names":      `{"":1,"\u0000":2,"__proto__":{"a":1},"Auth":{"type":"x"},"<b>":3,"\"":4}`,
		"structures": `{"a":` + nested(63, "[", "]") + `,"b":{},"c":[{},[],null,true,false,""]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := h.open(text)
			auth := `{"auth":{"type":"m.login.password","password":"right","session":"` + s + `"},` + text[1:]
			require.Len(t, h.post(auth).completed(), 1)
			h.post(dict{"auth": submitDummy(s)}).is(t, 200, "") // what the record has kept
			assert.Equal(t, exactly(t, text), exactly(t, params))
		})
	}
}
