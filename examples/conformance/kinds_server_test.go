package conformance

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/stages"
	"github.com/matrix-uia/uia/uiatest"
)

// kinds is a homeserver that has what the example homeserver has not: guests,
// refresh tokens, an application service, terms and confirmed addresses.
type kinds struct {
	mu      sync.Mutex
	users   map[string]bool   // by localpart; true for a guest
	devices map[string]string // the localpart, by access token
	refresh map[string]string // the localpart, by refresh token
	made    map[string]register.Created
}

const (
	serviceToken  = "the access token of an application service"
	servicePrefix = "_uiatest_"
)

func (k *kinds) Available(_ context.Context, r register.UsernameRequest) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, taken := k.users[r.Localpart]; taken {
		return uia.NewError(http.StatusBadRequest, spec.UserInUse("The username is taken."))
	}
	return nil
}

func (k *kinds) Create(ctx context.Context, a register.Account) (register.Created, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if made, again := k.made[a.Key]; again {
		return made, nil
	}
	if _, taken := k.users[a.Localpart]; taken {
		return register.Created{}, uia.NewError(http.StatusBadRequest, spec.UserInUse("The username is taken."))
	}
	made := register.Created{UserID: "@" + a.Localpart + ":example.org"}
	k.users[a.Localpart] = false
	if !a.InhibitLogin {
		made.AccessToken, made.DeviceID = k.login(a.Localpart), cmp.Or(a.DeviceID, "KIT")
		if a.RefreshToken {
			made.RefreshToken, made.ExpiresIn = rand.Text(), time.Hour
			k.refresh[made.RefreshToken] = a.Localpart
		}
	}
	k.made[a.Key] = made
	return made, nil
}

// login returns a new access token. The caller holds the lock.
func (k *kinds) login(localpart string) string {
	token := rand.Text()
	k.devices[token] = localpart
	return token
}

func (k *kinds) guest(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	localpart := fmt.Sprint(len(k.users))
	k.users[localpart] = true
	uia.WriteJSON(w, r, nil, http.StatusOK, map[string]any{"user_id": "@" + localpart + ":example.org", "access_token": k.login(localpart), "device_id": "guest_device"})
}

func (k *kinds) appService(w http.ResponseWriter, r *http.Request) {
	var username string
	body, _ := io.ReadAll(r.Body)
	_, err := uia.Field(body, "username", &username)
	switch {
	case r.Header.Get("Authorization") != "Bearer "+serviceToken:
		err = uia.NewError(http.StatusUnauthorized, spec.UnknownToken("This is no application service."))
	case err == nil && !strings.HasPrefix(username, servicePrefix):
		err = uia.NewError(http.StatusBadRequest, spec.MatrixError{ErrCode: "M_EXCLUSIVE", Err: "The username is not the service's."})
	}
	if err != nil {
		uia.WriteError(w, r, nil, err)
		return
	}
	uia.WriteJSON(w, r, nil, http.StatusOK, map[string]any{"user_id": "@" + username + ":example.org"})
}

func (k *kinds) renew(w http.ResponseWriter, r *http.Request) {
	var token string
	body, _ := io.ReadAll(r.Body)
	_, _ = uia.Field(body, "refresh_token", &token)
	k.mu.Lock()
	defer k.mu.Unlock()
	localpart, ok := k.refresh[token]
	if !ok {
		uia.WriteError(w, r, nil, uia.NewError(http.StatusUnauthorized, spec.UnknownToken("The refresh token is not known.")))
		return
	}
	uia.WriteJSON(w, r, nil, http.StatusOK, map[string]any{"access_token": k.login(localpart), "refresh_token": token})
}

func (k *kinds) whoami(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	localpart := k.devices[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
	uia.WriteJSON(w, r, nil, http.StatusOK, map[string]any{"user_id": "@" + localpart + ":example.org", "is_guest": k.users[localpart]})
}

// SendConfirmation sends no mail.
func (*kinds) SendConfirmation(context.Context, stages.Confirmation) error { return nil }

// newKinds returns the homeserver, and how the kit is told of it.
func newKinds(t *testing.T) uiatest.Server {
	t.Helper()
	k := &kinds{users: make(map[string]bool), devices: make(map[string]string), refresh: make(map[string]string), made: make(map[string]register.Created)}
	store := memstore.New(nil)
	terms, err := stages.NewTermsStage(stages.Policy{ID: "terms_of_service", Version: "1.2", Texts: map[string]stages.PolicyText{
		"en": {Name: "Terms of Service", URL: "https://example.org/terms-en.html"},
		"fr": {Name: "Conditions d'utilisation", URL: "https://example.org/terms-fr.html"},
	}})
	require.NoError(t, err)
	email := &stages.EmailStage{Mailer: k, Store: new(stages.EmailMemory), Secrets: uia.FixedSecrets(bytes.Repeat([]byte("e"), 32)), ConfirmURL: "https://example.org/confirm", NoLimit: true}
	registration := &register.Registration{
		Accounts: k, ServerName: "example.org",
		Flows: []uia.Flow{flows["TD"], {uia.TokenType, stages.TermsType, stages.EmailType}},
		Guest: http.HandlerFunc(k.guest), AppService: http.HandlerFunc(k.appService),
		Resolve: uia.NotDone,
	}
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), Sessions: store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}, terms, email},
		Operations: []uia.Operation{registration.Operation()},
		Client:     func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
	})
	require.NoError(t, err)
	handler, err := registration.Handler(engine)
	require.NoError(t, err)
	requestToken, err := email.RequestToken(engine)
	require.NoError(t, err)
	mux := http.NewServeMux()
	for _, version := range []string{"v3", "r0"} {
		mux.Handle("/_matrix/client/"+version+"/register", handler)
		mux.Handle("/_matrix/client/"+version+"/register/email/requestToken", requestToken)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		uia.WriteError(w, r, nil, uia.NewError(http.StatusNotFound, spec.Unrecognized("Unrecognized request")))
	})
	mux.HandleFunc("/_matrix/client/v3/refresh", k.renew)
	mux.HandleFunc("/_matrix/client/v3/account/whoami", k.whoami)
	return uiatest.Server{
		Handler: mux, NewToken: newToken(store), AppServiceToken: serviceToken, AppServicePrefix: servicePrefix,
		Lacks: []string{"validity", "available", "fallback", "login", "versions", "devices", "server_version"},
	}
}

// What the example homeserver lacks is measured here: every case of the area kinds
// applies, and passes.
func TestKinds(t *testing.T) {
	reports, err := uiatest.Run(t.Context(), newKinds(t), &uiatest.Options{Match: regexp.MustCompile("^kinds/")})
	require.NoError(t, err)
	for _, r := range reports {
		require.Equal(t, uiatest.Passed, r.Outcome, "%s: %s %s", r.Name, r.Reason, r.Explain())
	}
}
