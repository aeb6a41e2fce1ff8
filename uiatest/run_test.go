package uiatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"context"

	"github.com/stretchr/testify/require"
)

const challenge = `{"flows":[{"stages":["m.login.registration_token","m.login.dummy"]}],"params":{},"session":"s"}`

// answering is a homeserver that answers everything alike.
func answering(status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

// However a homeserver answers, the cases make at most 50 failed guesses, and those about
// limits as many as each way to guess has got, and one more.
func TestGuessesAreBounded(t *testing.T) {
	for name, body := range map[string]string{
		"every guess is wrong": strings.TrimSuffix(challenge, "}") + `,"errcode":"M_UNAUTHORIZED","error":"no","valid":false}`,
		"and forbidden":        `{"errcode":"M_FORBIDDEN","flows":[{"stages":["m.login.registration_token"]}],"session":"s"}`,
	} {
		for _, parallel := range []int{1, 8} {
			t.Run(fmt.Sprint(name, " ", parallel), func(t *testing.T) {
				var guesses, requests atomic.Int64
				count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					raw, _ := io.ReadAll(r.Body)
					var sent struct{ Auth struct{ Token any } }
					_ = json.Unmarshal(raw, &sent)
					requests.Add(1)
					if strings.Contains(r.URL.String(), "/validity?") || sent.Auth.Token != nil {
						guesses.Add(1)
					}
					answering(http.StatusUnauthorized, body).ServeHTTP(w, r)
				})
				const each = 7 // of two ways: there is no fallback page, and there are no passwords
				opts := &Options{Parallel: parallel, Shuffle: 7, Guesses: each}
				reports, err := Run(t.Context(), Server{Handler: count, NewToken: given}, opts)
				require.NoError(t, err)
				require.LessOrEqual(t, guesses.Load(), int64(MaxGuesses+2*each))
				require.Greater(t, guesses.Load(), int64(MaxGuesses-8+2*each), "they are made use of")
				require.Greater(t, requests.Load(), int64(200))
				used := 0
				for _, r := range reports {
					require.NotEmpty(t, r.Outcome)
					if strings.Contains(r.Reason, "guesses") {
						used++
					}
				}
				require.NotZero(t, used, "what could not be asked any more is not applicable")
			})
		}
	}
}

func given(_ context.Context, t NewToken) (string, error) { return t.Value, nil }

// A status of 429 is waited out, by all requests, for as long as it says.
func TestLimitsAreHonoured(t *testing.T) {
	for name, body := range map[string]string{"retry_after_ms": `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":30000}`, "Retry-After": `{}`} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var requests atomic.Int64
				begun := time.Now()
				server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if n := requests.Add(1); n > 2 && time.Since(begun) < 30*time.Second {
						w.Header().Set("Retry-After", "30")
						answering(http.StatusTooManyRequests, body).ServeHTTP(w, r)
						return
					}
					answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
				})
				opts := &Options{Parallel: 4, Match: regexp.MustCompile("^uia/(no-auth-is-401|params-is|session-is|flows-are|never-succeeds)")}
				reports, err := Run(t.Context(), Server{Handler: server}, opts)
				require.NoError(t, err)
				require.Len(t, reports, 5)
				for _, r := range reports {
					require.Equal(t, Passed, r.Outcome, "%s %v", r.Reason, r.Problems)
				}
				require.GreaterOrEqual(t, time.Since(begun), 30*time.Second)
				require.Less(t, time.Since(begun), 31*time.Second)
				require.LessOrEqual(t, requests.Load(), int64(3+5+4), "none is sent before the time")
			})
		})
	}
}

