package register_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

// memory keeps accounts in memory, by the key of the registration that made them: it may
// be run again under a key, and must not make a second one. A key without a name never
// gets an account.
type memory struct {
	mu     sync.Mutex
	byKey  map[string]string
	byName map[string]string
}

var errTaken = uia.NewError(http.StatusBadRequest, spec.UserInUse("That username is taken."))

func (m *memory) Available(_ context.Context, r register.UsernameRequest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.byName[r.Localpart] != "" {
		return errTaken
	}
	return nil
}

func (m *memory) Create(_ context.Context, a register.Account) (register.Created, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, known := m.byKey[a.Key]
	switch {
	case known && name == "":
		return register.Created{}, uia.NewError(http.StatusBadRequest, spec.Unknown("It is too late."))
	case !known && m.byName[a.Localpart] != "":
		return register.Created{}, errTaken
	case !known:
		name = a.Localpart
		m.byKey[a.Key], m.byName[name] = name, a.Key
	}
	return register.Created{UserID: "@" + name + ":example.org", DeviceID: "DEVICE", AccessToken: "syt_made_by_the_homeserver"}, nil
}

// resolve tells what became of a registration that failed in the middle, and sees to it
// that one without an account never gets one. Where accounts are in the tokens' database,
// set Tx instead.
func (m *memory) resolve(_ context.Context, key string) (uia.Outcome, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	name := m.byKey[key]
	m.byKey[key] = name
	return uia.Outcome{Done: name != "", UserID: "@" + name + ":example.org"}, nil
}

// Registration with a token on accounts of one's own.
func ExampleRegistration() {
	accounts := &memory{byKey: map[string]string{}, byName: map[string]string{}}
	registration := &register.Registration{
		Accounts: accounts, ServerName: "example.org",
		Flows:   []uia.Flow{{uia.TokenType, uia.DummyType}},
		Resolve: accounts.resolve,
	}
	store := memstore.New(nil)
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("32 random bytes, kept with the homeserver's other secrets")),
		Sessions:   store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler, err := registration.Handler(engine)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.CreateTokens(context.Background(), uia.Token{Value: "welcome", UsesAllowed: new(int64(1))}); err != nil {
		log.Fatal(err)
	}

	body := `{"username":"alice","password":"wonderland","auth":{"type":"m.login.registration_token","token":"welcome"}}`
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("POST", "/_matrix/client/v3/register", strings.NewReader(body)))
	fmt.Println(w.Code, strings.Contains(w.Body.String(), `"completed":["m.login.registration_token"]`))
	// Output: 401 true
}
