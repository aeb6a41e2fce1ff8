package admintest

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
)

// testTree is about who has invited whom.
func testTree(t *testing.T, fresh func(testing.TB) uia.TokenStore) { runRows(t, fresh, treeRows, nil) }

// Invite has a member invite another one, who gets an account at this time. It returns
// the token.
func (s *Server) Invite(by, user string, at time.Time) string {
	s.T.Helper()
	value := fmt.Sprintf("%s-%d", user[1:2], len(s.All()))
	require.NoError(s.T, s.Store.CreateTokens(context.Background(), uia.Token{Value: value, CreatedBy: by, Created: Now}))
	s.Spend(value, "register."+user[1:], user, at)
	return value
}

// family makes accounts whose names say how they came: @ab was invited by @a.
func (s *Server) family(names ...string) {
	s.T.Helper()
	for i, name := range names {
		s.Invite("@"+name[:len(name)-1], "@"+name, Now.Add(time.Duration(i)*time.Second))
	}
}

// Tree reads the whole tree below a user, in pages, and returns the answer to the first
// request with all members.
func (s *Server) Tree(user string, limit int) (first Dict, members []any) {
	s.T.Helper()
	for from, n := "", 0; n < 2000; n++ {
		a := s.Do("GET", fmt.Sprintf("/%s/tree?limit=%d&from=%s", url.PathEscape(user), limit, from), nil)
		require.Equal(s.T, 200, a.Status, a.Body)
		page := a.JSON["members"].([]any)
		require.LessOrEqual(s.T, len(page), limit)
		if members = append(members, page...); first == nil {
			first = a.JSON
		}
		if from = a.Next(); from == "" {
			return first, members
		}
	}
	require.Fail(s.T, "there is no end of pages")
	return nil, nil
}

func namesOf(members []any) (names []string) {
	for _, m := range members {
		names = append(names, fmt.Sprint(m.(Dict)["depth"], m.(Dict)["user_id"]))
	}
	return names
}

