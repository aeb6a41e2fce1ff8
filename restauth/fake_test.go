package restauth_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/gateway"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/passwords"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/restauth"
	"github.com/matrix-uia/uia/stages"
)

// homeserver behaves as Synapse does with the module: it makes a user at the first login
// with a password that the service says is right, and accepts its own passwords too.
type homeserver struct {
	verify restauth.Verify // asks the service

	mu      sync.Mutex
	users   map[string]*hsUser // by user ID
	tokens  map[string][2]string
	broken  map[string]int // paths that answer with a status, without doing anything
	passed  []string       // what was passed on
	guarded map[string]int // how often each was done
}

type hsUser struct {
	local   string // its own password; "" for none
	devices []string
	gone    bool
}

func fail(w http.ResponseWriter, status int, code string) {
	reply(w, status, dict{"errcode": code, "error": "x"})
}

func reply(w http.ResponseWriter, status int, body dict) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func (h *homeserver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var params dict
	_ = json.Unmarshal(body, &params)
	path := strings.TrimPrefix(r.URL.Path, "/_matrix/client/v3")
	h.mu.Lock()
	h.passed = append(h.passed, path)
	status := h.broken[path]
	h.mu.Unlock()
	if status != 0 {
		fail(w, status, "M_UNKNOWN")
		return
	}
	profile, isProfile := strings.CutPrefix(path, "/profile/")
	switch {
	case path == "/register/available":
		fail(w, 403, "M_FORBIDDEN") // its registration is off
	case isProfile:
		if _, found := h.user(profile); found {
			reply(w, 200, dict{})
			return
		}
		fail(w, 404, "M_NOT_FOUND")
	case path == "/login":
		h.login(w, r, params)
	default:
		h.authenticated(w, r, path, params)
	}
}

func (h *homeserver) user(id string) (hsUser, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	u, found := h.users[id]
	if !found {
		return hsUser{}, false
	}
	return *u, true
}

// right reports whether the homeserver takes the password for the user's.
func (h *homeserver) right(ctx context.Context, id, password string) bool {
	u, known := h.user(id)
	if u.gone {
		return false
	}
	if known && u.local != "" && u.local == password {
		return true
	}
	found, err := h.verify(ctx, stages.Identifier{User: id}, password)
	return err == nil && found == id
}

func (h *homeserver) login(w http.ResponseWriter, r *http.Request, params dict) {
	identifier, _ := params["identifier"].(dict)
	name, _ := identifier["user"].(string)
	password, _ := params["password"].(string)
	device, _ := params["device_id"].(string)
	id := "@" + name + ":" + serverName
	if !h.right(r.Context(), id, password) {
		fail(w, 403, "M_FORBIDDEN")
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users[id] == nil {
		h.users[id] = &hsUser{devices: []string{"nameless"}} // as the module does
	}
	u := h.users[id]
	u.devices = append(u.devices, device)
	token := "token-" + name + "-" + device
	h.tokens[token] = [2]string{id, device}
	reply(w, 200, dict{"user_id": id, "device_id": device, "access_token": token})
}

func (h *homeserver) authenticated(w http.ResponseWriter, r *http.Request, path string, params dict) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	h.mu.Lock()
	who, known := h.tokens[token]
	h.mu.Unlock()
	if !known {
		fail(w, 401, "M_UNKNOWN_TOKEN")
		return
	}
	switch path {
	case "/account/whoami":
		reply(w, 200, dict{"user_id": who[0], "device_id": who[1]})
	case "/devices":
		u, _ := h.user(who[0])
		list := []dict{}
		for _, d := range u.devices {
			list = append(list, dict{"device_id": d})
		}
		reply(w, 200, dict{"devices": list})
	case "/delete_devices", "/account/deactivate", "/account/password":
		h.guard(w, r, path, who[0], params)
	default:
		fail(w, 404, "M_UNRECOGNIZED")
	}
}

