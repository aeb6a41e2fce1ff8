package uia_test

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
)

// deleteDevice stands for what the homeserver does.
func deleteDevice(_ context.Context, user, device string) error {
	fmt.Println("deleted", device, "of", user)
	return nil
}

// user stands for the homeserver's check of the access token.
func user(*http.Request) string { return "@alice:example.org" }

// Guarding an endpoint of a homeserver on net/http.
func Example() {
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("32 random bytes, kept with the homeserver's other secrets")),
		Sessions:   memstore.New(nil),
		Stages:     []uia.Stage{passwordStage{}},
		Operations: []uia.Operation{{Name: "delete_device", Flows: []uia.Flow{{"m.login.password"}}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("DELETE /_matrix/client/v3/devices/{id}", func(w http.ResponseWriter, r *http.Request) {
		c := uia.Caller{Operation: "delete_device", Subject: user(r), Target: r.PathValue("id")}
		engine.Serve(w, r, c, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, deleteDevice(ctx, s.Subject, s.Target)
		})
	})

	w := httptest.NewRecorder()
	body := `{"auth":{"type":"m.login.password","password":"right"}}`
	http.DefaultServeMux.ServeHTTP(w, httptest.NewRequest("DELETE", "/_matrix/client/v3/devices/PHONE", strings.NewReader(body)))
	fmt.Println(w.Code, w.Body)
	// Output:
	// deleted PHONE of @alice:example.org
	// 200 {}
}

// jsonResponse is how a homeserver whose handlers return their response tells it.
type jsonResponse struct {
	Code    int
	Headers http.Header
	JSON    any
}

// Guarding an endpoint of a homeserver whose handlers return their response.
func Example_returnedResponses() {
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("32 random bytes, kept with the homeserver's other secrets")),
		Sessions:   memstore.New(nil),
		Stages:     []uia.Stage{passwordStage{}},
		Operations: []uia.Operation{{Name: "delete_device", Flows: []uia.Flow{{"m.login.password"}}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := func(r *http.Request, device string) jsonResponse {
		ctx := r.Context()
		req, err := engine.Request(r, uia.Caller{Operation: "delete_device", Subject: user(r), Target: device})
		var body json.RawMessage
		if err == nil {
			var grant *uia.Grant
			if grant, err = engine.Authenticate(ctx, req); err == nil {
				body, err = grant.Finish(ctx, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
					return uia.Effect{}, deleteDevice(ctx, s.Subject, s.Target)
				})
			}
		}
		if err != nil {
			status, header, body := engine.Answer(ctx, err)
			return jsonResponse{status, header, body}
		}
		return jsonResponse{200, nil, body}
	}

	body := `{"auth":{"type":"m.login.password","password":"wrong"}}`
	response := handler(httptest.NewRequest("DELETE", "/", strings.NewReader(body)), "PHONE")
	fmt.Println(response.Code, response.JSON.(*uia.Challenge).ErrCode)
	// Output: 401 M_FORBIDDEN
}
