package invites_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/invites"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

var now = time.UnixMilli(1_700_000_000_000).UTC()

type dict = map[string]any

// server has members whose access tokens are their localparts.
type server struct {
	t       *testing.T
	store   *memstore.Store
	handler http.Handler
	now     time.Time
	events  []uia.Event
}

// roles are the members and what they may do.
var roles = map[string]invites.Quota{
	"alice": {Live: 2, Uses: 5, Life: 24 * time.Hour}, "bob": {Live: 1}, "carol": {Live: 100, Daily: 3, Life: -1}, "mallory": {},
}

func authenticate(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if _, known := roles[token]; !known || scheme != "Bearer" && scheme != "Cookie" {
		return "", uia.NewError(http.StatusUnauthorized, spec.UnknownToken("Unknown access token"))
	}
	return "@" + token + ":test", nil
}

func quota(_ context.Context, userID string) (invites.Quota, error) {
	if userID == "@broken:test" {
		return invites.Quota{}, errors.New("the database is down")
	}
	return roles[strings.TrimSuffix(userID[1:], ":test")], nil
}

func newServer(t *testing.T) *server {
	s := &server{t: t, store: memstore.New(nil), now: now}
	i, err := invites.New(s.store, authenticate, quota, &invites.Options{
		InviteURL: "https://example.org/register?token={token}", Now: func() time.Time { return s.now },
		Observer: func(_ context.Context, ev uia.Event) { s.events = append(s.events, ev) },
	})
	require.NoError(t, err)
	s.handler = i.Handler()
	return s
}

type answer struct {
	status int
	body   string
	json   dict
}

func (s *server) do(as, method, path, body string, header ...string) answer {
	s.t.Helper()
	r := httptest.NewRequest(method, invites.Path+path, strings.NewReader(body))
	if as != "" {
		r.Header.Set("Authorization", "Bearer "+as)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, r)
	a := answer{status: w.Code, body: w.Body.String()}
	_ = json.Unmarshal(w.Body.Bytes(), &a.json)
	return a
}

// made makes an invitation and returns its value.
func (s *server) made(as, body string) string {
	s.t.Helper()
	a := s.do(as, "POST", "", body)
	require.Equal(s.t, 200, a.status, a.body)
	return a.json["token"].(string)
}

func (s *server) is(a answer, status int, code string) {
	s.t.Helper()
	assert.Equal(s.t, []any{status, code}, []any{a.status, a.json["errcode"]}, a.body)
}

// all is what the store has.
func (s *server) all() []uia.Token {
	page, err := s.store.ListTokens(s.t.Context(), uia.TokenQuery{Limit: 1000}, s.now)
	require.NoError(s.t, err)
	return page.Tokens
}

// spend makes an account with an invitation.
func (s *server) spend(token, session, user string) {
	s.t.Helper()
	ctx, c := s.t.Context(), uia.Claim{Token: token, Session: session, Run: 1}
	require.NoError(s.t, s.store.Reserve(ctx, uia.Hold{Token: token, Session: session, Until: s.now.Add(time.Minute)}, s.now))
	require.NoError(s.t, s.store.Pin(ctx, c, s.now))
	require.NoError(s.t, s.store.Commit(ctx, c, user, s.now))
}

func TestNewFindsEveryMistake(t *testing.T) {
	_, err := invites.New(nil, nil, nil, &invites.Options{Path: "x", InviteURL: "https://example.org", Secrets: uia.FixedSecrets([]byte("short"))})
	for _, says := range []string{"the store is required", "authenticate is required", "quota is required", "Path does not begin", "InviteURL has no {token}", "Secrets: "} {
		assert.ErrorContains(t, err, says)
	}
}