func (s *Server) live() (values []string) {
	for _, t := range s.All() {
		if t.Live(Now) {
			values = append(values, t.CreatedBy)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

var treeRows = []row{
	{"each account is followed by those below it, on pages of any size", func(t *testing.T, s *Server) {
		s.family("ab", "abc", "abd", "abce", "ax", "axy", "b", "q")
		want := []string{"1@ax", "2@axy", "1@ab", "2@abd", "2@abc", "3@abce"}
		for limit := 1; limit <= len(want)+1; limit++ {
			_, members := s.Tree("@a", limit)
			assert.Equal(t, want, namesOf(members), "pages of %d", limit)
		}
		first, members := s.Tree("@ab", 9)
		assert.Equal(t, []string{"1@abd", "1@abc", "2@abce"}, namesOf(members))
		assert.Equal(t, []any{"@ab", "@a", float64(Now.UnixMilli())}, []any{first["user_id"], first["invited_by"], first["joined_ts"]})
		use, err := s.Store.(uia.InviteStore).InviteOf(t.Context(), "@abd")
		require.NoError(t, err)
		assert.Equal(t, Dict{
			"user_id": "@abd", "invited_by": "@ab", "joined_ts": float64(Now.Add(2 * time.Second).UnixMilli()), "token": use.Token, "depth": 1.0,
		}, members[0])
	}},
	{"an account that came without a token, or that there is not, has a tree too", func(t *testing.T, s *Server) {
		for _, user := range []string{"@nobody:test", "@n/b:test"} {
			first, members := s.Tree(user, 9)
			assert.Equal(t, []any{user, "", nil}, []any{first["user_id"], first["invited_by"], first["joined_ts"]})
			assert.Empty(t, members)
		}
	}},
	{"a name that was given again below itself ends no walk", func(t *testing.T, s *Server) {
		s.family("ab", "abc")
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "again", CreatedBy: "@abc"}))
		s.Spend("again", "register.again", "@a", Now.Add(time.Hour))
		for _, limit := range []int{1, 2, 9} {
			_, members := s.Tree("@a", limit)
			assert.Equal(t, []string{"1@ab", "2@abc"}, namesOf(members))
			_, members = s.Tree("@abc", limit)
			assert.Equal(t, []string{"1@a", "2@ab"}, namesOf(members))
		}
		a := s.Do("POST", "/@a/revoke", `{"branch":true}`)
		assert.Equal(t, Dict{"revoked": 3.0, "members": 3.0}, a.JSON)
	}},
	{"the invitations of one member are revoked, and nothing else", func(t *testing.T, s *Server) {
		s.family("ab", "abc", "abcd", "x")
		held := s.Hold(s.Invite("@ab", "@aby", Now), "register.held", Now)
		a := s.Do("POST", "/@ab/revoke", `{}`)
		require.Equal(t, []any{200, Dict{"revoked": 2.0, "members": 1.0}}, []any{a.Status, a.JSON}, a.Body)
		assert.Equal(t, []string{"@", "@a", "@abc"}, s.live())
		require.ErrorIs(t, s.Store.Pin(t.Context(), held, Now), uia.ErrNotHeld)
		assert.Equal(t, Dict{"revoked": 0.0, "members": 1.0}, s.Do("POST", "/%40ab/revoke", `{"branch":false}`).JSON, "again")
		events := s.Events()
		require.Len(t, events, 2)
		assert.Equal(t, []any{uia.EventTokenRevoked, "@admin:test"}, []any{events[1].Kind, events[1].By})
		_, members := s.Tree("@a", 9)
		assert.Len(t, members, 4, "it is still known who came through whom")
	}},
	{"the invitations of a whole branch are revoked in one call", func(t *testing.T, s *Server) {
		s.family("ab", "abc", "abcd", "abce", "ax", "axy", "x", "xy")
		a := s.Do("POST", "/@ab/revoke", `{"branch":true}`)
		assert.Equal(t, []any{200, Dict{"revoked": 3.0, "members": 4.0}}, []any{a.Status, a.JSON}, a.Body)
		assert.Equal(t, []string{"@", "@a", "@ax", "@x"}, s.live())
		assert.Equal(t, Dict{"revoked": 3.0, "members": 7.0}, s.Do("POST", "/@a/revoke", `{"branch":true}`).JSON)
		assert.Equal(t, []string{"@", "@x"}, s.live())
	}},
	{"what is no account, no page and no body is refused", func(t *testing.T, s *Server) {
		s.family("ab", "abc", "x", "xy")
		other := s.Do("GET", "/@x/tree?limit=1", nil).Next()
		gone := s.Do("GET", "/@a/tree?limit=2", nil).Next()
		require.NotEmpty(t, gone)
		before := s.All()
		for _, path := range []string{"/@a", "/@a/uses", "/@a/tree/x", "/@a%00/tree", "/@a%20b/tree", "/a/tree", "/@" + strings.Repeat("x", 300) + "/tree"} {
			assert.Equal(t, 404, s.Do("GET", path, nil).Status, path)
		}
		assert.Equal(t, 405, s.Do("POST", "/@a/tree", `{}`).Status)
		assert.Equal(t, 405, s.Do("GET", "/@a/revoke", nil).Status)
		for _, query := range []string{"limit=0", "from=x", "from=" + other} {
			s.refused(before, s.Do("GET", "/@a/tree?"+query, nil), 400, "M_INVALID_PARAM", query)
		}
		for _, body := range []string{`{"branch":1}`, `{"from":"` + gone + `"}`, `{"branch":true,"from":"` + other + `"}`, `{"branch":true,"from":1}`} {
			s.refused(before, s.Do("POST", "/@a/revoke", body), 400, "M_INVALID_PARAM", body)
		}
		s.refused(before, s.Do("POST", "/@a/revoke", ``), 400, "M_NOT_JSON", "no body")
		require.NoError(t, s.Store.CreateTokens(t.Context(), uia.Token{Value: "again", CreatedBy: "@x"}))
		s.Spend("again", "register.again", "@abc", Now.Add(time.Hour))
		a := s.Do("GET", "/@a/tree?from="+gone, nil)
		assert.Equal(t, 400, a.Status, "the account at which the page ended has come to another inviter")
		s.Bearer = "user"
		assert.Equal(t, 403, s.Do("POST", "/@x/revoke", `{}`).Status)
		assert.Equal(t, 403, s.Do("GET", "/@x/tree", nil).Status)
	}},
	{"a store that does not know who has invited whom has no tree", func(t *testing.T, s *Server) {
		s.Handler = New(t, struct{ uia.TokenStore }{s.Store}, func(*admin.Options) {}).Handler
		for _, a := range []Answer{s.Do("GET", "/@a/tree", nil), s.Do("POST", "/@a/revoke", `{}`)} {
			assert.Equal(t, []any{404, "M_UNRECOGNIZED"}, []any{a.Status, a.Code()})
		}
	}},
}
