package register_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

type dict = map[string]any

// accounts remembers what it was asked for.
type accounts struct {
	mu      sync.Mutex
	taken   map[string]bool
	asked   []string // of Available
	servers []string // of Available
	created []register.Account
	refuse  error // of Create
}

func (a *accounts) Available(_ context.Context, r register.UsernameRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked, a.servers = append(a.asked, r.Localpart), append(a.servers, r.ServerName)
	if a.taken[r.Localpart] {
		return uia.NewError(400, spec.UserInUse("That username is taken."))
	}
	return nil
}

func (a *accounts) Create(_ context.Context, account register.Account) (register.Created, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse != nil {
		return register.Created{}, a.refuse
	}
	a.created = append(a.created, account)
	localpart := account.Localpart
	a.taken[localpart] = true
	return register.Created{
		UserID: "@" + localpart + ":" + serverName, DeviceID: "DEVICE", AccessToken: "an access token",
		RefreshToken: map[bool]string{true: "a refresh token"}[account.RefreshToken],
	}, nil
}

func (a *accounts) last(t testing.TB) register.Account {
	t.Helper()
	require.NotEmpty(t, a.created, "no account was made")
	return a.created[len(a.created)-1]
}

const serverName = "example.org"

// client sends every request.
var client = netip.MustParseAddr("192.0.2.1")

// txStore is a store whose transactions are what a test says.
type txStore struct {
	uia.Store
	inTx func(context.Context, func(context.Context) error) error
}

func (s *txStore) InTx(ctx context.Context, fn func(context.Context) error) error {
	return s.inTx(ctx, fn)
}

// server is a homeserver's registration.
type server struct {
	t         testing.TB
	accounts  *accounts
	store     *txStore
	reg       *register.Registration
	engine    *uia.Engine
	handler   http.Handler
	available http.Handler
}

// newServer offers the flow of a token and the dummy stage. change may be nil.
func newServer(t testing.TB, change func(*register.Registration)) *server {
	s := &server{t: t, accounts: &accounts{taken: map[string]bool{"taken": true}}, store: &txStore{Store: memstore.New(nil)}}
	s.reg = &register.Registration{
		Accounts: s.accounts, ServerName: serverName, Flows: []uia.Flow{{uia.TokenType, "m.login.dummy"}}, Resolve: uia.NotDone,
	}
	if change != nil {
		change(s.reg)
	}
	e, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets([]byte(strings.Repeat("secret ", 5))), Sessions: s.store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: s.store}, uia.DummyStage{}},
		Operations: []uia.Operation{s.reg.Operation()},
		Client:     func(*http.Request) netip.Addr { return client },
		Logger:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	require.NoError(t, err)
	s.engine = e
	s.handler, err = s.reg.Handler(e)
	require.NoError(t, err)
	s.available, err = s.reg.AvailableHandler(e)
	require.NoError(t, err)
	require.NoError(t, s.store.CreateTokens(t.Context(), uia.Token{Value: "abc", Meta: json.RawMessage(`{"room":"!a:b"}`)}))
	return s
}

type answer struct {
	Status int
	Header http.Header
	Body   string
	JSON   dict
}

func (a answer) session() string { s, _ := a.JSON["session"].(string); return s }

func (a answer) is(t testing.TB, status int, errcode string) {
	t.Helper()
	code, _ := a.JSON["errcode"].(string)
	assert.Equal(t, status, a.Status, a.Body)
	assert.Equal(t, errcode, code, a.Body)
	assert.Equal(t, "application/json", a.Header.Get("Content-Type"))
	assert.Equal(t, "*", a.Header.Get("Access-Control-Allow-Origin"))
}

func (s *server) do(handler http.Handler, r *http.Request) answer {
	s.t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	a := answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	if w.Body.Len() > 0 {
		require.NoError(s.t, json.Unmarshal(w.Body.Bytes(), &a.JSON), a.Body)
	}
	return a
}

// post sends a body to /register with this query: a string as it is, anything
// else as JSON.
func (s *server) post(query string, body any) answer {
	s.t.Helper()
	text, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		require.NoError(s.t, err)
		text = string(encoded)
	}
	return s.do(s.handler, httptest.NewRequest("POST", "/_matrix/client/v3/register"+query, strings.NewReader(text)))
}

// register goes all the way with these parameters.
func (s *server) register(params dict) answer {
	s.t.Helper()
	first := s.post("", params)
	if first.Status != 401 {
		return first
	}
	token := s.post("", with(params, dict{"type": uia.TokenType, "token": "abc", "session": first.session()}))
	if token.JSON["errcode"] != nil {
		return token
	}
	return s.post("", with(params, dict{"type": "m.login.dummy", "session": first.session()}))
}

func with(params dict, auth dict) dict {
	out := dict{"auth": auth}
	maps.Copy(out, params)
	return out
}
