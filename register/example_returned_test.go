package register_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
)

// response is what this homeserver's handlers return.
type response struct {
	Code    int
	Headers http.Header
	JSON    any
}

// routes are the handlers of this homeserver; a middleware of its own writes what they
// return.
type routes map[string]func(*http.Request) response

// Registration with a token at a homeserver whose handlers return their response.
func ExampleRegistration_Run() {
	accounts, store := &memory{byKey: map[string]string{}, byName: map[string]string{}}, memstore.New(nil)
	registration := &register.Registration{
		Accounts: accounts, ServerName: "example.org", Flows: []uia.Flow{{uia.TokenType}}, Resolve: accounts.resolve,
	}
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("32 random bytes, kept with the homeserver's other secrets")),
		Sessions:   store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}},
		Operations: []uia.Operation{registration.Operation()},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.CreateTokens(context.Background(), uia.Token{Value: "welcome", UsesAllowed: new(int64(1))}); err != nil {
		log.Fatal(err)
	}
	handlers := routes{"POST /register": func(r *http.Request) response {
		code, headers, body := registration.Run(r, engine)
		return response{code, headers, body}
	}}

	body := `{"username":"alice","password":"wonderland","auth":{"type":"m.login.registration_token","token":"welcome"}}`
	done := handlers["POST /register"](httptest.NewRequest("POST", "/register", strings.NewReader(body)))
	fmt.Println(done.Code, strings.Contains(string(done.JSON.(json.RawMessage)), `"user_id":"@alice:example.org"`))
	// Output: 200 true
}
