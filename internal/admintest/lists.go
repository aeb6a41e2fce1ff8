package admintest

import (
	"fmt"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
)

// testLists goes through lists page by page.
func testLists(t *testing.T, fresh func(testing.TB) uia.TokenStore) {
	runRows(t, fresh, listRows, nil)
}

// walk reads all pages of a list.
func (s *Server) walk(query string) (values []string) {
	s.T.Helper()
	from := ""
	for range 1000 {
		a := s.Do("GET", "?"+query+from, nil)
		require.Equal(s.T, 200, a.Status, a.Body)
		values = append(values, a.Tokens()...)
		if a.Next() == "" {
			return values
		}
		from = "&from=" + url.QueryEscape(a.Next())
	}
	s.T.Fatal("the list does not end")
	return nil
}

var listRows = []row{
	{"every order, forwards and backwards, in pages of any size", func(t *testing.T, s *Server) {
		uses := func(i int) *int64 {
			if i%4 == 0 {
				return nil
			}
			return new(int64(i % 3))
		}
		var tokens []uia.Token
		for i := range 23 {
			token := uia.Token{
				Value: fmt.Sprintf("t%02d", (i*7)%23), UsesAllowed: uses(i), Created: Now.Add(time.Duration(i%5) * time.Second),
				Label: fmt.Sprintf("batch %d", i%2),
			}
			if i%3 > 0 {
				token.Expires = Now.Add(time.Duration(i%6-2) * time.Hour)
			}
			tokens = append(tokens, token)
		}
		require.NoError(t, s.Store.CreateTokens(t.Context(), tokens...))
		for _, order := range []string{"", "token", "created_ts", "expiry_time", "uses_allowed"} {
			for _, filter := range []string{"", "&valid=true", "&valid=false", "&label=batch+1", "&label=batch&valid=true"} {
				whole := s.walk("order_by=" + order + filter)
				for _, limit := range []int{2, 7, 23} {
					query := fmt.Sprintf("order_by=%s%s&limit=%d", order, filter, limit)
					assert.Equal(t, whole, s.walk(query), query)
					backwards := s.walk(query + "&dir=b")
					slices.Reverse(backwards)
					assert.Equal(t, whole, backwards, query)
				}
				for offset := 0; offset < len(whole); offset += 5 {
					a := s.Do("GET", fmt.Sprintf("?order_by=%s%s&limit=3&from=%d", order, filter, offset), nil)
					assert.Equal(t, whole[offset:min(offset+3, len(whole))], a.Tokens())
				}
			}
			assert.Len(t, s.walk("order_by="+order), 23)
		}
		assert.Equal(t, "t00", s.walk("order_by=token")[0])
		first := s.Do("GET", "?order_by=uses_allowed&limit=1", nil).JSON["registration_tokens"].([]any)[0].(Dict)
		assert.Equal(t, 0.0, first["uses_allowed"])
		last := s.Do("GET", "?order_by=uses_allowed&limit=1&dir=b", nil).JSON["registration_tokens"].([]any)[0].(Dict)
		assert.Nil(t, last["uses_allowed"], "any number comes last")
	}},
	{"total only when asked for", func(t *testing.T, s *Server) {
		s.Create("a", "b", "c")
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "x", Revoked: true}))
		assert.NotContains(t, s.Do("GET", "", nil).JSON, "total")
		assert.NotContains(t, s.Do("GET", "?total=false", nil).JSON, "total")
		assert.Equal(t, 4.0, s.Do("GET", "?total=true&limit=1", nil).JSON["total"])
		assert.Equal(t, 3.0, s.Do("GET", "?total=true&limit=1&valid=true", nil).JSON["total"])
		assert.Equal(t, 0.0, s.Do("GET", "?total=true&label=x", nil).JSON["total"])
	}},
	{"who asks for everything gets a bounded answer", func(t *testing.T, s *Server) {
		tokens := make([]uia.Token, 1200)
		for i := range tokens {
			tokens[i] = uia.Token{Value: fmt.Sprintf("t%04d", i), Revoked: i < 1100}
		}
		require.NoError(t, s.Store.CreateTokens(t.Context(), tokens...))
		for _, query := range []string{"", "?limit=1000", "?limit=1001", "?limit=2147483648", "?limit=9007199254740991", "?from=0&limit=5000"} {
			a := s.Do("GET", query, nil)
			assert.Len(t, a.Tokens(), 1000, query)
			assert.NotEmpty(t, a.Next(), query)
		}
		assert.Len(t, s.walk(""), 1200)
		// A tool that knows no pages finds what a filter leaves, though much comes before it.
		assert.Len(t, s.Do("GET", "?valid=true", nil).Tokens(), 100)
		assert.Len(t, s.Do("GET", "?valid=true&from=0&limit=50", nil).Tokens(), 50)
		assert.Equal(t, []string{"t1150"}, s.Do("GET", "?from=1150&limit=1", nil).Tokens())
		assert.Equal(t, []string{"t1190"}, s.Do("GET", "?from=90&limit=1&valid=true", nil).Tokens())
	}},
	{"uses: state, user and times, newest first, in pages", func(t *testing.T, s *Server) {
		s.Create("abcd", "none")
		at := func(i int) time.Time { return Now.Add(time.Duration(i-60) * time.Minute) }
		s.Spend("abcd", "register.1", "@alice:test", at(0))
		s.Hold("abcd", "register.2", at(1))
		require.NoError(t, s.Store.Pin(t.Context(), s.Hold("abcd", "register.3", at(2)), at(3)))
		s.Hold("abcd", "register.4", at(55))
		a := s.Do("GET", "/abcd/uses", nil)
		require.Equal(t, 200, a.Status)
		list := a.JSON["uses"].([]any)
		require.Len(t, list, 4)
		ms := func(i int) float64 { return float64(at(i).UnixMilli()) }
		assert.Equal(t, []any{
			Dict{"state": "held", "session": "register.4", "made_ts": ms(55), "changed_ts": ms(55), "until_ts": ms(65)},
			Dict{"state": "pinned", "session": "register.3", "made_ts": ms(2), "changed_ts": ms(3)},
			Dict{"state": "lapsed", "session": "register.2", "made_ts": ms(1), "changed_ts": ms(1), "until_ts": ms(11)},
			Dict{"state": "spent", "user_id": "@alice:test", "session": "register.1", "made_ts": ms(0), "changed_ts": ms(0)},
		}, list)
		var paged []any
		query := "?limit=1"
		for {
			a := s.Do("GET", "/abcd/uses"+query, nil)
			require.Equal(t, 200, a.Status, a.Body)
			paged = append(paged, a.JSON["uses"].([]any)...)
			if a.Next() == "" {
				break
			}
			assert.Equal(t, 400, s.Do("GET", "/none/uses?from="+a.Next(), nil).Status, "it belongs to one token")
			query = "?limit=1&from=" + a.Next()
		}
		assert.Equal(t, list, paged)
		assert.Equal(t, `{"uses":[]}`, s.Do("GET", "/none/uses", nil).Body)
		assert.Equal(t, ms(0), s.Do("GET", "/abcd", nil).JSON["last_used_ts"])
	}},
}