// guard asks for the user's password, and does it.
func (h *homeserver) guard(w http.ResponseWriter, r *http.Request, path, id string, params dict) {
	auth, _ := params["auth"].(dict)
	password, _ := auth["password"].(string)
	if auth == nil || !h.right(r.Context(), id, password) {
		reply(w, 401, dict{"session": "s", "flows": []dict{{"stages": []string{"m.login.password"}}}})
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guarded[path]++
	u := h.users[id]
	switch path {
	case "/delete_devices":
		list, _ := params["devices"].([]any)
		u.devices = slices.DeleteFunc(u.devices, func(d string) bool { return slices.Contains(list, any(d)) })
	case "/account/deactivate":
		u.gone, u.devices = true, nil
		for t, who := range h.tokens {
			if who[0] == id {
				delete(h.tokens, t)
			}
		}
		reply(w, 200, dict{"id_server_unbind_result": "no-support"})
		return
	case "/account/password":
		u.local, _ = params["new_password"].(string)
	}
	reply(w, 200, dict{})
}

func (h *homeserver) breaks(path string, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken[path] = status
}

// world is a gateway with accounts of its own, and the homeserver behind it.
type world struct {
	t        testing.TB
	hs       *homeserver
	store    restauth.AccountStore
	tokens   *memstore.Store
	accounts *restauth.Accounts
	engine   *uia.Engine
	front    http.Handler
	log      *strings.Builder
}

func newWorld(t testing.TB, change func(*restauth.Options)) *world {
	t.Helper()
	w := &world{t: t, store: &restauth.MemoryAccounts{}, tokens: memstore.New(nil), log: &strings.Builder{}}
	w.hs = &homeserver{users: map[string]*hsUser{}, tokens: map[string][2]string{}, broken: map[string]int{}, guarded: map[string]int{}}
	behind := httptest.NewServer(w.hs)
	t.Cleanup(behind.Close)
	secrets := uia.FixedSecrets([]byte(strings.Repeat("s", 32)))
	log := slog.New(slog.NewTextHandler(io.MultiWriter(&lockedWriter{to: w.log}, t.Output()), nil))
	o := restauth.Options{
		Store: w.store, Homeserver: &gateway.Client{URL: behind.URL}, ServerName: serverName, Secrets: secrets, Logger: log,
		Passwords: passwords.New(nil), CheckPassword: func(_ context.Context, password string) error {
			if len(password) < 8 {
				return uia.NewError(400, weak("A password has at least 8 characters."))
			}
			return nil
		},
	}
	if change != nil {
		change(&o)
	}
	w.store = o.Store
	var err error
	w.accounts, err = restauth.NewAccounts(o)
	require.NoError(t, err)
	handler, err := restauth.NewHandler(w.accounts.Verify, restauth.HandlerOptions{
		ServerName: serverName, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Logger: log,
	})
	require.NoError(t, err)
	service := httptest.NewServer(handler)
	t.Cleanup(service.Close)
	client, err := restauth.NewClient(service.URL, serverName, nil)
	require.NoError(t, err)
	w.hs.verify = client.Verify

	reg := &register.Registration{
		Accounts: w.accounts, Resolve: w.accounts.Resolve, HashPassword: w.accounts.HashPassword, CheckPassword: o.CheckPassword,
		ServerName: serverName, Flows: []uia.Flow{{uia.TokenType}},
	}
	w.engine, err = uia.New(uia.Config{
		Secrets: secrets, Sessions: w.tokens, Logger: log,
		Stages:     []uia.Stage{&uia.TokenStage{Store: w.tokens}, &stages.PasswordStage{Verify: w.accounts.Verify}},
		Operations: append(w.accounts.Operations(), reg.Operation()),
	})
	require.NoError(t, err)
	pages, err := fallback.New(w.engine, nil)
	require.NoError(t, err)
	guard, err := w.accounts.Guard(w.engine)
	require.NoError(t, err)
	target, err := url.Parse(behind.URL)
	require.NoError(t, err)
	w.front, err = gateway.New(gateway.Options{
		Upstream: target, Engine: w.engine, Registration: reg, Tokens: w.tokens, Fallback: pages, Account: guard, Logger: log,
	})
	require.NoError(t, err)
	return w
}

type lockedWriter struct {
	mu sync.Mutex
	to *strings.Builder
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// post sends a request through the gateway, with an access token if it is not empty.
func (w *world) post(path, token string, body dict) (int, dict) {
	w.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(w.t, err)
	r := httptest.NewRequestWithContext(w.t.Context(), "POST", "/_matrix/client/v3"+path, strings.NewReader(string(text)))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.front.ServeHTTP(rec, r)
	var out dict
	require.NoError(w.t, json.Unmarshal(rec.Body.Bytes(), &out), "%s", rec.Body)
	return rec.Code, out
}
