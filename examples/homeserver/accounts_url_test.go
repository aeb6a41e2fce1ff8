package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/restauth/sqlaccounts"
	"github.com/matrix-uia/uia/sqlstore"
	"github.com/matrix-uia/uia/stages"
)

const accountsSecret = "what-the-two-of-them-share"

// accountService is a gateway that keeps the accounts of the homeserver behind it in a
// database, and answers the homeserver.
type accountService struct {
	front    http.Handler
	accounts restauth.AccountStore
}

// newAccountService returns one for a homeserver at a URL, and mounts what the homeserver
// asks.
func newAccountService(t *testing.T, homeserver string, asked *http.ServeMux) *accountService {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "accounts.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	store, err := sqlstore.New(db, sqlstore.SQLite)
	require.NoError(t, err)
	require.NoError(t, store.Migrate(t.Context()))
	require.NoError(t, store.CreateTokens(t.Context(), uia.Token{Value: "three", UsesAllowed: new(int64(3)), Created: time.Now()}))
	s := &accountService{accounts: sqlaccounts.New(store)}
	secrets := store.Secrets(time.Hour)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	accounts, err := restauth.NewAccounts(restauth.Options{
		Store: s.accounts, Homeserver: &gateway.Client{URL: homeserver}, ServerName: "localhost", Secrets: secrets, Logger: log,
	})
	require.NoError(t, err)
	handler, err := restauth.NewHandler(accounts.Verify, restauth.HandlerOptions{ServerName: "localhost", Secret: accountsSecret, Logger: log})
	require.NoError(t, err)
	asked.Handle(restauth.Path, handler)
	reg := &register.Registration{
		Accounts: accounts, Resolve: accounts.Resolve, HashPassword: accounts.HashPassword, ServerName: "localhost", Flows: []uia.Flow{{uia.TokenType}},
	}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: store, Logger: log,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, &stages.PasswordStage{Verify: accounts.Verify}},
		Operations: append(accounts.Operations(), reg.Operation()),
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, nil)
	require.NoError(t, err)
	guard, err := accounts.Guard(engine)
	require.NoError(t, err)
	target, err := url.Parse(homeserver)
	require.NoError(t, err)
	s.front, err = gateway.New(gateway.Options{
		Upstream: target, Engine: engine, Registration: reg, Tokens: store, Fallback: pages, Account: guard, Logger: log,
	})
	require.NoError(t, err)
	return s
}

// post sends a request through the gateway.
func (s *accountService) post(t *testing.T, path, token string, body map[string]any) (int, map[string]any) {
	t.Helper()
	text, err := json.Marshal(body)
	require.NoError(t, err)
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/_matrix/client/v3"+path, bytes.NewReader(text))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	s.front.ServeHTTP(w, r)
	var out map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out), "%s", w.Body)
	return w.Code, out
}

// prove sends a request, and again with this auth.
func (s *accountService) prove(t *testing.T, path, token string, body, auth map[string]any) (int, map[string]any) {
	t.Helper()
	status, first := s.post(t, path, token, body)
	if status != 401 || first["session"] == nil {
		return status, first
	}
	auth["session"] = first["session"]
	body["auth"] = auth
	return s.post(t, path, token, body)
}

func (s *accountService) login(t *testing.T, name, password string) (int, string) {
	t.Helper()
	status, body := s.post(t, "/login", "", map[string]any{
		"type": "m.login.password", "password": password, "identifier": map[string]any{"type": "m.id.user", "user": name},
	})
	token, _ := body["access_token"].(string)
	return status, token
}

func password(user, text string) map[string]any {
	return map[string]any{"type": "m.login.password", "password": text, "identifier": map[string]any{"type": "m.id.user", "user": user}}
}