// A limit holds up the cases that it touches, and no others: not even where cases run one
// after the other, and the homeserver does not tell clients by their addresses.
func TestLimitsHoldUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		validity := 0
		server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case !strings.HasSuffix(r.URL.Path, "/validity"):
				answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
			case time.Since(begun) < time.Minute:
				validity++
				answering(http.StatusTooManyRequests, fmt.Sprintf(`{"retry_after_ms":%d}`, (time.Minute-time.Since(begun)).Milliseconds())).ServeHTTP(w, r)
			default:
				validity++
				answering(http.StatusOK, `{"valid":false}`).ServeHTTP(w, r)
			}
		})
		after := make(map[string]time.Duration)
		opts := &Options{
			Match:    regexp.MustCompile("^(validity/(an-unknown-token|valid-is-a-boolean|a-very-long-token)|input/what-is-no-object/.*)$"),
			Progress: func(_, _ int, r Report) { after[r.Area] = time.Since(begun) },
		}
		reports, err := Run(t.Context(), Server{Handler: server, NewToken: given}, opts)
		require.NoError(t, err)
		require.Greater(t, len(reports), 5)
		require.Less(t, after["input"], time.Second)
		require.GreaterOrEqual(t, after["validity"], time.Minute)
		require.Less(t, after["validity"], 61*time.Second)
		require.LessOrEqual(t, validity, 6, "who has to wait does not ask again before the time")
	})
}

// Nor is anything else held up while it is found out what the homeserver offers, neither
// by the one who asks nor by those who wait for the answer.
func TestAskingHoldsUpNothingElse(t *testing.T) {
	for name, method := range map[string]string{"a case of offers": http.MethodDelete, "a probe": http.MethodPut} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == method && strings.Contains(r.URL.Path, "/devices/") && time.Since(begun) < time.Minute {
						answering(http.StatusTooManyRequests, fmt.Sprintf(`{"retry_after_ms":%d}`, (time.Minute-time.Since(begun)).Milliseconds())).ServeHTTP(w, r)
						return
					}
					answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
				})
				after := make(map[string]time.Duration)
				opts := &Options{
					Match:    regexp.MustCompile("^(devices/(a-device-is-renamed|an-unknown-device-has-no-name)|input/what-is-no-object/.*)$"),
					Progress: func(_, _ int, r Report) { after[r.Area] = time.Since(begun) },
				}
				_, err := Run(t.Context(), Server{Handler: server, NewToken: given}, opts)
				require.NoError(t, err)
				require.Less(t, after["input"], time.Second)
				require.GreaterOrEqual(t, after["devices"], time.Minute)
			})
		})
	}
}

// Each case is a client with an address of its own, on the loopback interface too, where
// the system has more of it than one address.
func TestCasesHaveAddresses(t *testing.T) {
	var mu sync.Mutex
	addresses := make(map[string]bool)
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		addresses[netip.MustParseAddrPort(r.RemoteAddr).Addr().String()] = true
		mu.Unlock()
		answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
	})
	listening := httptest.NewServer(count)
	defer listening.Close()
	for name, server := range map[string]Server{"URL": {URL: listening.URL}, "Handler": {Handler: count}} {
		clear(addresses)
		reports, err := Run(t.Context(), server, &Options{Rate: 1000, Match: regexp.MustCompile("^input/")})
		require.NoError(t, err)
		sent := 2 // before the cases, and to ask for what the homeserver offers
		for _, r := range reports {
			if r.Outcome != NotApplicable {
				sent++
			}
		}
		require.Greater(t, sent, 20)
		if name == "Handler" || runtime.GOOS == "linux" {
			require.Len(t, addresses, sent, name)
		} else {
			require.NotEmpty(t, addresses)
		}
	}
}

// guessing is a homeserver on which all that is guessed is wrong. Limit decides about a
// guess, by the way it is made and how many came before it, in that way and in all.
func guessing(limit func(way string, nth, all int) bool) http.Handler {
	var mu sync.Mutex
	count := make(map[string]int)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		way := "stage"
		switch {
		case strings.Contains(r.URL.Path, "/validity"):
			way = "validity"
		case strings.Contains(r.URL.Path, "/fallback"):
			way = "fallback"
			if r.Method == http.MethodGet {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, `<form method="post"><input name="token"></form>`)
				return
			}
		case !strings.Contains(string(raw), `"token"`):
			answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if limit(way, count[way], count["all"]) {
			answering(http.StatusTooManyRequests, `{"errcode":"M_LIMIT_EXCEEDED","error":"slowly","retry_after_ms":10000}`).ServeHTTP(w, r)
			return
		}
		count[way]++
		count["all"]++
		answering(http.StatusUnauthorized, `{"errcode":"M_UNAUTHORIZED","error":"wrong"}`).ServeHTTP(w, r)
	})
}

