package admintest

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// Numbers that a program may send where an integer belongs. The value says whether
// it is one that a number of uses can be.
var numbers = map[string]bool{
	`true`: false, `false`: false, `1.0`: false, `1.5`: false, `1e3`: false, `"5"`: false, `""`: false, `[]`: false, `{}`: false,
	`-1`: false, `-9007199254740991`: false, `-9223372036854775808`: false,
	`0`: true, `2147483647`: true, `2147483648`: true, `4294967296`: true, `9007199254740991`: true,
	`9007199254740992`: false, `9223372036854775807`: false, `9223372036854775808`: false, `18446744073709551616`: false,
	`1e308`: false, `1e999`: false, `1` + strings.Repeat("0", 400): false,
}

// testBadInput sends what nobody should: the answer is always a 4xx in Matrix JSON,
// and nothing has been written.
func testBadInput(t *testing.T, fresh func(testing.TB) uia.TokenStore) {
	runRows(t, fresh, badRows, nil)
}

// refused asserts that an answer is this error, and that the store is as it was.
func (s *Server) refused(before []uia.Token, a Answer, status int, code, about string) {
	s.T.Helper()
	assert.Equal(s.T, status, a.Status, "%s: %s", about, a.Body)
	assert.Equal(s.T, code, a.Code(), about)
	assert.NotEmpty(s.T, a.JSON["error"], about)
	assert.Equal(s.T, "application/json", a.Header.Get("Content-Type"), about)
	assert.Equal(s.T, before, s.All(), "%s has written something", about)
}

