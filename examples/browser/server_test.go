package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/examples/homeserver/hs"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/stages"
)

// homeserver is a homeserver on a port, which makes it an origin of its own.
type homeserver struct {
	*httptest.Server
	t    *testing.T
	path string // of the guarded operation

	tokens uia.TokenStore
}

// newHomeserver starts the example homeserver.
func newHomeserver(t *testing.T) *homeserver {
	t.Helper()
	storage, err := hs.Open(t.Context(), "memory")
	require.NoError(t, err)
	server, err := hs.New(t.Context(), hs.Options{
		ServerName: "example.org", Storage: storage, Invites: 3,
		Flows: []uia.Flow{{uia.TokenType, "m.login.dummy"}}, Tokens: []uia.Token{
			{Value: "Welcome-2026"}, {Value: "Once-2026", UsesAllowed: new(int64(1)), Meta: []byte(`{"inviter":"Alice"}`)},
			{Value: "Carol-2026", Meta: []byte(`{"username":"carol"}`)},
		},
	})
	require.NoError(t, err)
	h := &homeserver{httptest.NewServer(server), t, "/_matrix/client/v3/register", storage.Tokens}
	t.Cleanup(func() {
		server.Close()
		h.Close()
	})
	return h
}

// newStages starts a homeserver that asks for one stage of any type.
func newStages(t *testing.T, typ string) *homeserver {
	t.Helper()
	provider := captchaProvider(t)
	terms, err := stages.NewTermsStage(
		stages.Policy{ID: "terms_of_service", Version: "1.2", Texts: map[string]stages.PolicyText{"en": {Name: "Terms of Service", URL: "https://example.org/terms"}}},
		stages.Policy{ID: "privacy_policy", Version: "7", Texts: map[string]stages.PolicyText{"fr": {Name: "Politique de confidentialité", URL: "https://example.org/vie-privee"}}},
	)
	require.NoError(t, err)
	mux := http.NewServeMux()
	h := &homeserver{httptest.NewServer(mux), t, "/op", nil}
	t.Cleanup(h.Close)
	store, box := memstore.New(nil), &stages.EmailMemory{}
	email := &stages.EmailStage{Mailer: nobody{}, Store: box, Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), ConfirmURL: h.URL + "/confirm", NoLimit: true}
	email.Allow = func(context.Context, *uia.Session, string) error { return nil }
	engine, err := uia.New(uia.Config{
		Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), Sessions: store,
		Stages: []uia.Stage{
			terms, email, uia.DummyStage{},
			&stages.CaptchaStage{SiteKey: "site", Secret: "shh", Provider: provider},
			&stages.PasswordStage{Verify: func(context.Context, stages.Identifier, string) (string, error) { return "", nil }},
			&stages.OutOfBandStage{Provider: "Example ID", URL: func(context.Context, *uia.Session) (string, error) { return "https://id.example.org/", nil }},
		},
		Operations: []uia.Operation{{
			Name: "op", Flows: []uia.Flow{{typ}},
			Describe: func(s *uia.Session, _ form.Say) string {
				return "sign " + s.Subject + " out on the device “Old telephone in the kitchen”"
			},
		}},
	})
	require.NoError(t, err)
	pages, err := fallback.New(engine, &fallback.Options{Title: "example.org", Redirects: []string{"org.example.client://done", h.URL + "/landed"}})
	require.NoError(t, err)
	mux.Handle(fallback.Path, pages)
	confirm, err := email.Confirm(pages)
	require.NoError(t, err)
	mux.Handle("/confirm", confirm)
	mux.HandleFunc("POST /op", func(w http.ResponseWriter, r *http.Request) {
		engine.Serve(w, r, uia.Caller{Operation: "op", Subject: "@alice:example.org"}, func(context.Context, *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, nil
		})
	})
	mux.HandleFunc("GET /landed", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<!DOCTYPE html><title>landed</title>") })
	return h
}

// nobody is a mailer whose mails nobody gets.
type nobody struct{}

func (nobody) SendConfirmation(context.Context, stages.Confirmation) error { return nil }

// captchaProvider starts a provider whose widget is a box to tick, on an origin of
// its own.
func captchaProvider(t *testing.T) stages.CaptchaProvider {
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET /api.js", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(w, `for (const e of document.querySelectorAll(".example-captcha")) {
			const box = document.createElement("input"), label = document.createElement("label");
			box.type = "checkbox"; box.name = "example-response"; box.value = e.dataset.sitekey + "-human"; box.id = "human";
			label.append(box, " I am human"); e.append(label);
		}`)
	})
	mux.HandleFunc("POST /verify", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"success": r.PostFormValue("response") == "site-human"})
	})
	return stages.CaptchaProvider{
		VerifyURL: server.URL + "/verify", Script: server.URL + "/api.js", Class: "example-captcha", Field: "example-response",
		Sources: map[string][]string{"script-src": {server.URL}},
	}
}

// post sends a request to the guarded operation.
func (h *homeserver) post(body map[string]any) (int, map[string]any) {
	h.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(h.t, err)
	answer, err := http.Post(h.URL+h.path, "application/json", bytes.NewReader(encoded))
	require.NoError(h.t, err)
	defer answer.Body.Close()
	var got map[string]any
	require.NoError(h.t, json.NewDecoder(answer.Body).Decode(&got))
	return answer.StatusCode, got
}

// open opens a session.
func (h *homeserver) open(params map[string]any) string {
	h.t.Helper()
	if params == nil {
		params = map[string]any{}
	}
	_, challenge := h.post(params)
	session, _ := challenge["session"].(string)
	require.NotEmpty(h.t, session)
	return session
}

// page returns the address of the session's page.
func (h *homeserver) page(typ, session string) string {
	return h.URL + "/_matrix/client/v3/auth/" + typ + "/fallback/web?session=" + url.QueryEscape(session)
}

// completed returns what the session has completed.
func (h *homeserver) completed(session string) any {
	h.t.Helper()
	_, challenge := h.post(map[string]any{"auth": map[string]any{"session": session}})
	return challenge["completed"]
}
