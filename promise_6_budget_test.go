package uia_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/fallback"
)

// guessable is a homeserver with a limiter and every place where a token can be
// guessed: the stage, its page and the validity endpoint.
func guessable(t testing.TB) *homeserver {
	t.Helper()
	h := newHomeserver(t, setup{change: func(c *uia.Config) { c.Limiter = newLimiter(t, nil) }})
	pages, err := fallback.New(h.engine, nil)
	require.NoError(t, err)
	mux := h.handler.(*http.ServeMux)
	mux.Handle(fallback.Path, pages)
	validity, err := uia.ValidityHandler(h.engine, h.store, nil)
	require.NoError(t, err)
	mux.Handle(uia.ValidityPath, validity)
	return h
}

// browse opens the token stage's page of a session with form nil, or submits it.
func (h *homeserver) browse(session string, form url.Values) *httptest.ResponseRecorder {
	h.t.Helper()
	path := strings.Replace(fallback.Path, "{type}", uia.TokenType, 1) + "?session=" + url.QueryEscape(session)
	r := httptest.NewRequest("GET", path, nil)
	if form != nil {
		r = httptest.NewRequest("POST", path, strings.NewReader(form.Encode()))
	}
	w := httptest.NewRecorder()
	h.handler.ServeHTTP(w, r)
	return w
}

func TestOneFailureBudget(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("split ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				h := guessable(t)
				h.token("right", 100)
				session := h.post(map[string]any{"username": "alice"}).session()
				guess := []func(token string) int{
					func(token string) int {
						return h.post(map[string]any{"auth": map[string]any{"type": uia.TokenType, "token": token, "session": session}}).Status
					},
					func(token string) int {
						return h.browse(session, url.Values{"token": {token}}).Code
					},
					func(token string) int {
						r := httptest.NewRequest("GET", uia.ValidityPath+"?token="+token, nil)
						w := httptest.NewRecorder()
						h.handler.ServeHTTP(w, r)
						return w.Code
					},
				}
				wrong := []int{401, 401, 200}
				for i := range 60 {
					which := random.IntN(3)
					if seed < 3 {
						which = int(seed) // all of them in one place
					}
					assert.Equal(t, wrong[which], guess[which](fmt.Sprint("wrong", i)))
				}
				for which := range guess {
					assert.Equal(t, 429, guess[which]("wrong"))
					assert.Equal(t, 429, guess[which]("right"), "not even the right one is looked at")
				}
				w := h.browse(session, url.Values{"token": {"kept"}})
				assert.Equal(t, "10", w.Header().Get("Retry-After"))
				assert.Contains(t, w.Body.String(), "Please wait 10 seconds")
				assert.Contains(t, w.Body.String(), `value="kept"`)
				assert.Equal(t, 200, h.browse(session, nil).Code, "looking at the page is no guess")
				wait(t, 10*time.Second)
				assert.Equal(t, 200, guess[1]("right"))
			})
		})
	}
}