var badRows = []row{
	{"numbers", func(t *testing.T, s *Server) {
		s.Create("abcd")
		before := s.All()
		for number, good := range numbers {
			for _, name := range []string{"uses_allowed", "expiry_time", "length", "count"} {
				if good && name != "length" && number != "0" {
					continue // below, or too many tokens
				}
				if good && name == "uses_allowed" {
					continue
				}
				body := fmt.Sprintf(`{"label":"x",%q:%s}`, name, number)
				s.refused(before, s.Do("POST", "/new", body), 400, "M_INVALID_PARAM", body)
				if name == "uses_allowed" || name == "expiry_time" {
					s.refused(before, s.Do("PUT", "/abcd", body), 400, "M_INVALID_PARAM", "PUT "+body)
				}
			}
		}
		for _, count := range []string{"1001", "2147483648", "9007199254740991"} {
			s.refused(before, s.Do("POST", "/new", `{"count":`+count+`}`), 400, "M_INVALID_PARAM", "count "+count)
		}
		for number, good := range numbers {
			if good {
				for _, a := range []Answer{s.Do("POST", "/new", `{"uses_allowed":`+number+`}`), s.Do("PUT", "/abcd", `{"uses_allowed":`+number+`}`)} {
					assert.Equal(t, 200, a.Status, number)
					assert.Contains(t, a.Body, `"uses_allowed":`+number+`,`)
				}
			}
		}
	}},
	{"null for every number is its default", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", `{"uses_allowed":null,"expiry_time":null,"length":null,"count":null,"label":null,"meta":null,"style":null}`)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.Len(t, a.Token(), 16)
	}},
	{"an expiry that has passed", func(t *testing.T, s *Server) {
		s.Create("abcd")
		before := s.All()
		for _, at := range []time.Time{Now, Now.Add(-time.Millisecond), time.UnixMilli(0)} {
			body := Dict{"uses_allowed": 1, "expiry_time": at.UnixMilli()}
			s.refused(before, s.Do("POST", "/new", body), 400, "M_INVALID_PARAM", at.String())
			s.refused(before, s.Do("PUT", "/abcd", body), 400, "M_INVALID_PARAM", at.String())
		}
		assert.Equal(t, 200, s.Do("PUT", "/abcd", Dict{"expiry_time": Now.Add(time.Millisecond).UnixMilli()}).Status)
	}},
	{"lowering below what is used disables the token and cancels nothing", func(t *testing.T, s *Server) {
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "abcd", UsesAllowed: new(int64(5))}))
		s.Spend("abcd", "s1", "@a:test", Now)
		s.Hold("abcd", "s2", Now)
		a := s.Do("PUT", "/abcd", `{"uses_allowed":0}`)
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, []any{0.0, 1.0, 1.0}, []any{a.JSON["uses_allowed"], a.JSON["completed"], a.JSON["pending"]})
		assert.Equal(t, []string{"abcd"}, s.Do("GET", "?valid=false", nil).Tokens())
	}},
	{"duplicate tokens", func(t *testing.T, s *Server) {
		s.Do("POST", "/new", `{"token":"abcd","uses_allowed":1}`)
		before := s.All()
		s.refused(before, s.Do("POST", "/new", `{"token":"abcd","uses_allowed":9}`), 400, "M_INVALID_PARAM", "the same")
		assert.Equal(t, 200, s.Do("POST", "/new", `{"token":"ABCD"}`).Status, "another value")
	}},
	{"bodies that are none", func(t *testing.T, s *Server) {
		s.Create("abcd")
		before := s.All()
		for body, want := range map[string]struct {
			status int
			code   string
		}{
			"":                          {400, "M_NOT_JSON"},
			" ":                         {400, "M_NOT_JSON"},
			"{":                         {400, "M_NOT_JSON"},
			`{"uses_allowed":1}{}`:      {400, "M_NOT_JSON"},
			`{"uses_allowed":01}`:       {400, "M_NOT_JSON"},
			`{"uses_allowed":NaN}`:      {400, "M_NOT_JSON"},
			"{\"label\":\"\xff\"}":      {400, "M_NOT_JSON"},
			"uses_allowed=1":            {400, "M_NOT_JSON"},
			strings.Repeat("[", 60_000): {400, "M_NOT_JSON"},
			"[]":                        {400, "M_BAD_JSON"},
			`[{"uses_allowed":1}]`:      {400, "M_BAD_JSON"},
			"null":                      {400, "M_BAD_JSON"},
			`"abcd"`:                    {400, "M_BAD_JSON"},
			"1":                         {400, "M_BAD_JSON"},
			`{"label":"a","label":"b"}`: {400, "M_BAD_JSON"},
			strings.Repeat(" ", 10<<20): {413, "M_TOO_LARGE"},
			`{"label":"` + strings.Repeat("x", 10<<20) + `"}`: {413, "M_TOO_LARGE"},
		} {
			about := body[:min(len(body), 30)]
			s.refused(before, s.Do("POST", "/new", body), want.status, want.code, about)
			s.refused(before, s.Do("PUT", "/abcd", body), want.status, want.code, "PUT "+about)
		}
	}},
	{"a large body of unknown length", func(t *testing.T, s *Server) {
		r := httptest.NewRequest("POST", "/_synapse/admin/v1/registration_tokens/new", strings.NewReader(strings.Repeat(" ", 1<<20)))
		r.ContentLength = -1
		r.Header.Set("Authorization", "Bearer admin")
		w := httptest.NewRecorder()
		s.Handler.ServeHTTP(w, r)
		assert.Equal(t, 413, w.Code)
	}},
	{"tokens in the path that cannot be", func(t *testing.T, s *Server) {
		s.Create("abcd")
		before := s.All()
		for _, token := range []string{
			"%00", "abcd%00", "%C3%A4", "ä", "%FF", "a%2Fb", "%2F", "abcd%2F", "%20", "abcd%20", "%25", "a%0Ab", "%F0%9F%94%91", "a+b", "'or'1'='1",
			strings.Repeat("x", 65), strings.Repeat("x", 8000), "ABCD", "unknown", "%2E%2E", "%2e", "..%2Fabcd",
		} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				s.refused(before, s.Do(method, "/"+token, `{"uses_allowed":1}`), 404, "M_NOT_FOUND", method+" "+token)
			}
			s.refused(before, s.Do("GET", "/"+token+"/uses", nil), 404, "M_NOT_FOUND", token+"/uses")
		}
	}},
	{"percent-encoded tokens are the same tokens", func(t *testing.T, s *Server) {
		s.Create("ab~d")
		for _, path := range []string{"/%61b~d", "/ab%7Ed", "/%61%62%7e%64", "/ab~d/"} {
			a := s.Do("GET", path, nil)
			assert.Equal(t, 200, a.Status, path)
			assert.Equal(t, "ab~d", a.Token(), path)
		}
		assert.Equal(t, 200, s.Do("DELETE", "/%61b%7Ed", nil).Status)
	}},
	{"paths and methods that there are not", func(t *testing.T, s *Server) {
		s.Create("abcd")
		before := s.All()
		for _, request := range [][2]string{
			{"GET", "/abcd/"}, {"GET", "/abcd/uses"}, {"HEAD", ""}, {"HEAD", "/abcd"},
		} {
			assert.Equal(t, 200, s.Do(request[0], request[1], nil).Status, request)
		}
		for _, path := range []string{"/abcd/other", "/abcd/uses/1/2", "/abcd/uses/x/y", "//abcd", "/new/abcd"} {
			s.refused(before, s.Do("GET", path, nil), 404, "M_UNRECOGNIZED", path)
		}
		for _, request := range [][3]string{
			{"POST", "", "GET"}, {"DELETE", "", "GET"}, {"PUT", "/", "GET"}, {"POST", "/abcd", "GET, PUT, DELETE"},
			{"PATCH", "/abcd", "GET, PUT, DELETE"}, {"PATCH", "/new", "GET, POST, PUT, DELETE"}, {"DELETE", "/abcd/uses", "GET"}, {"PUT", "/abcd/qr", "GET"},
		} {
			a := s.Do(request[0], request[1], "{}")
			s.refused(before, a, 405, "M_UNRECOGNIZED", request[0]+" "+request[1])
			assert.Equal(t, request[2]+", OPTIONS", a.Header.Get("Allow"))
		}
		a := s.Do("GET", "/abcd/qr", nil)
		s.refused(before, a, 404, "M_UNRECOGNIZED", "no invite links are configured")
	}},
	{"tokens named new, . and ..", func(t *testing.T, s *Server) {
		before := s.All()
		for _, value := range []string{".", ".."} {
			s.refused(before, s.Do("POST", "/new", Dict{"token": value}), 400, "M_INVALID_PARAM", value)
		}
		s.Create(".", "..", "...") // by other means
		for _, path := range []string{"/%2E", "/%2e%2E", "/..."} {
			assert.Equal(t, 200, s.Do("GET", path, nil).Status, path)
			assert.Equal(t, 200, s.Do("DELETE", path, nil).Status, path)
		}
		assert.Empty(t, s.All())
		assert.Equal(t, 200, s.Do("POST", "/new", `{"token":"new"}`).Status)
		for _, value := range []string{"uses", "qr", "registration_tokens"} {
			assert.Equal(t, 200, s.Do("POST", "/new", Dict{"token": value}).Status)
		}
		for _, value := range []string{"new", "uses", "qr", "registration_tokens"} {
			assert.Equal(t, value, s.Do("GET", "/"+value, nil).Token())
			assert.Equal(t, 200, s.Do("GET", "/"+value+"/uses", nil).Status)
			assert.Equal(t, 3.0, s.Do("PUT", "/"+value, `{"uses_allowed":3}`).JSON["uses_allowed"])
			assert.Equal(t, 200, s.Do("DELETE", "/"+value, nil).Status)
		}
		assert.Empty(t, s.All())
	}},
	{"concurrent DELETE and PUT of one token", func(t *testing.T, s *Server) {
		for range 20 {
			s.Create("abcd")
			var put, remove Answer
			var both sync.WaitGroup
			both.Go(func() { put = s.Do("PUT", "/abcd", `{"uses_allowed":3}`) })
			both.Go(func() { remove = s.Do("DELETE", "/abcd", nil) })
			both.Wait()
			assert.Equal(t, 200, remove.Status)
			assert.Contains(t, []int{200, 404}, put.Status)
			require.Empty(t, s.All(), "a PUT never brings a token back")
		}
	}},
	{"page tokens that were tampered with", func(t *testing.T, s *Server) {
		s.Create("a", "b", "c")
		before := s.All()
		next := s.Do("GET", "?limit=1", nil).Next()
		require.NotEmpty(t, next)
		assert.Equal(t, []string{"b"}, s.Do("GET", "?limit=1&from="+next, nil).Tokens())
		assert.Equal(t, []string{"b", "c"}, s.Do("GET", "?limit=5&from="+next, nil).Tokens(), "the limit may change")
		for i := range next {
			c := byte('A')
			if next[i] == c {
				c = 'B'
			}
			changed := next[:i] + string(c) + next[i+1:]
			s.refused(before, s.Do("GET", "?limit=1&from="+changed, nil), 400, "M_INVALID_PARAM", changed)
		}
		for _, from := range []string{
			next + "A", next[1:], next[:len(next)-1], "true", "null", "1.5", "-1", "10001", "2147483648", "9007199254740992",
			"9223372036854775808", strings.Repeat("9", 400), "%00", "a", "%C3%A4", "=", "..",
		} {
			s.refused(before, s.Do("GET", "?from="+from, nil), 400, "M_INVALID_PARAM", from)
		}
		// It belongs to one list.
		for _, other := range []string{"&dir=b", "&order_by=created_ts", "&valid=true", "&label=x"} {
			s.refused(before, s.Do("GET", "?from="+next+other, nil), 400, "M_INVALID_PARAM", other)
		}
		s.refused(before, s.Do("GET", "/a/uses?from="+next, nil), 400, "M_INVALID_PARAM", "uses")
		s.refused(before, New(t, s.Store, nil).Do("GET", "?from="+next, nil), 400, "M_INVALID_PARAM", "another secret")
		assert.NotContains(t, next, "a\"", "and does not show where it is")
	}},
	{"limits that are none", func(t *testing.T, s *Server) {
		s.Create("a")
		before := s.All()
		for _, limit := range []string{"", "0", "-1", "true", "1.5", "1e3", "null", "+5", "9007199254740992", "9223372036854775808", strings.Repeat("9", 400)} {
			s.refused(before, s.Do("GET", "?limit="+limit, nil), 400, "M_INVALID_PARAM", "limit="+limit)
			s.refused(before, s.Do("GET", "/a/uses?limit="+limit, nil), 400, "M_INVALID_PARAM", "uses limit="+limit)
		}
		for _, query := range []string{"?total=yes", "?total=1", "?total=", "?limit=%zz", "?a=;b"} {
			s.refused(before, s.Do("GET", query, nil), 400, "M_INVALID_PARAM", query)
		}
	}},
	{"members of the wrong kind", func(t *testing.T, s *Server) {
		s.Create("abcd")
		before := s.All()
		for _, body := range []string{
			`{"label":5}`, `{"label":"a\u0000b"}`, `{"label":"` + strings.Repeat("x", 256) + `"}`, `{"label":["x"]}`,
			`{"meta":[]}`, `{"meta":"x"}`, `{"meta":5}`, `{"meta":{"a":1,"a":2}}`, `{"meta":{"x":"` + strings.Repeat("x", 4096) + `"}}`,
			`{"meta":{"username":5}}`, `{"meta":{"username":"Älice"}}`, `{"meta":{"username_pattern":"(a|b)"}}`,
		} {
			s.refused(before, s.Do("POST", "/new", body), 400, "M_INVALID_PARAM", body)
			s.refused(before, s.Do("PUT", "/abcd", body), 400, "M_INVALID_PARAM", "PUT "+body)
		}
		for _, body := range []string{`{"revoked":"true"}`, `{"revoked":1}`, `{"revoked":[]}`} {
			s.refused(before, s.Do("PUT", "/abcd", body), 400, "M_INVALID_PARAM", body)
		}
		for _, body := range []string{
			`{"style":"morse"}`, `{"style":5}`, `{"style":"words"}`, `{"style":"readable","length":53}`,
			`{"token":"x","count":2}`, `{"count":1000,"length":1}`,
		} {
			s.refused(before, s.Do("POST", "/new", body), 400, "M_INVALID_PARAM", body)
		}
	}},
}
