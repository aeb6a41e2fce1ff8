package uia_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
)

var secret = []byte("a secret of the tests, 32 bytes long or more")

var (
	flowT  = uia.Flow{uia.TokenType}
	flowTD = uia.Flow{uia.TokenType, "m.login.dummy"}
)

// accounts is the least homeserver that keeps the contract of an operation: at
// most one account per key, and a Resolve that lays tombstones.
type accounts struct {
	mu     sync.Mutex
	byKey  map[string]string // session key to user ID; "" is a tombstone
	byName map[string]string // user ID to session key
	runs   int
}

func (a *accounts) create(_ context.Context, s *uia.Session) (uia.Effect, error) {
	var username string
	if _, err := s.Param("username", &username); err != nil {
		return uia.Effect{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.runs++
	if user, ok := a.byKey[s.Key]; ok {
		if user == "" {
			return uia.Effect{}, uia.NewError(400, spec.Unknown("too late"))
		}
		return a.result(user), nil
	}
	user := "@" + username + ":test"
	if username == "" {
		user = fmt.Sprintf("@u%d:test", a.runs)
	}
	if _, taken := a.byName[user]; taken {
		return uia.Effect{}, uia.NewError(400, spec.UserInUse("taken"))
	}
	a.byKey[s.Key], a.byName[user] = user, s.Key
	return a.result(user), nil
}

// result is what a run tells the client: no two of them have the same access token.
func (a *accounts) result(user string) uia.Effect {
	return uia.Effect{UserID: user, Body: map[string]string{"user_id": user, "access_token": "a-secret-token-" + rand.Text()}}
}

func (a *accounts) resolve(_ context.Context, key string) (uia.Outcome, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	user := a.byKey[key]
	a.byKey[key] = user
	return uia.Outcome{Done: user != "", UserID: user}, nil
}

func (a *accounts) check(_ context.Context, s *uia.Session) error {
	var username string
	if _, err := s.Param("username", &username); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, taken := a.byName["@"+username+":test"]; taken {
		return uia.NewError(400, spec.UserInUse("taken"))
	}
	return nil
}

func (a *accounts) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.byName)
}

// passwordStage is a stage for re-authentication: the password is "right".
type passwordStage struct{}

func (passwordStage) Type() string { return "m.login.password" }

func (passwordStage) Attempt(_ context.Context, _ *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	var password string
	if ok, err := uia.Field(auth, "password", &password); err != nil {
		return nil, err
	} else if !ok {
		return nil, uia.NewError(400, spec.MissingParam("password missing"))
	}
	if password != "right" {
		return nil, uia.NewError(401, spec.Forbidden("Invalid password"))
	}
	return nil, nil
}

// homeserver is an engine with two operations behind an http.Handler: POST
// /register, and DELETE /devices/{id} for the user in the header X-User.
type homeserver struct {
	t        testing.TB
	store    uia.Store
	engine   *uia.Engine
	accounts *accounts
	deletes  []string
	handler  http.Handler
	operate  uia.Operate // what /register runs; accounts.create unless changed
}

type setup struct {
	flows  []uia.Flow
	store  uia.Store
	change func(*uia.Config)
}

func newHomeserver(t testing.TB, s setup) *homeserver {
	h := &homeserver{t: t, accounts: &accounts{byKey: map[string]string{}, byName: map[string]string{}}}
	h.operate = h.accounts.create
	h.store = s.store
	if h.store == nil {
		h.store = memstore.New(nil)
	}
	if s.flows == nil {
		s.flows = []uia.Flow{flowTD}
	}
	cfg := uia.Config{
		Secrets:  uia.FixedSecrets(secret),
		Sessions: h.store,
		Stages:   []uia.Stage{&uia.TokenStage{Store: h.store}, uia.DummyStage{}, passwordStage{}},
		Operations: []uia.Operation{
			{
				Name: "register", Flows: s.flows, Mutable: true, Remember: []string{"username", "password", "device_id"},
				Check: h.accounts.check, Resolve: h.accounts.resolve,
			},
			{Name: "delete_device", Flows: []uia.Flow{{"m.login.password"}}, Remember: []string{"reason"}},
		},
		Client: func(r *http.Request) netip.Addr {
			a, _ := netip.ParseAddrPort(r.RemoteAddr)
			return a.Addr()
		},
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if s.change != nil {
		s.change(&cfg)
	}
	var err error
	h.engine, err = uia.New(cfg)
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /register", func(w http.ResponseWriter, r *http.Request) {
		h.engine.Serve(w, r, uia.Caller{Operation: "register"}, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			return h.operate(ctx, s)
		})
	})
	mux.HandleFunc("DELETE /devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		c := uia.Caller{Operation: "delete_device", Subject: r.Header.Get("X-User"), Target: r.PathValue("id")}
		h.engine.Serve(w, r, c, func(context.Context, *uia.Session) (uia.Effect, error) {
			h.deletes = append(h.deletes, c.Subject+"/"+c.Target)
			return uia.Effect{}, nil
		})
	})
	h.handler = mux
	return h
}

// token creates a token.
func (h *homeserver) token(value string, uses int64) {
	h.t.Helper()
	require.NoError(h.t, h.store.CreateTokens(context.Background(), uia.Token{Value: value, UsesAllowed: &uses}))
}

// answer is what came back.
type answer struct {
	Status int
	Header http.Header
	Body   string
	JSON   map[string]any
}

func (a answer) session() string { s, _ := a.JSON["session"].(string); return s }
func (a answer) errcode() string { s, _ := a.JSON["errcode"].(string); return s }
func (a answer) completed() []string {
	list, _ := a.JSON["completed"].([]any)
	out := []string{}
	for _, v := range list {
		out = append(out, v.(string))
	}
	return out
}

// post sends a body to /register: a string as it is, anything else as JSON.
func (h *homeserver) post(body any) answer { return h.send("POST", "/register", "", body) }

// postCtx is post for a client that hangs up when the context is cancelled.
func (h *homeserver) postCtx(ctx context.Context, body any) answer {
	h.t.Helper()
	return h.sendCtx(ctx, "POST", "/register", "", body)
}

func (h *homeserver) send(method, path, user string, body any) answer {
	h.t.Helper()
	return h.sendCtx(context.Background(), method, path, user, body)
}

func (h *homeserver) sendCtx(ctx context.Context, method, path, user string, body any) answer {
	h.t.Helper()
	text, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		require.NoError(h.t, err)
		text = string(encoded)
	}
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(text))
	r.Header.Set("X-User", user)
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	a := answer{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &a.JSON); err != nil {
		h.t.Errorf("the answer to %s is not a JSON object: %s", text, a.Body)
	}
	return a
}

type dict = map[string]any

// with returns parameters with an auth member.
func with(params dict, auth dict) dict {
	out := dict{"auth": auth}
	maps.Copy(out, params)
	return out
}
