package uia_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/form"
	"github.com/matrix-uia/uia/limit"
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
		c := uia.Caller{Operation: "delete_device", Subject: user(r), Target: device}
		code, headers, body := engine.Run(r, c, func(ctx context.Context, s *uia.Session) (uia.Effect, error) {
			return uia.Effect{}, deleteDevice(ctx, s.Subject, s.Target)
		})
		return jsonResponse{code, headers, body}
	}

	body := `{"auth":{"type":"m.login.password","password":"wrong"}}`
	response := handler(httptest.NewRequest("DELETE", "/", strings.NewReader(body)), "PHONE")
	fmt.Println(response.Code, response.JSON.(*uia.Challenge).ErrCode)
	// Output: 401 M_FORBIDDEN
}

// quizStage asks a question that members of the club can answer.
type quizStage struct{}

var (
	_ uia.ParamsStage   = quizStage{} // a misspelt method would go unnoticed otherwise
	_ uia.FallbackStage = quizStage{}
)

func (quizStage) Type() string { return "org.example.quiz" }

func (quizStage) Attempt(_ context.Context, _ *uia.Session, auth json.RawMessage) (json.RawMessage, error) {
	var answer string
	if ok, err := uia.Field(auth, "answer", &answer); err != nil {
		return nil, err
	} else if !ok {
		return nil, uia.NewError(http.StatusBadRequest, spec.MissingParam("The member answer of auth is missing."))
	}
	if answer != "42" {
		return nil, uia.NewError(http.StatusUnauthorized, spec.Forbidden("That is not the answer."))
	}
	return nil, nil
}

func (quizStage) Params(context.Context, *uia.Session) (json.RawMessage, error) {
	return json.RawMessage(`{"question":"What do you get if you multiply six by nine?"}`), nil
}

func (quizStage) Form(context.Context, *uia.Session, form.State) (*form.Form, error) {
	return &form.Form{
		Heading: "A question", Submit: "Answer",
		Fields: []form.Field{{Name: "answer", Label: "What do you get if you multiply six by nine?"}},
	}, nil
}

func (quizStage) FormAuth(_ *uia.Session, values url.Values) (json.RawMessage, error) {
	return json.Marshal(map[string]string{"answer": values.Get("answer")})
}

// A stage of one's own, with parameters for clients that know it and a form for the
// fallback page.
func Example_ownStage() {
	engine, err := uia.New(uia.Config{
		Secrets:    uia.FixedSecrets([]byte("32 random bytes, kept with the homeserver's other secrets")),
		Sessions:   memstore.New(nil),
		Stages:     []uia.Stage{quizStage{}},
		Operations: []uia.Operation{{Name: "join", Flows: []uia.Flow{{"org.example.quiz"}}}},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, answer := range []string{"54", "42"} {
		body := `{"auth":{"type":"org.example.quiz","answer":"` + answer + `"}}`
		w := httptest.NewRecorder()
		engine.Serve(w, httptest.NewRequest("POST", "/join", strings.NewReader(body)), uia.Caller{Operation: "join"},
			func(context.Context, *uia.Session) (uia.Effect, error) { return uia.Effect{}, nil })
		fmt.Println(w.Code)
	}
	// Output:
	// 401
	// 200
}

// Behind a proxy that sets X-Forwarded-For, failures are charged to the client and
// not to the proxy, and what the client writes into that header counts for nothing.
func Example_behindProxy() {
	client := uia.ClientBehind(netip.MustParsePrefix("10.0.0.0/8"))
	limiter, err := limit.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	_ = uia.Config{Client: client, Limiter: limiter}

	r := httptest.NewRequest("POST", "/", nil)
	r.RemoteAddr = "10.0.0.1:1234"
	r.Header.Set("X-Forwarded-For", "1.2.3.4, 192.0.2.7") // the client said 1.2.3.4
	fmt.Println(client(r))
	// Output: 192.0.2.7
}

// Secrets that rotate without a database to keep them: here they follow from a key and
// the day. A secret is known everywhere before it seals, because every process can make
// it; it opens for a day longer; and it is gone for good once the key is.
func Example_rotateSecrets() {
	key := []byte("32 random bytes, kept with the homeserver's other secrets")
	daily := func(day int64) []byte {
		mac := hmac.New(sha256.New, key)
		fmt.Fprint(mac, day)
		return mac.Sum(nil)
	}
	var known struct {
		sync.Mutex
		day     int64
		secrets [][]byte
	}
	secrets := uia.Secrets(func(_ context.Context, now time.Time) ([][]byte, error) {
		known.Lock()
		defer known.Unlock()
		if day := now.Unix() / 86400; day != known.day {
			known.day, known.secrets = day, [][]byte{daily(day), daily(day - 1), daily(day + 1)}
		}
		return known.secrets, nil
	})
	_ = uia.Config{Secrets: secrets}

	today, err := secrets(context.Background(), time.Unix(1_800_000_000, 0))
	fmt.Println(len(today), err)
	// Output: 3 <nil>
}

// An audit log, and a counter for each kind of event.
func Example_auditLogAndMetrics() {
	audit := uia.AuditLog(slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{} // the same output every time
			}
			return a
		},
	})))
	counts := map[uia.EventKind]int{}
	var mu sync.Mutex
	observer := func(ctx context.Context, ev uia.Event) {
		audit(ctx, ev)
		mu.Lock()
		defer mu.Unlock()
		counts[ev.Kind]++
	}
	_ = uia.Config{Observer: observer}

	observer(context.Background(), uia.Event{Kind: uia.EventTokenCreated, Token: uia.Fingerprint("welcome"), By: "@admin:example.org"})
	fmt.Println(counts[uia.EventTokenCreated])
	// Output:
	// level=INFO msg=token_created token=280d44ab by=@admin:example.org
	// 1
}
