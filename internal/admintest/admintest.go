// Package admintest tests package admin over any store: what real clients were seen
// to send and to expect, and what nobody should send.
package admintest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
)

// Now is the time in every test.
var Now = time.UnixMilli(1_700_000_000_000).UTC()

// Dict is a JSON object.
type Dict = map[string]any

// Server is an admin.Handler over a store.
type Server struct {
	T       testing.TB
	Store   uia.TokenStore
	Handler http.Handler
	Bearer  string // the access token that requests carry

	mu     sync.Mutex
	events []uia.Event
}

// New makes a Server. The admin's access token is "admin", that of somebody else
// "user".
func New(t testing.TB, store uia.TokenStore, change func(*admin.Options)) *Server {
	s := &Server{T: t, Store: store, Bearer: "admin"}
	opts := admin.Options{Now: func() time.Time { return Now }, Observer: s.observe}
	if change != nil {
		change(&opts)
	}
	var err error
	s.Handler, err = admin.Handler(store, Authorize, &opts)
	require.NoError(t, err)
	return s
}

func (s *Server) observe(_ context.Context, ev uia.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, ev)
}

// Events returns what the handler's observer was told.
func (s *Server) Events() []uia.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Authorize knows the access tokens "admin" and "user".
func Authorize(r *http.Request) (string, error) {
	switch token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); token {
	case "":
		return "", uia.NewError(http.StatusUnauthorized, spec.MissingToken("Missing access token"))
	case "admin":
		return "@admin:test", nil
	case "user":
		return "", uia.NewError(http.StatusForbidden, spec.Forbidden("You are not a server admin"))
	}
	return "", uia.NewError(http.StatusUnauthorized, spec.UnknownToken("Unknown access token"))
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   string
	JSON   Dict // nil if the body is no JSON object
}

// Code returns the errcode.
func (a Answer) Code() string { s, _ := a.JSON["errcode"].(string); return s }

// Token returns the value in a record.
func (a Answer) Token() string { s, _ := a.JSON["token"].(string); return s }

// Tokens returns the values in a list, in order.
func (a Answer) Tokens() []string {
	out := []string{}
	list, _ := a.JSON["registration_tokens"].([]any)
	for _, entry := range list {
		out = append(out, entry.(Dict)["token"].(string))
	}
	return out
}

// Next returns the next_token of a list.
func (a Answer) Next() string { s, _ := a.JSON["next_token"].(string); return s }

// Do sends a request to what follows admin.Path. A string is sent as it is, nil as
// nothing, anything else as JSON.
func (s *Server) Do(method, path string, body any) Answer {
	s.T.Helper()
	text, ok := body.(string)
	if !ok && body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(s.T, err)
		text = string(encoded)
	}
	r := httptest.NewRequest(method, admin.Path+path, strings.NewReader(text))
	if s.Bearer != "" {
		r.Header.Set("Authorization", "Bearer "+s.Bearer)
	}
	w := httptest.NewRecorder()
	s.Handler.ServeHTTP(w, r)
	a := Answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	_ = json.Unmarshal(w.Body.Bytes(), &a.JSON)
	return a
}

// Create makes tokens of these values, with any number of uses.
func (s *Server) Create(values ...string) {
	s.T.Helper()
	for _, v := range values {
		require.NoError(s.T, s.Store.CreateTokens(context.Background(), uia.Token{Value: v, Created: Now}))
	}
}

// Spend spends a use of the token for this user.
func (s *Server) Spend(token, session, user string, at time.Time) {
	s.T.Helper()
	ctx, c := context.Background(), s.Hold(token, session, at)
	require.NoError(s.T, s.Store.Pin(ctx, c, at))
	require.NoError(s.T, s.Store.Commit(ctx, c, user, at))
}

// Hold holds a use of the token for ten minutes.
func (s *Server) Hold(token, session string, at time.Time) uia.Claim {
	s.T.Helper()
	err := s.Store.Reserve(context.Background(), uia.Hold{Token: token, Session: session, Until: at.Add(10 * time.Minute)}, at)
	require.NoError(s.T, err)
	return uia.Claim{Token: token, Session: session, Run: 1}
}

// All returns the whole of what the store has, to see that nothing was written.
func (s *Server) All() []uia.Token {
	s.T.Helper()
	page, err := s.Store.ListTokens(context.Background(), uia.TokenQuery{Limit: 1000}, Now)
	require.NoError(s.T, err)
	return page.Tokens
}

// Run runs every test over the stores that fresh makes.
func Run(t *testing.T, fresh func(testing.TB) uia.TokenStore) {
	for _, group := range []struct {
		name string
		run  func(*testing.T, func(testing.TB) uia.TokenStore)
	}{
		{"clients", testClients}, {"bad input", testBadInput}, {"lists", testLists}, {"superset", testSuperset}, {"tree", testTree},
	} {
		t.Run(group.name, func(t *testing.T) { group.run(t, fresh) })
	}
}

// row is one test of a table; its name is what it shows.
type row struct {
	name string
	run  func(*testing.T, *Server)
}

func runRows(t *testing.T, fresh func(testing.TB) uia.TokenStore, rows []row, change func(*admin.Options)) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) { r.run(t, New(t, fresh(t), change)) })
	}
}
