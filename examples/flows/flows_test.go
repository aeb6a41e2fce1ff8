package flows

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
	"github.com/matrix-uia/uia/memstore"
	"github.com/matrix-uia/uia/stages"
)

const (
	dummyType = "m.login.dummy"
	alice     = "@alice:example.org"
)

var (
	types = []string{uia.TokenType, stages.TermsType, stages.CaptchaType, stages.PasswordType, dummyType}
	// Two alternatives that part after the first stage and end differently.
	alternatives = []uia.Flow{
		{uia.TokenType, stages.TermsType, stages.CaptchaType, stages.PasswordType},
		{uia.TokenType, stages.CaptchaType, stages.TermsType, dummyType},
	}
)

// input is what a client or a user sends to a stage, by outcome. A stage that
// nothing can be wrong with has it all alike.
type input struct {
	auth  [3]map[string]any
	form  [3]url.Values
	wrong string // the errcode
}

var inputs = map[string]input{
	uia.TokenType: {
		[3]map[string]any{{"token": "good"}, {"token": "bad"}, {}},
		[3]url.Values{{"token": {"good"}}, {"token": {"bad"}}, {}}, "M_UNAUTHORIZED",
	},
	stages.CaptchaType: {
		[3]map[string]any{{"response": "human"}, {"response": "robot"}, {}},
		[3]url.Values{{"cf-turnstile-response": {"human"}}, {"cf-turnstile-response": {"robot"}}, {}}, "M_CAPTCHA_INVALID",
	},
	stages.PasswordType: {
		[3]map[string]any{{"user": alice, "password": "right"}, {"user": alice, "password": "wrong"}, {"user": alice}},
		[3]url.Values{{"password": {"right"}}, {"password": {"wrong"}}, {}}, "M_FORBIDDEN",
	},
	stages.TermsType: {[3]map[string]any{}, [3]url.Values{{"terms": {"yes"}}, {"terms": {"yes"}}, {}}, ""},
	dummyType:        {},
}

// provider is a captcha's that knows humans.
type provider struct{}

func (provider) RoundTrip(r *http.Request) (*http.Response, error) {
	verdict := `{"success":false}`
	if r.FormValue("response") == "human" {
		verdict = `{"success":true}`
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(verdict))}, nil
}

// server is an engine with one operation, behind HTTP.
type server struct {
	mux    http.ServeMux
	engine *uia.Engine
	runs   int
}

func newServer(t require.TestingT, anyOrder bool) *server {
	s := &server{}
	store := memstore.New(nil)
	require.NoError(t, store.CreateTokens(context.Background(), uia.Token{Value: "good", UsesAllowed: new(int64(1))}))
	terms, err := stages.NewTermsStage(stages.Policy{ID: "terms", Version: "1", Texts: map[string]stages.PolicyText{"en": {Name: "Terms", URL: "https://example.org"}}})
	require.NoError(t, err)
	s.engine, err = uia.New(uia.Config{
		Secrets: uia.FixedSecrets(bytes.Repeat([]byte("s"), 32)), Sessions: store,
		Stages: []uia.Stage{
			&uia.TokenStage{Store: store}, terms, uia.DummyStage{},
			&stages.CaptchaStage{Provider: stages.Turnstile, SiteKey: "k", Secret: "s", HTTP: &http.Client{Transport: provider{}}},
			&stages.PasswordStage{Verify: func(_ context.Context, id stages.Identifier, password string) (string, error) {
				if password != "right" {
					return "", nil
				}
				return id.User, nil
			}},
		},
		Operations: []uia.Operation{{Name: "op", Flows: alternatives, AnyOrder: anyOrder, Resolve: uia.NotDone}},
	})
	require.NoError(t, err)
	pages, err := fallback.New(s.engine, nil)
	require.NoError(t, err)
	s.mux.Handle(fallback.Path, pages)
	s.mux.HandleFunc("POST /op", func(w http.ResponseWriter, r *http.Request) {
		s.engine.Serve(w, r, uia.Caller{Operation: "op", Subject: alice}, func(context.Context, *uia.Session) (uia.Effect, error) {
			s.runs++
			return uia.Effect{UserID: alice}, nil
		})
	})
	return s
}

func (s *server) post(path, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
	return w
}

type answer struct {
	Session   string   `json:"session"`
	Errcode   string   `json:"errcode"`
	Completed []string `json:"completed"`
}

func TestEveryOrder(t *testing.T) {
	finished := 0
	rapid.Check(t, func(t *rapid.T) {
		anyOrder := rapid.Bool().Draw(t, "anyOrder")
		s := newServer(t, anyOrder)
		m := &model{anyOrder: anyOrder, flows: [][]string{alternatives[0], alternatives[1]}}
		var opened answer
		require.NoError(t, json.Unmarshal(s.post("/op", "").Body.Bytes(), &opened))

		// Most draws are of stages that can go on, or no walk would come to an end.
		draw := func() (typ string, outcome int) {
			next := slices.DeleteFunc(slices.Clone(types), func(typ string) bool { return !m.next(typ) })
			from := types
			if len(next) > 0 && rapid.IntRange(0, 3).Draw(t, "how") > 0 {
				from = next
			}
			typ = rapid.SampledFrom(from).Draw(t, "stage")
			return typ, rapid.SampledFrom([]int{right, right, right, wrong, missing}).Draw(t, "outcome")
		}
		send := func(typ string, outcome int) {
			auth := map[string]any{"session": opened.Session}
			if typ != "" {
				auth["type"] = typ
				maps.Copy(auth, inputs[typ].auth[outcome])
			}
			if inputs[typ].wrong == "" {
				outcome = right
			}
			body, err := json.Marshal(map[string]any{"auth": auth})
			require.NoError(t, err)
			want := m.request(string(body), typ, outcome, inputs[typ].wrong)
			w := s.post("/op", string(body))
			var got answer
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
			require.Equal(t, want, expected{w.Code, got.Errcode}, w.Body)
			if w.Code == http.StatusUnauthorized {
				require.Equal(t, append([]string{}, m.completed...), append([]string{}, got.Completed...))
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"request": func(*rapid.T) { send(draw()) },
			"poll":    func(*rapid.T) { send("", right) },
			"page": func(*rapid.T) {
				typ, outcome := draw()
				form := inputs[typ].form[outcome]
				switch {
				case typ == stages.TermsType && outcome == wrong, typ == dummyType:
					outcome = right
				}
				want := m.page(typ, outcome)
				path := strings.Replace(fallback.Path, "{type}", typ, 1) + "?session=" + opened.Session
				w := s.post(path, form.Encode())
				require.Equal(t, want, w.Code)
			},
			"out of band": func(*rapid.T) {
				typ, _ := draw()
				if typ == uia.TokenType {
					return // nobody but its stage can complete it: it leaves something
				}
				err := s.engine.Complete(context.Background(), uia.Completion{Session: opened.Session, Type: typ})
				if m.page(typ, right) == http.StatusOK {
					require.NoError(t, err)
				} else {
					require.Error(t, err)
				}
			},
			"": func(t *rapid.T) { // after each step
				runs := 0
				if m.final {
					runs = 1
				}
				require.Equal(t, runs, s.runs, "the operation ran")
				session, err := s.engine.Session(context.Background(), opened.Session)
				if m.final {
					require.Error(t, err)
					return
				}
				require.NoError(t, err)
				require.Equal(t, append([]string{}, m.completed...), session.Completed)
			},
		})
		finished += s.runs
	})
	require.NotZero(t, finished, "no walk has come to its end")
	t.Logf("%d walks came to their end", finished)
}