// A homeserver whose accounts are kept in a service beside it: people register at the
// service, log in at the homeserver, and change their passwords at the service.
func TestAccountsURL(t *testing.T) {
	asked := http.NewServeMux()
	service := httptest.NewServer(asked)
	defer service.Close()
	link := strings.Replace(service.URL, "http://", "http://hs:"+accountsSecret+"@", 1)
	lines, _ := start(t, 6, "-db", "memory", "-admin", "root:a password", "-accounts-url", link)
	require.NotContains(t, strings.Join(lines, "\n"), accountsSecret)
	homeserver := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(lines[0])
	s := newAccountService(t, homeserver, asked)

	token := func() map[string]any { return map[string]any{"type": uia.TokenType, "token": "three"} }
	status, body := s.prove(t, "/register", "", map[string]any{"username": "alice", "password": "wonderland", "device_id": "PHONE"}, token())
	require.Equal(t, 200, status, "%v", body)
	require.Equal(t, "@alice:localhost", body["user_id"])
	require.Equal(t, "PHONE", body["device_id"])
	phone := body["access_token"].(string)
	for _, name := range []string{"alice", "@alice:localhost", " Alice"} {
		status, _ = s.login(t, name, "wonderland")
		require.Equal(t, 200, status, name)
	}
	for _, wrong := range []string{"Wonderland", "wonderland\x00", "wonderland "} {
		status, _ = s.login(t, "alice", wrong)
		require.Equal(t, 403, status)
	}
	status, _ = s.login(t, "nobody", "wonderland")
	require.Equal(t, 403, status)

	// The homeserver's own user is nobody else's, whoever has the name at the service.
	status, body = s.prove(t, "/register", "", map[string]any{"username": "root", "password": "wonderland"}, token())
	require.Equal(t, 400, status)
	require.Equal(t, "M_USER_IN_USE", body["errcode"])
	_, err := s.accounts.Create(t.Context(), restauth.Account{Key: "forced", Localpart: "root", Hash: mustFind(t, s, "alice").Hash})
	require.NoError(t, err)
	status, _ = s.login(t, "root", "wonderland")
	require.Equal(t, 403, status)
	status, _ = s.login(t, "root", "a password")
	require.Equal(t, 200, status)

	// The homeserver's password stage asks the service too.
	_, laptop := s.login(t, "alice", "wonderland")
	status, body = s.prove(t, "/delete_devices", laptop, map[string]any{"devices": []string{}}, password("alice", "wrong"))
	require.Equal(t, 401, status, "%v", body)
	status, body = s.prove(t, "/delete_devices", laptop, map[string]any{"devices": []string{}}, password("alice", "wonderland"))
	require.Equal(t, 200, status, "%v", body)

	status, body = s.prove(t, "/account/password", phone, map[string]any{"new_password": "looking-glass"}, password("alice", "wonderland"))
	require.Equal(t, 200, status, "%v", body)
	status, _ = s.login(t, "alice", "wonderland")
	require.Equal(t, 403, status)
	status, body = s.post(t, "/logout", laptop, map[string]any{})
	require.Equal(t, 401, status, "other devices are signed out: %v", body)
	status, body = s.post(t, "/keys/query", phone, map[string]any{})
	require.Equal(t, 200, status, "this device is not: %v", body)
	status, _ = s.login(t, "alice", "looking-glass")
	require.Equal(t, 200, status)

	// Past the gateway, the homeserver does not pretend to change it.
	direct := &accountService{front: proxyTo(t, homeserver)}
	status, body = direct.prove(t, "/account/password", phone, map[string]any{"new_password": "white rabbit"}, password("alice", "looking-glass"))
	require.Equal(t, 403, status, "%v", body)

	status, body = s.prove(t, "/account/deactivate", phone, map[string]any{}, password("alice", "looking-glass"))
	require.Equal(t, 200, status, "%v", body)
	require.Equal(t, "success", body["id_server_unbind_result"])
	status, _ = s.login(t, "alice", "looking-glass")
	require.Equal(t, 403, status)
	require.Equal(t, restauth.Deactivated, mustFind(t, s, "alice").State)
	status, body = s.prove(t, "/register", "", map[string]any{"username": "alice", "password": "wonderland"}, token())
	require.Equal(t, 400, status, "%v", body)

	// A service that is down is no wrong password.
	service.Close()
	status, _ = s.login(t, "bob", "wonderland")
	require.Equal(t, 503, status)
	status, _ = s.login(t, "root", "a password")
	require.Equal(t, 200, status)
}

func mustFind(t *testing.T, s *accountService, name string) restauth.Account {
	t.Helper()
	a, err := s.accounts.Find(t.Context(), name)
	require.NoError(t, err)
	return a
}

// proxyTo returns a handler that passes every request on.
func proxyTo(t *testing.T, target string) http.Handler {
	t.Helper()
	u, err := url.Parse(target)
	require.NoError(t, err)
	return httputil.NewSingleHostReverseProxy(u)
}
