package uia_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// The tests in contract_*_test.go are the rows of the engine's contract, each named
// by the request that a row is about.

func TestTableOpening(t *testing.T) {
	t.Run("not JSON, not UTF-8", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		for _, body := range []string{
			"{", "nonsense", `{"a":1}x`, `{"a":01}`, `{'a':1}`, `{"a":1,}`, `[1,]`, "{\"a\":\"\n\"}", `{"a":"\x"}`, "\ufeff{}",
			"{\"a\":\"\xff\"}", "{\"\xc3\x28\":1}", "{\"a\":\"\xed\xa0\x80\"}", `{"a":"\ud800"}`, `{"a":"\udc00\ud800"}`, "{}\x00",
		} {
			h.post(body).is(t, 400, "M_NOT_JSON")
		}
	})

	t.Run("not an object, duplicate members, auth not an object, session or type not a string", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		for _, body := range []string{
			"[]", "null", "1", `"{}"`, "true",
			`{"a":1,"a":1}`, `{"a":1,"\u0061":1}`, `{"a":{"b":1,"c":2,"b":3}}`, `{"a":[[{"b":1,"b":2}]]}`,
			`{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + "}",
			`{"auth":null,"auth":{}}`, `{"auth":{"type":"m.login.dummy","type":"m.login.dummy"}}`,
			`{"auth":{"session":"x","sessio\u006e":"y"}}`,
			`{"auth":[]}`, `{"auth":"m.login.dummy"}`, `{"auth":0}`, `{"auth":true}`,
			`{"auth":{"type":1}}`, `{"auth":{"type":["m.login.dummy"]}}`, `{"auth":{"session":{}}}`, `{"auth":{"session":false}}`,
		} {
			h.post(body).is(t, 400, "M_BAD_JSON")
		}
	})

	t.Run("body over the limit", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		const limit = 64 << 10
		body := func(n int) string { return `{"a":"` + strings.Repeat("x", n-len(`{"a":""}`)) + `"}` }
		h.post(body(limit)).challenges(t, "flows", "params", "session")
		h.post(body(limit+1)).is(t, 413, "M_TOO_LARGE")

		// A chunked body has no length before it is read.
		for size, status := range map[int]int{limit: 401, limit + 1: 413} {
			r := httptest.NewRequest("POST", "/register", strings.NewReader(body(size)))
			r.ContentLength = -1
			w := httptest.NewRecorder()
			h.handler.ServeHTTP(w, r)
			assert.Equal(t, status, w.Code, w.Body.String())
		}
		small := newHomeserver(t, setup{change: func(c *uia.Config) { c.MaxBody = 10 }})
		small.post(`{"a":"12"}`).is(t, 401, "")
		small.post(`{"a":"123"}`).is(t, 413, "M_TOO_LARGE")
	})

	t.Run("no auth", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		seen := map[string]bool{}
		for _, body := range []string{
			"", " \r\n\t", "{}", `{"username":"alice"}`, `{"auth":null}`, `{"auth":{}}`,
			`{"auth":{"type":null}}`, `{"auth":{"type":""}}`, `{"auth":{"session":null}}`, `{"auth":{"session":""}}`,
			`{"auth":{"type":"","session":""}}`, `{"auth":{"initial_device_display_name":"phone"}}`, `{"Auth":{"type":"m.login.dummy"}}`,
			`{"auth":{"Type":"m.login.dummy","Session":"x"}}`, // names are case sensitive
		} {
			a := h.post(body)
			a.challenges(t, "flows", "params", "session")
			assert.Equal(t, []any{dict{"stages": []any{uia.TokenType, "m.login.dummy"}}}, a.JSON["flows"])
			assert.Equal(t, dict{}, a.JSON["params"])
			assert.False(t, seen[a.session()], "not a fresh session")
			seen[a.session()] = true
			assert.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		}
	})

	t.Run("auth with a type and no session", func(t *testing.T) {
		h := newHomeserver(t, setup{flows: []uia.Flow{flowT}})
		h.token("abc", 1)
		a := h.post(with(dict{"username": "alice"}, dict{"type": uia.TokenType, "token": "abc"}))
		a.is(t, 200, "") // one request has done all
		assert.Equal(t, "@alice:test", a.JSON["user_id"])

		two := newHomeserver(t, setup{})
		two.token("abc", 1)
		a = two.post(with(dict{"username": "alice"}, dict{"type": uia.TokenType, "token": "abc"}))
		a.challenges(t, "flows", "params", "session", "completed")
		assert.Equal(t, []string{uia.TokenType}, a.completed())
		two.post(dict{"auth": submitDummy(a.session())}).is(t, 200, "")
		assert.Equal(t, 1, two.accounts.count())
	})

	t.Run("auth with a type and no session, failed", func(t *testing.T) {
		store := newMeter()
		h := newHomeserver(t, setup{store: store})
		a := h.post(with(dict{"username": "alice"}, dict{"type": uia.TokenType, "token": "wrong"}))
		a.is(t, 401, "M_UNAUTHORIZED")
		a.challenges(t, "flows", "params", "session", "completed", "errcode", "error")
		store.unwritten(t)
		h.token("abc", 1)
		a = h.post(dict{"auth": submitToken(a.session(), "abc")}) // the session is one to go on with
		require.Equal(t, []string{uia.TokenType}, a.completed())
	})

	t.Run("nothing is kept of a session that is opened", func(t *testing.T) {
		store := newMeter()
		h := newHomeserver(t, setup{store: store})
		s := h.open(dict{"username": "alice", "password": "secret"})
		store.untouched(t)
		assert.NotContains(t, s, "=")
		assert.LessOrEqual(t, len(s), 400)
	})

	t.Run("the length of an ID does not tell that of a password", func(t *testing.T) {
		h := newHomeserver(t, setup{})
		lengths := map[int]int{}
		for n := 8; n < 24; n++ {
			lengths[len(h.open(dict{"password": strings.Repeat("x", n)}))]++
		}
		assert.LessOrEqual(t, len(lengths), 2, "%v", lengths)
	})
}
