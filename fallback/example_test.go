package fallback_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/memstore"
)

// The page is mounted at both of its paths.
func ExampleNew() {
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), // from crypto/rand, in a real homeserver
		Sessions:   memstore.New(nil),
		Stages:     []uia.Stage{uia.DummyStage{}},
		Operations: []uia.Operation{{Name: "delete_device", Flows: []uia.Flow{{"m.login.dummy"}}}},
	})
	if err != nil {
		panic(err)
	}
	pages, err := fallback.New(engine, &fallback.Options{Title: "example.org"})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	mux.Handle(fallback.Path, pages)
	mux.Handle(fallback.PathR0, pages)

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/_matrix/client/v3/auth/m.login.dummy/fallback/web?session=made-up", nil))
	fmt.Println(w.Code, w.Header().Get("Content-Type"))
	// Output: 400 text/html; charset=utf-8
}
