package signup_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/signup"
)

// The page beside the API, in the operator's own look; the links that administrators hand
// out lead to it.
func ExampleNew() {
	store := memstore.New(nil)
	secrets := uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)) // from crypto/rand, in a real homeserver
	registration := &register.Registration{
		Accounts: newAccounts(), ServerName: "example.org", Flows: []uia.Flow{{uia.TokenType, uia.DummyType}},
		Resolve: func(context.Context, string) (uia.Outcome, error) { return uia.Outcome{}, nil },
	}
	engine, err := uia.New(uia.Config{
		Secrets: secrets, Sessions: store,
		Stages:     []uia.Stage{&uia.TokenStage{Store: store}, uia.DummyStage{}},
		Operations: []uia.Operation{registration.Operation()},
	})
	if err != nil {
		panic(err)
	}
	pages, err := fallback.New(engine, &fallback.Options{Title: "Chess club", Look: fallback.Look{
		Light: fallback.Colors{Accent: "#7a1f5c"},
		Links: []form.Link{{Text: "House rules", URL: "https://example.org/rules"}},
	}})
	if err != nil {
		panic(err)
	}
	page, err := signup.New(signup.Options{
		Engine: engine, Registration: registration, Pages: pages, Tokens: store, Secrets: secrets,
		Homeserver: "https://matrix.example.org", Apps: []signup.App{signup.Cinny, signup.FluffyChat},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(signup.Path, page)
	_ = admin.Options{InviteURL: signup.InviteURL("https://matrix.example.org" + signup.Path)} // or signup.Cinny.Register

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/register?token=unknown", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 404 text/html; charset=utf-8
}

// newAccounts stands for the accounts of a homeserver.
func newAccounts() register.Accounts { return &world{} }