// A way to guess without a limit fails, and leaves the others their guesses. A limit
// that all ways have in common is found, whichever of them reaches it.
func TestLimitsAreFound(t *testing.T) {
	three := []string{"limits/validity-is-limited", "limits/the-stage-is-limited", "limits/the-fallback-page-is-limited"}
	for name, test := range map[string]struct {
		limit  func(way string, nth, all int) bool
		failed []string
	}{
		"none":                        {func(string, int, int) bool { return false }, three},
		"each has its own":            {func(_ string, nth, _ int) bool { return nth == 20 }, nil},
		"all have one":                {func(_ string, _, all int) bool { return all >= 60 }, nil},
		"one of more than is guessed": {func(_ string, _, all int) bool { return all >= 200 }, three},
		"not at the stage":            {func(way string, nth, _ int) bool { return way != "stage" && nth == 5 }, three[1:2]},
		"at the stage alone":          {func(way string, nth, _ int) bool { return way == "stage" && nth == 49 }, []string{three[0], three[2]}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				opts := &Options{Match: regexp.MustCompile("^(" + strings.Join(three, "|") + ")$")}
				reports, err := Run(t.Context(), Server{Handler: guessing(test.limit), NewToken: given}, opts)
				require.NoError(t, err)
				require.Len(t, reports, 3)
				for _, r := range reports {
					if slices.Contains(test.failed, r.Name) {
						require.Equal(t, Failed, r.Outcome, r.Name)
						require.Equal(t, Should, r.Level)
						require.Contains(t, r.Problems[0], "no limit within 50 guesses")
					} else {
						require.Equal(t, Passed, r.Outcome, "%s: %s %v", r.Name, r.Reason, r.Problems)
					}
				}
			})
		})
	}
}

// Who waits for the answer of another case makes room, also if no limit is the reason.
func TestWaitingForAnAnswerHoldsUpNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		server := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				_ = sleep(r.Context(), 30*time.Second)
			}
			answering(http.StatusUnauthorized, challenge).ServeHTTP(w, r)
		})
		after := make(map[string]time.Duration)
		opts := &Options{
			Parallel: 2,
			Match:    regexp.MustCompile("^(devices/(a-device-is-renamed|an-unknown-device-has-no-name)|input/what-is-no-object/.*)$"),
			Progress: func(_, _ int, r Report) { after[r.Area] = time.Since(begun) },
		}
		_, err := Run(t.Context(), Server{Handler: server, NewToken: given}, opts)
		require.NoError(t, err)
		require.Less(t, after["input"], time.Second)
		require.GreaterOrEqual(t, after["devices"], 30*time.Second)
	})
}

// Progress is told after each case, how many have ended and of how many.
func TestProgressCounts(t *testing.T) {
	var told []string
	opts := &Options{Parallel: 4, Match: regexp.MustCompile("^(uia/no-auth-is-401|uia/params-is-an-object|limits/validity-is-limited)$")}
	opts.Progress = func(done, total int, r Report) {
		told = append(told, fmt.Sprintf("%d of %d", done, total))
		require.NotEmpty(t, r.Outcome)
	}
	_, err := Run(t.Context(), Server{Handler: answering(http.StatusUnauthorized, challenge)}, opts)
	require.NoError(t, err)
	require.Equal(t, []string{"1 of 3", "2 of 3", "3 of 3"}, told)
}

// Requests go out at the rate that is asked for, and races are not drawn out.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		opts := &Options{Rate: 2, Parallel: 8, Match: regexp.MustCompile("^(uia/no-auth-is-401|races/sessions-opened-at-once-differ)$")}
		_, err := Run(t.Context(), Server{Handler: answering(http.StatusUnauthorized, challenge)}, opts)
		require.NoError(t, err)
		require.GreaterOrEqual(t, time.Since(begun), 500*time.Millisecond)
		require.LessOrEqual(t, time.Since(begun), 5*time.Second)
	})
}

