package invites_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/invites"
	"github.com/matrix-uia/uia/memstore"
)

// site is the page, for members whose name their browser sends by itself.
type site struct {
	t     *testing.T
	store *memstore.Store
	page  http.Handler
	now   time.Time
}

func newSite(t *testing.T) *site {
	s := &site{t: t, store: memstore.New(nil), now: now}
	i, err := invites.New(s.store, authenticate, quota, &invites.Options{
		InviteURL: "https://example.org/register?token={token}", Now: func() time.Time { return s.now },
	})
	require.NoError(t, err)
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets([]byte(strings.Repeat("secret ", 5))), Stages: []uia.Stage{uia.DummyStage{}},
		Operations: []uia.Operation{{Name: "op", Flows: []uia.Flow{{uia.DummyType}}}}, Sessions: s.store,
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, nil)
	require.NoError(t, err)
	s.page, err = i.Page(pages, func(r *http.Request) (string, error) {
		if c, err := r.Cookie("member"); err == nil {
			return "@" + c.Value + ":test", nil
		}
		return authenticate(r)
	})
	require.NoError(t, err)
	_, err = i.Page(nil, nil)
	require.Error(t, err)
	return s
}

// do sends a request of a browser; nil values are a GET.
func (s *site) do(as string, values url.Values, header ...string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest("GET", invites.PagePath, nil)
	if values != nil {
		r = httptest.NewRequest("POST", invites.PagePath, strings.NewReader(values.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if as != "" {
		r.AddCookie(&http.Cookie{Name: "member", Value: as})
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.page.ServeHTTP(w, r)
	return w
}

var hidden = regexp.MustCompile(`name="(proof|revoke)" value="([^"]*)"`)

// field returns a hidden field of the page as it is; "" if there is none.
func field(page, name string) string {
	for _, m := range hidden.FindAllStringSubmatch(page, -1) {
		if m[1] == name {
			return html.UnescapeString(m[2])
		}
	}
	return ""
}

func (s *site) proof(as string) string {
	s.t.Helper()
	w := s.do(as, nil)
	require.Equal(s.t, 200, w.Code, w.Body)
	return field(w.Body.String(), "proof")
}

func (s *site) tokens() []uia.Token {
	page, err := s.store.ListTokens(s.t.Context(), uia.TokenQuery{}, s.now)
	require.NoError(s.t, err)
	return page.Tokens
}

func TestPage(t *testing.T) {
	s := newSite(t)
	w := s.do("alice", nil)
	assert.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'")
	assert.NotContains(t, w.Header().Get("Content-Security-Policy"), "unsafe")
	assert.Equal(t, []string{"no-store"}, w.Header()["Cache-Control"])
	assert.Empty(t, s.tokens(), "opening it writes nothing")

	// Six presses are one invitation.
	values := url.Values{"proof": {field(w.Body.String(), "proof")}, "label": {"<script>alert(1)</script>"}, "uses": {"3"}}
	for range 6 {
		w = s.do("alice", values)
		require.Equal(t, []any{303, invites.PagePath}, []any{w.Code, w.Header().Get("Location")}, w.Body)
	}
	made := s.tokens()
	require.Len(t, made, 1)
	assert.Equal(t, []any{"@alice:test", int64(3), "<script>alert(1)</script>"}, []any{made[0].CreatedBy, *made[0].UsesAllowed, made[0].Label})

	body := s.do("alice", nil).Body.String()
	assert.Contains(t, body, "https://example.org/register?token="+made[0].Value)
	assert.NotContains(t, body, "<script>alert")
	assert.Contains(t, body, "used: 0 of 3")
	assert.Equal(t, made[0].Value, field(body, "revoke"))
	assert.NotContains(t, s.do("bob", nil).Body.String(), made[0].Value)
	assert.NotContains(t, s.do("bob", nil).Body.String(), `name="uses"`, "bob's are for one")

	w = s.do("alice", url.Values{"proof": {s.proof("alice")}, "revoke": {made[0].Value}})
	assert.Equal(t, 303, w.Code, w.Body)
	assert.True(t, s.tokens()[0].Revoked)
	body = s.do("alice", nil).Body.String()
	assert.Contains(t, body, "revoked")
	assert.Empty(t, field(body, "revoke"))
	assert.Contains(t, s.do("alice", nil, "Accept-Language", "de").Body.String(), "Andere einladen")
}

func TestPageRefuses(t *testing.T) {
	s := newSite(t)
	require.Equal(t, 303, s.do("alice", url.Values{"proof": {s.proof("alice")}}).Code)
	own := s.tokens()[0].Value
	proof, others := s.proof("alice"), s.proof("bob")
	for name, c := range map[string]struct {
		as     string
		values url.Values
		header []string
		status int
		says   string
	}{
		"another origin":          {"alice", url.Values{"proof": {proof}}, []string{"Origin", "https://evil.example"}, 403, ""},
		"another site":            {"alice", url.Values{"proof": {proof}, "revoke": {own}}, []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
		"no proof":                {"alice", url.Values{"revoke": {own}}, nil, 403, "expired"},
		"a made-up proof":         {"alice", url.Values{"proof": {"abc"}}, nil, 403, "expired"},
		"the proof of another":    {"alice", url.Values{"proof": {others}}, nil, 403, "expired"},
		"nobody":                  {"", url.Values{"proof": {proof}}, nil, 401, ""},
		"another's invitation":    {"bob", url.Values{"proof": {others}, "revoke": {own}}, nil, 404, ""},
		"too many uses":           {"alice", url.Values{"proof": {proof}, "uses": {"6"}}, nil, 400, ""},
		"no number":               {"alice", url.Values{"proof": {proof}, "uses": {"many"}}, nil, 400, ""},
		"a label of two lines":    {"alice", url.Values{"proof": {proof}, "label": {"a\nb"}}, nil, 400, ""},
		"a label that is no text": {"alice", url.Values{"proof": {proof}, "label": {"\xff"}}, nil, 400, ""},
		"a flood":                 {"alice", url.Values{"proof": {proof}, "label": {strings.Repeat("x", 20<<10)}}, nil, 400, ""},
		"who may not invite":      {"mallory", url.Values{"proof": {s.proof("mallory")}}, nil, 403, "may not invite"},
	} {
		w := s.do(c.as, c.values, c.header...)
		assert.Equal(t, c.status, w.Code, "%s: %s", name, w.Body)
		assert.Contains(t, w.Body.String(), c.says, name)
		assert.Contains(t, w.Header().Get("Content-Type"), "text/html", name)
	}
	require.Len(t, s.tokens(), 1, "nothing was written")
	assert.False(t, s.tokens()[0].Revoked)

	s.now = now.Add(12 * time.Hour)
	assert.Equal(t, 403, s.do("alice", url.Values{"proof": {proof}}).Code, "a page that was left open for too long")
	require.Equal(t, 303, s.do("alice", url.Values{"proof": {s.proof("alice")}}).Code)
	w := s.do("alice", url.Values{"proof": {s.proof("alice")}})
	assert.Equal(t, 403, w.Code)
	assert.Contains(t, w.Body.String(), "open invitations", "the quota")
	assert.Equal(t, 405, func() int {
		w := httptest.NewRecorder()
		s.page.ServeHTTP(w, httptest.NewRequest("DELETE", invites.PagePath, nil))
		return w.Code
	}())
}

// TestPageOfMany shows the newest, within bounds.
func TestPageOfMany(t *testing.T) {
	s := newSite(t)
	for i := range 150 {
		require.NoError(t, s.store.CreateTokens(context.Background(), uia.Token{Value: fmt.Sprintf("t%03d", i), CreatedBy: "@alice:test", Created: now.Add(time.Duration(i) * time.Second)}))
	}
	body := s.do("alice", nil).Body.String()
	assert.Contains(t, body, "token=t149")
	assert.NotContains(t, body, "token=t049")
}
