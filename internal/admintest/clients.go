package admintest

import (
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// testClients has a row for each thing that tools were seen to do.
func testClients(t *testing.T, fresh func(testing.TB) uia.TokenStore) {
	runRows(t, fresh, clientRows, nil)
}

var clientRows = []row{
	{"Unknown query parameters are ignored", func(t *testing.T, s *Server) {
		s.Create("abcd", "efgh")
		a := s.Do("GET", "?colour=blue&search_term=x&guests=true", nil)
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, []string{"abcd", "efgh"}, a.Tokens())
		assert.Equal(t, 200, s.Do("GET", "/abcd?x=1", nil).Status)
	}},
	{"Unknown body keys are ignored", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", Dict{"token": "abcd", "colour": "blue", "pending": "yes"})
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, "abcd", a.Token())
		assert.Equal(t, 200, s.Do("PUT", "/abcd", Dict{"colour": []int{1}}).Status)
	}},
	{"Web UIs send from, limit, order_by, dir on the list", func(t *testing.T, s *Server) {
		s.Create("a", "b", "c", "d", "e")
		for query, want := range map[string]string{
			"?from=0&limit=500&order_by=token&dir=f":           "abcde",
			"?from=0&limit=2&order_by=token&dir=b":             "ed",
			"?from=2&limit=2&order_by=token&dir=f":             "cd",
			"?from=4&limit=2&order_by=token&dir=b&valid=true":  "a",
			"?from=5&limit=10&order_by=id&dir=ASC&valid=true":  "",
			"?from=9999&limit=10&order_by=uses_allowed&dir=f":  "",
			"?from=0&limit=10&order_by=pending&dir=f":          "abcde",
			"?from=1&limit=1&order_by=expiry_time&dir=f":       "b",
			"?from=0&limit=10&order_by=completed&dir=DESC&x=y": "abcde",
		} {
			a := s.Do("GET", query, nil)
			assert.Equal(t, 200, a.Status, query)
			assert.Equal(t, want, strings.Join(a.Tokens(), ""), query)
		}
	}},
	{"Web UIs PUT the whole record back, token, id, pending and completed included", func(t *testing.T, s *Server) {
		s.Do("POST", "/new", Dict{"token": "abcd", "uses_allowed": 3, "expiry_time": Now.Add(time.Hour).UnixMilli(), "label": "l", "meta": Dict{"role": "x"}})
		s.Spend("abcd", "session", "@a:test", Now)
		record := s.Do("GET", "/abcd", nil).JSON
		record["id"], record["uses_allowed"] = "abcd", 5
		a := s.Do("PUT", "/abcd", record)
		require.Equal(t, 200, a.Status, a.Body)
		delete(record, "id")
		record["uses_allowed"] = 5.0
		assert.Equal(t, record, a.JSON)
		// Nor can it rename a token, or change what was used.
		record["token"], record["completed"], record["created_ts"] = "other", 99, 1
		a = s.Do("PUT", "/abcd", record)
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, "abcd", a.Token())
		assert.EqualValues(t, 1, a.JSON["completed"])
		assert.Equal(t, 404, s.Do("GET", "/other", nil).Status)
	}},
	{"The whole record comes back after its expiry has passed", func(t *testing.T, s *Server) {
		past := Now.Add(-time.Hour)
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "old", Expires: past}))
		record := s.Do("GET", "/old", nil).JSON
		record["uses_allowed"] = 7
		a := s.Do("PUT", "/old", record)
		assert.Equal(t, 200, a.Status, a.Body)
		assert.EqualValues(t, past.UnixMilli(), a.JSON["expiry_time"])
		assert.EqualValues(t, 7, a.JSON["uses_allowed"])
	}},
	{"synadm sends explicit nulls: a null means unlimited and never", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", `{"length":16,"uses_allowed":null,"expiry_time":null}`)
		assert.Equal(t, 200, a.Status)
		assert.Len(t, a.Token(), 16)
		assert.Nil(t, a.JSON["uses_allowed"])
		assert.Nil(t, a.JSON["expiry_time"])
		a = s.Do("POST", "/new", `{"token":null,"length":null,"uses_allowed":1}`)
		assert.Equal(t, 200, a.Status)
		assert.Len(t, a.Token(), 16)
	}},
	{"synadm sends length together with token", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", `{"length":16,"uses_allowed":null,"expiry_time":null,"token":"abcd"}`)
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, "abcd", a.Token())
	}},
	{"A null on PUT means unlimited and never; an absent key means unchanged", func(t *testing.T, s *Server) {
		expiry := float64(Now.Add(time.Hour).UnixMilli())
		s.Do("POST", "/new", Dict{"token": "abcd", "uses_allowed": 2, "expiry_time": expiry})
		a := s.Do("PUT", "/abcd", `{}`)
		assert.Equal(t, []any{200, 2.0, expiry}, []any{a.Status, a.JSON["uses_allowed"], a.JSON["expiry_time"]})
		a = s.Do("PUT", "/abcd", `{"uses_allowed":null}`)
		assert.Equal(t, []any{200, nil, expiry}, []any{a.Status, a.JSON["uses_allowed"], a.JSON["expiry_time"]})
		a = s.Do("PUT", "/abcd", `{"expiry_time":null,"uses_allowed":4}`)
		assert.Equal(t, []any{200, 4.0, nil}, []any{a.Status, a.JSON["uses_allowed"], a.JSON["expiry_time"]})
		assert.Equal(t, a.JSON, s.Do("GET", "/abcd", nil).JSON, "and it stays")
	}},
	{"The list honours valid=true and valid=false", func(t *testing.T, s *Server) {
		type change func(*uia.Token)
		changes := map[string]change{
			"good":    func(*uia.Token) {},
			"more":    func(t *uia.Token) { t.UsesAllowed = new(int64(1)) },
			"off":     func(t *uia.Token) { t.UsesAllowed = new(int64(0)) },
			"expired": func(t *uia.Token) { t.Expires = Now },
			"revoked": func(t *uia.Token) { t.Revoked = true },
			"held":    func(t *uia.Token) { t.UsesAllowed = new(int64(1)) },
			"used":    func(t *uia.Token) { t.UsesAllowed = new(int64(1)) },
		}
		for value, apply := range changes {
			token := uia.Token{Value: value}
			apply(&token)
			require.NoError(t, s.Store.CreateTokens(t.Context(), token))
		}
		s.Hold("held", "s1", Now)
		s.Spend("used", "s2", "@a:test", Now)
		assert.Equal(t, []string{"good", "more"}, s.Do("GET", "?valid=true", nil).Tokens())
		assert.Equal(t, []string{"expired", "held", "off", "revoked", "used"}, s.Do("GET", "?valid=false", nil).Tokens())
		assert.Len(t, s.Do("GET", "", nil).Tokens(), 7)
	}},
	{"Anything else in valid is 400", func(t *testing.T, s *Server) {
		for _, v := range []string{"", "1", "0", "True", "yes", "null", "%00", "true,false"} {
			a := s.Do("GET", "?valid="+v, nil)
			assert.Equal(t, 400, a.Status, v)
			assert.Equal(t, "M_INVALID_PARAM", a.Code(), v)
		}
	}},
	{"DELETE fires twice concurrently: one 200 {}, one 404 M_NOT_FOUND", func(t *testing.T, s *Server) {
		s.Create("abcd")
		var answers [2]Answer
		var both sync.WaitGroup
		for i := range answers {
			both.Go(func() { answers[i] = s.Do("DELETE", "/abcd", nil) })
		}
		both.Wait()
		if answers[0].Status != 200 {
			answers[0], answers[1] = answers[1], answers[0]
		}
		assert.Equal(t, 200, answers[0].Status)
		assert.Equal(t, "{}", answers[0].Body)
		assert.Equal(t, 404, answers[1].Status)
		assert.Equal(t, "M_NOT_FOUND", answers[1].Code())
	}},
	{"A missing admin token is 401 M_MISSING_TOKEN, a wrong one 401 M_UNKNOWN_TOKEN, a non-admin 403 M_FORBIDDEN", func(t *testing.T, s *Server) {
		s.Create("abcd")
		for bearer, want := range map[string][]any{
			"": {401, "M_MISSING_TOKEN"}, "wrong": {401, "M_UNKNOWN_TOKEN"}, "user": {403, "M_FORBIDDEN"},
		} {
			s.Bearer = bearer
			for _, request := range [][2]string{
				{"GET", ""}, {"GET", "/"}, {"POST", "/new"}, {"GET", "/abcd"}, {"PUT", "/abcd"}, {"DELETE", "/abcd"},
				{"GET", "/abcd/uses"}, {"GET", "/abcd/qr"}, {"PATCH", "/abcd"}, {"GET", "/a/b/c"},
			} {
				a := s.Do(request[0], request[1], `{"uses_allowed":0}`)
				assert.Equal(t, want, []any{a.Status, a.Code()}, "%v as %q", request, bearer)
			}
		}
		assert.Len(t, s.All(), 1)
		assert.Nil(t, s.All()[0].UsesAllowed)
	}},
	{"A record has token, uses_allowed, pending, completed and expiry_time in milliseconds", func(t *testing.T, s *Server) {
		expires := time.UnixMilli(1_900_000_000_123)
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "abcd", UsesAllowed: new(int64(3)), Expires: expires}))
		s.Hold("abcd", "s1", Now)
		s.Spend("abcd", "s2", "@a:test", Now)
		for _, a := range []Answer{s.Do("GET", "/abcd", nil), s.Do("PUT", "/abcd", "{}")} {
			for name, want := range map[string]any{"token": "abcd", "uses_allowed": 3.0, "pending": 1.0, "completed": 1.0, "expiry_time": 1_900_000_000_123.0} {
				assert.Equal(t, want, a.JSON[name], name)
			}
		}
		a := s.Do("GET", "", nil)
		assert.Contains(t, a.Body, `"registration_tokens":[{"token":"abcd","uses_allowed":3,"pending":1,"completed":1,"expiry_time":1900000000123,`)
	}},
	{"An empty list is a list", func(t *testing.T, s *Server) {
		assert.Equal(t, `{"registration_tokens":[]}`, s.Do("GET", "", nil).Body)
	}},
	{"POST /new answers 200 with the record", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", Dict{"token": "a.B_c~d-9", "uses_allowed": 2, "expiry_time": Now.Add(time.Second).UnixMilli()})
		assert.Equal(t, 200, a.Status)
		assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
		assert.Equal(t, s.Do("GET", "/a.B_c~d-9", nil).JSON, a.JSON)
	}},
	{"The default length is 16", func(t *testing.T, s *Server) {
		a := s.Do("POST", "/new", "{}")
		assert.Equal(t, 200, a.Status)
		assert.Regexp(t, regexp.MustCompile(`^[A-Z2-7]{16}$`), a.Token())
		assert.Len(t, s.Do("POST", "/new", `{"length":64}`).Token(), 64)
		assert.Len(t, s.Do("POST", "/new", `{"length":1}`).Token(), 1)
	}},
	{"Bad values are 400 M_INVALID_PARAM", func(t *testing.T, s *Server) {
		for _, body := range []string{
			`{"uses_allowed":true}`, `{"uses_allowed":1.5}`, `{"uses_allowed":"1"}`, `{"uses_allowed":-1}`, `{"uses_allowed":1e400}`,
			`{"expiry_time":true}`, `{"expiry_time":1.5}`, `{"expiry_time":"1"}`, `{"expiry_time":-1}`, `{"expiry_time":1699999999999}`,
			`{"length":true}`, `{"length":1.5}`, `{"length":"1"}`, `{"length":-1}`, `{"length":0}`, `{"length":65}`,
			`{"token":true}`, `{"token":5}`, `{"token":""}`, `{"token":"a b"}`, `{"token":"ä"}`, `{"token":"a/b"}`,
			`{"token":"` + strings.Repeat("x", 65) + `"}`,
		} {
			a := s.Do("POST", "/new", body)
			assert.Equal(t, 400, a.Status, body)
			assert.Equal(t, "M_INVALID_PARAM", a.Code(), body)
		}
		assert.Empty(t, s.All())
	}},
	{"With and without the trailing slash, and CORS on every answer", func(t *testing.T, s *Server) {
		s.Create("abcd")
		for _, path := range []string{"", "/", "?valid=true", "/?valid=true"} {
			a := s.Do("GET", path, nil)
			assert.Equal(t, 200, a.Status, path)
			assert.Equal(t, []string{"abcd"}, a.Tokens(), path)
		}
		for _, request := range [][2]string{{"GET", ""}, {"GET", "/x"}, {"PATCH", "/abcd"}, {"OPTIONS", "/abcd"}, {"GET", "/a/b"}} {
			a := s.Do(request[0], request[1], nil)
			assert.Equal(t, "*", a.Header.Get("Access-Control-Allow-Origin"), request)
			assert.Contains(t, a.Header.Get("Access-Control-Allow-Methods"), "DELETE", request)
		}
		s.Bearer = ""
		assert.Equal(t, 204, s.Do("OPTIONS", "/abcd", nil).Status, "a preflight carries no token")
	}},
}