func TestNotApplicable(t *testing.T) {
	open := answering(http.StatusUnauthorized, challenge)
	for name, test := range map[string]struct {
		server Server
		run    string
		want   string
	}{
		"no tokens":      {Server{Handler: open}, "token/a-valid-token", "no way to make registration tokens"},
		"of another use": {Server{Handler: open, Tokens: []string{"a"}}, "token/a-limit-of-two", "the case needs another kind"},
		"no admin":       {Server{Handler: open}, "admin/the-list$", "there is no access token for it"},
		"lacks":          {Server{Handler: open, Lacks: []string{"available"}}, "available/a-free", "does not offer available"},
		"other flow":     {Server{Handler: open, Flows: [][]string{{typeToken}}, Tokens: []string{"a"}}, "uia/a-passed-stage", "the flow is m.login.registration_token, not"},
		"unknown flow":   {Server{Handler: open, Flows: [][]string{{"m.login.sso"}}}, "token/a-valid-token", "no flow of"},
		"open":           {Server{Handler: open}, "closed/register-is-403", "registration is open"},
		"closed":         {Server{Handler: answering(http.StatusForbidden, `{"errcode":"M_FORBIDDEN"}`), Closed: true}, "uia/no-auth", "registration is closed"},
		"no limit":       {Server{Handler: open}, "limits/a-limit-says", "50 guesses have got none"},
		"no guests":      {Server{Handler: open}, "kinds/two-guests", "does not offer guests (accounts of guests): "},
		"no service":     {Server{Handler: open}, "kinds/an-exclusive-name", "no access token of one"},
		"no session":     {Server{Handler: answering(http.StatusUnauthorized, `{"flows":[]}`)}, "uia/a-poll-of-a-fresh", "does not offer session"},
		"no patience":    {Server{Handler: open, Tokens: []string{"a"}, Patience: time.Minute}, "uia/minutes-after-the-end", "it waits for 6m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			reports, err := Run(t.Context(), test.server, &Options{Match: regexp.MustCompile("^" + test.run)})
			require.NoError(t, err)
			require.Len(t, reports, 1)
			require.Equal(t, NotApplicable, reports[0].Outcome, reports[0].Problems)
			require.Contains(t, reports[0].Reason, test.want)
		})
	}
}

// A case that is about something that is not so is not applicable.
func TestGiven(t *testing.T) {
	r, err := newRunner(t.Context(), Server{Handler: answering(http.StatusUnauthorized, challenge)}, &Options{})
	require.NoError(t, err)
	defer r.close()
	report := r.run(t.Context(), &Case{Name: "x", steps: []step{
		{Request: "GET /", Expect: &expect{Status: statuses{401}}, Given: "who asks is refused"},
		{Request: "GET /", Expect: &expect{Status: statuses{200}}, Given: "who asks again is not"},
	}})
	require.Equal(t, NotApplicable, report.Outcome)
	require.Equal(t, "it is about a homeserver where who asks again is not: status 401, expected 200", report.Reason)
}

// A homeserver on which registration is closed is measured by the cases about that.
func TestClosed(t *testing.T) {
	server := Server{Handler: answering(http.StatusForbidden, `{"errcode":"M_FORBIDDEN"}`), Closed: true}
	reports, err := Run(t.Context(), server, &Options{Match: regexp.MustCompile("^closed/"), Levels: []Level{Should}})
	require.NoError(t, err)
	require.Len(t, reports, 3)
	for _, r := range reports {
		require.Equal(t, Passed, r.Outcome, "%v", r.Problems)
	}
}

func TestHandlers(t *testing.T) {
	panics := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a mistake") })
	_, err := Run(t.Context(), Server{Handler: panics}, nil)
	require.ErrorContains(t, err, "the handler panicked: a mistake")

	endless := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 1<<16))
		}
	})
	_, err = Run(t.Context(), Server{Handler: endless}, nil)
	require.ErrorContains(t, err, "the answer is longer")

	synctest.Test(t, func(t *testing.T) {
		hangs := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		_, err := Run(t.Context(), Server{Handler: hangs}, nil)
		require.ErrorContains(t, err, "no answer within 45s")
	})

	for _, wrong := range []Server{{}, {Handler: panics, URL: "http://x"}, {URL: "x"}, {Handler: panics, Lacks: []string{"x"}}} {
		_, err := Run(t.Context(), wrong, nil)
		require.Error(t, err)
	}
}