// The table of the members' API.
func TestMembers(t *testing.T) {
	for name, test := range map[string]func(*testing.T, *server){
		"an invitation has what was asked for": func(t *testing.T, s *server) {
			until := now.Add(time.Hour)
			a := s.do("alice", "POST", "", fmt.Sprintf(`{"uses_allowed":3,"expiry_time":%d,"label":"for Bob","username":"Bob","email":"Bob@Example.org","ignored":1}`, until.UnixMilli()))
			require.Equal(t, 200, a.status, a.body)
			token := a.json["token"].(string)
			assert.Equal(t, dict{
				"token": token, "uses_allowed": 3.0, "pending": 0.0, "completed": 0.0, "expiry_time": float64(until.UnixMilli()), "label": "for Bob",
				"created_ts": float64(now.UnixMilli()), "revoked": false, "valid": true, "username": "bob", "email": "bob@example.org",
				"invite_url": "https://example.org/register?token=" + token,
			}, a.json)
			assert.Equal(t, a.json, s.do("alice", "GET", "/"+token, "").json)
			stored := s.all()[0]
			assert.Equal(t, "@alice:test", stored.CreatedBy)
			pin, err := register.ReadPin(stored.Meta)
			require.NoError(t, err)
			assert.Equal(t, register.Pin{Username: "bob", Email: "bob@example.org"}, pin)
			assert.Equal(t, []uia.Event{{Kind: uia.EventTokenCreated, Token: uia.Fingerprint(token), By: "@alice:test", UsesAllowed: new(int64(3)), Expires: until}}, s.events)
		},
		"nothing is asked for": func(t *testing.T, s *server) {
			a := s.do("alice", "POST", "", `{}`)
			assert.Equal(t, []any{200, 1.0, float64(now.Add(24 * time.Hour).UnixMilli())}, []any{a.status, a.json["uses_allowed"], a.json["expiry_time"]}, "one use, and the longest life")
			a = s.do("bob", "POST", "", `{"uses_allowed":null,"expiry_time":null}`)
			assert.Equal(t, []any{200, 1.0, float64(now.Add(invites.DefaultLife).UnixMilli())}, []any{a.status, a.json["uses_allowed"], a.json["expiry_time"]})
			a = s.do("carol", "POST", "", `{}`)
			assert.Equal(t, []any{200, nil}, []any{a.status, a.json["expiry_time"]}, "carol's need not expire")
		},
		"a later expiry means the latest": func(t *testing.T, s *server) {
			a := s.do("alice", "POST", "", fmt.Sprintf(`{"expiry_time":%d}`, now.AddDate(1, 0, 0).UnixMilli()))
			assert.Equal(t, []any{200, float64(now.Add(24 * time.Hour).UnixMilli())}, []any{a.status, a.json["expiry_time"]})
		},
		"meta comes from the homeserver alone": func(t *testing.T, s *server) {
			s.made("alice", `{"meta":{"role":"admin"},"token":"mine","created_by":"@x:test","completed":1,"revoked":true}`)
			stored := s.all()[0]
			assert.Nil(t, stored.Meta)
			assert.Len(t, stored.Value, 16)
			assert.Equal(t, []any{"@alice:test", false, int64(0)}, []any{stored.CreatedBy, stored.Revoked, stored.Completed})
		},
		"what cannot be": func(t *testing.T, s *server) {
			for _, body := range []string{
				`{"uses_allowed":0}`, `{"uses_allowed":6}`, `{"uses_allowed":-1}`, `{"uses_allowed":1.0}`, `{"uses_allowed":"1"}`, `{"expiry_time":0}`, `{"expiry_time":1700000000}`,
				`{"expiry_time":"tomorrow"}`, `{"label":5}`, `{"label":"` + strings.Repeat("x", 256) + `"}`, `{"label":"a\u0000"}`, `{"username":5}`, `{"username":"Älice"}`,
				`{"email":"nobody"}`, `{"email":true}`,
			} {
				s.is(s.do("alice", "POST", "", body), 400, "M_INVALID_PARAM")
			}
			for body, want := range map[string][]any{
				``: {400, "M_NOT_JSON"}, `[]`: {400, "M_BAD_JSON"}, `{"label":"a","label":"b"}`: {400, "M_BAD_JSON"}, "{\"label\":\"\xff\"}": {400, "M_NOT_JSON"},
				`{"label":"` + strings.Repeat("x", 64<<10) + `"}`: {413, "M_TOO_LARGE"},
			} {
				a := s.do("alice", "POST", "", body)
				assert.Equal(t, want, []any{a.status, a.json["errcode"]})
			}
			assert.Empty(t, s.all(), "nothing was written")
			assert.Empty(t, s.events)
		},
		"the quota of live ones": func(t *testing.T, s *server) {
			first := s.made("alice", `{}`)
			second := s.made("alice", `{"uses_allowed":2}`)
			s.is(s.do("alice", "POST", "", `{}`), 403, "M_RESOURCE_LIMIT_EXCEEDED")
			s.made("bob", `{}`)
			s.spend(second, "register.1", "@x:test")
			s.is(s.do("alice", "POST", "", `{}`), 403, "M_RESOURCE_LIMIT_EXCEEDED")
			s.spend(second, "register.2", "@y:test")
			third := s.made("alice", `{}`)
			s.is(s.do("alice", "POST", "", `{}`), 403, "M_RESOURCE_LIMIT_EXCEEDED")
			assert.Equal(t, 200, s.do("alice", "DELETE", "/"+first, "").status)
			s.made("alice", `{}`)
			s.now = now.Add(24 * time.Hour)
			s.made("alice", `{}`)
			assert.Equal(t, "expired", s.do("alice", "GET", "/"+third, "").json["invalid_reason"])
		},
		"the quota of a day": func(t *testing.T, s *server) {
			for range 3 {
				s.do("carol", "DELETE", "/"+s.made("carol", `{}`), "")
			}
			s.is(s.do("carol", "POST", "", `{}`), 403, "M_RESOURCE_LIMIT_EXCEEDED")
			s.now = now.Add(24*time.Hour + time.Millisecond)
			s.made("carol", `{}`)
			for range 10 {
				s.do("bob", "DELETE", "/"+s.made("bob", `{}`), "")
			}
			s.is(s.do("bob", "POST", "", `{}`), 403, "M_RESOURCE_LIMIT_EXCEEDED")
		},
		"who may not invite": func(t *testing.T, s *server) {
			s.is(s.do("mallory", "POST", "", `{}`), 403, "M_FORBIDDEN")
			assert.Equal(t, dict{"invites": []any{}, "quota": dict{"live": 0.0, "daily": 0.0, "uses": 1.0, "life_ms": float64(invites.DefaultLife.Milliseconds())}}, s.do("mallory", "GET", "", "").json)
		},
		"the list": func(t *testing.T, s *server) {
			var want []any
			for i := range 3 {
				s.now = now.Add(time.Duration(i) * time.Second)
				want = append([]any{s.made("carol", `{}`)}, want...)
			}
			s.made("alice", `{}`)
			var got []any
			for from := ""; ; {
				a := s.do("carol", "GET", "?limit=2&from="+from, "")
				require.Equal(t, 200, a.status, a.body)
				for _, e := range a.json["invites"].([]any) {
					got = append(got, e.(dict)["token"])
				}
				assert.Equal(t, dict{"live": 100.0, "daily": 3.0, "uses": 1.0}, a.json["quota"])
				if from, _ = a.json["next_token"].(string); from == "" {
					break
				}
				s.is(s.do("alice", "GET", "?from="+from, ""), 400, "M_INVALID_PARAM")
			}
			assert.Equal(t, want, got)
			for _, query := range []string{"?limit=0", "?limit=x", "?from=x", "?%zz"} {
				s.is(s.do("carol", "GET", query, ""), 400, "M_INVALID_PARAM")
			}
		},
		"the invitations of others are unknown": func(t *testing.T, s *server) {
			token := s.made("alice", `{}`)
			require.NoError(t, s.store.CreateTokens(t.Context(), uia.Token{Value: "nobodys"}))
			before := s.all()
			unknown := s.do("bob", "GET", "/unknown", "")
			s.is(unknown, 404, "M_NOT_FOUND")
			for _, value := range []string{token, "nobodys", "a%20b", "%00", "%ff", strings.Repeat("x", 65), ".."} {
				for _, method := range []string{"GET", "DELETE"} {
					a := s.do("bob", method, "/"+value, "")
					s.is(a, 404, "M_NOT_FOUND")
					assert.Equal(t, unknown.body, a.body, value)
				}
			}
			assert.Equal(t, before, s.all())
			assert.Len(t, s.events, 1)
		},
		"revoking": func(t *testing.T, s *server) {
			token := s.made("alice", `{}`)
			require.NoError(t, s.store.Reserve(t.Context(), uia.Hold{Token: token, Session: "s", Until: now.Add(time.Hour)}, now))
			for range 2 {
				a := s.do("alice", "DELETE", "/"+token, "")
				assert.Equal(t, []any{200, "{}"}, []any{a.status, a.body})
			}
			a := s.do("alice", "GET", "/"+token, "")
			assert.Equal(t, []any{true, false, "revoked", 0.0}, []any{a.json["revoked"], a.json["valid"], a.json["invalid_reason"], a.json["pending"]})
			require.Len(t, s.events, 2, "revoked once")
			assert.Equal(t, uia.Event{Kind: uia.EventTokenRevoked, Token: uia.Fingerprint(token), By: "@alice:test"}, s.events[1])
			for _, method := range []string{"PUT", "POST", "PATCH"} {
				s.is(s.do("alice", method, "/"+token, `{"revoked":false}`), 405, "M_UNRECOGNIZED")
			}
		},
		"who is nobody": func(t *testing.T, s *server) {
			for _, as := range []string{"", "nobody"} {
				for _, path := range []string{"", "/x", "/a/b/c"} {
					s.is(s.do(as, "GET", path, ""), 401, "M_UNKNOWN_TOKEN")
				}
				s.is(s.do(as, "POST", "", `{}`), 401, "M_UNKNOWN_TOKEN")
			}
			assert.Equal(t, 204, s.do("", "OPTIONS", "", "").status)
		},
		"other paths and methods": func(t *testing.T, s *server) {
			for _, path := range []string{"/a/b", "x", "/a//"} {
				s.is(s.do("alice", "GET", path, ""), 404, "M_UNRECOGNIZED")
			}
			s.is(s.do("alice", "DELETE", "", ""), 405, "M_UNRECOGNIZED")
			s.is(s.do("alice", "PUT", "/", `{}`), 405, "M_UNRECOGNIZED")
			assert.Equal(t, 200, s.do("alice", "GET", "/", "").status)
		},
		"a page of another origin": func(t *testing.T, s *server) {
			for _, header := range [][]string{{"Origin", "https://evil.example"}, {"Sec-Fetch-Site", "cross-site"}} {
				assert.Equal(t, 200, s.do("carol", "POST", "", `{}`, header...).status, "with an access token")
				s.is(s.do("", "POST", "", `{}`, append(header, "Authorization", "Cookie carol")...), 403, "M_FORBIDDEN")
			}
			assert.Len(t, s.all(), 2)
		},
		"a token that an administrator made is the member's too": func(t *testing.T, s *server) {
			require.NoError(t, s.store.CreateTokens(t.Context(), uia.Token{Value: "party", CreatedBy: "@bob:test", Meta: json.RawMessage(`{"username":5}`)}))
			assert.Equal(t, "party", s.do("bob", "GET", "/party", "").json["token"])
			s.is(s.do("bob", "POST", "", `{}`), 403, "M_RESOURCE_LIMIT_EXCEEDED")
		},
	} {
		t.Run(name, func(t *testing.T) { test(t, newServer(t)) })
	}
}

func TestWhatBreaksIsNotTold(t *testing.T) {
	for name, who := range map[string]func(*http.Request) (string, error){
		"no user ID": func(*http.Request) (string, error) { return "", nil },
		"no answer":  func(*http.Request) (string, error) { return "", errors.New("the database is down") },
		"no quota":   func(*http.Request) (string, error) { return "@broken:test", nil },
	} {
		i, err := invites.New(memstore.New(nil), who, quota, nil)
		require.NoError(t, err)
		for _, method := range []string{"GET", "POST"} {
			w := httptest.NewRecorder()
			i.Handler().ServeHTTP(w, httptest.NewRequest(method, invites.Path, strings.NewReader("{}")))
			assert.Equal(t, 500, w.Code, name)
			assert.Contains(t, w.Body.String(), "M_UNKNOWN")
			assert.NotContains(t, w.Body.String(), "database")
		}
	}
}
