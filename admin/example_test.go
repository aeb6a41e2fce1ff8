package admin_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/admin"
	"github.com/matrix-uia/uia/memstore"
)

// A homeserver knows its admins by their access tokens.
func ExampleHandler() {
	admins := map[string]string{"syt_root": "@root:example.org"}
	authorize := func(r *http.Request) (by string, err error) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return "", uia.NewError(http.StatusUnauthorized, spec.MissingToken("Missing access token"))
		}
		by, ok = admins[token]
		if !ok {
			return "", uia.NewError(http.StatusUnauthorized, spec.UnknownToken("Unknown access token"))
		}
		return by, nil
	}
	h, err := admin.Handler(memstore.New(nil), authorize, &admin.Options{
		InviteURL: "https://chat.example.org/#/register?token={token}",
	})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(admin.Path, h)
	mux.Handle(admin.Path+"/", h)

	r := httptest.NewRequest("POST", admin.Path+"/new", strings.NewReader(`{"token":"welcome","uses_allowed":3}`))
	r.Header.Set("Authorization", "Bearer syt_root")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, strings.Contains(w.Body.String(), `"invite_url":"https://chat.example.org/#/register?token=welcome"`))
	// Output: 200 true
}
