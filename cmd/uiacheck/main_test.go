package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/uiatest"
)

// check runs uiacheck and returns its exit status, and what it writes.
func check(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, &out, &errs, false)
	return status, out.String(), errs.String()
}

// serve listens until the test ends.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// homeserver answers the first leg of a registration, and nothing else.
func homeserver(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"flows":[{"stages":["m.login.registration_token"]}],"params":{},"session":"s"}`)
}

// administered is the same with an administration, that knows one access token.
func administered(w http.ResponseWriter, r *http.Request) {
	switch {
	case !strings.HasPrefix(r.URL.Path, "/_synapse/"):
		homeserver(w, r)
	case r.Header.Get("Authorization") != "Bearer s3cret":
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errcode":"M_UNKNOWN_TOKEN","error":"Invalid access token passed."}`)
	default:
		fmt.Fprint(w, `{"registration_tokens":[]}`)
	}
}

const firstLeg = "^uia/no-auth-is-401$"

// A homeserver that cannot be measured is a clear error and exit status 2, within
// the time that there is.
func TestBroken(t *testing.T) {
	down, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, down.Close())

	for name, test := range map[string]struct {
		url  string
		want string
	}{
		"down":      {"http://" + down.Addr().String(), "refused"},
		"no scheme": {"127.0.0.1:8008", "is not the address of a homeserver"},
		"HTML": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "<!DOCTYPE html><h1>It works!</h1>")
		}), `this is not a homeserver: POST /_matrix/client/v3/register is answered with 200, and not with a JSON object but with text/html; charset=utf-8 "<!DOCTYPE html>`},
		"JSON, but no object": {serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `[]`) }), "this is not a homeserver"},
		"no register": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"errcode":"M_UNRECOGNIZED"}`)
		}), "is answered with 404"},
		"hangs": {serve(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}), "it took longer than 2s"},
		"hangs in the body": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, `{"flows":`)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}), "it took longer than 2s"},
		"resets connections": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		}), "no answer: Post"},
		"sends 100 MB": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			block := bytes.Repeat([]byte(" "), 1<<20)
			for range 100 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}), "the answer is longer than 1048576 bytes"},
		"always limits": {serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"errcode":"M_LIMIT_EXCEEDED","retry_after_ms":3600000}`)
		}), "the homeserver asks to wait for 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			status, stdout, stderr := check(t, "-url", test.url, "-timeout", "2s")
			require.Equal(t, exitBroken, status, "%s%s", stdout, stderr)
			require.Contains(t, stderr, test.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			require.Empty(t, stdout)
			require.Less(t, time.Since(begun), 10*time.Second)
		})
	}
}

// What has to be mended is one line that says what, and exit status 2, before any case
// has been run.
func TestMend(t *testing.T) {
	open := serve(t, administered)
	closed := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"errcode":"M_FORBIDDEN","error":"Registration has been disabled"}`)
	})
	dummy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/_synapse/") {
			administered(w, r)
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"flows":[{"stages":["m.login.dummy"]}],"session":"s"}`)
	})
	policy := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var sent struct{ Password string }
		if body, _ := io.ReadAll(r.Body); json.Unmarshal(body, &sent) == nil && sent.Password != "" && !strings.Contains(sent.Password, "§") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"errcode":"M_PASSWORD_NO_SYMBOL","error":"A paragraph sign is missing"}`)
			return
		}
		homeserver(w, r)
	})
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"a mistyped admin token": {[]string{"-url", open, "-admin-token", "s3cert"},
			`-admin-token: the homeserver does not take it for an administrator's: GET /_synapse/admin/v1/registration_tokens is answered with 401 {"errcode":"M_UNKNOWN_TOKEN"`},
		"closed":         {[]string{"-url", closed}, `-closed: registration is closed: POST /_matrix/client/v3/register is answered with 403 {"errcode":"M_FORBIDDEN"`},
		"not closed":     {[]string{"-url", open, "-closed"}, "-closed: registration is not closed"},
		"no token stage": {[]string{"-url", dummy, "-tokens", "a,b"}, `registration: registration has the flows [["m.login.dummy"]]`},
		"a policy":       {[]string{"-url", policy}, `-password: the homeserver's policy refuses the password of the accounts: 400 {"errcode":"M_PASSWORD_NO_SYMBOL","error":"A paragraph`},
		"few tokens":     {[]string{"-url", open, "-tokens", "a,b"}, "-tokens: 2 registration tokens were given, and the cases take "},
		"no feature":     {[]string{"-url", open, "-lacks", "x"}, `-lacks: nothing is called "x"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, stdout, stderr := check(t, append(test.args, "-rate", "1000")...)
			require.Equal(t, exitBroken, status, "%s%s", stdout, stderr)
			require.Contains(t, stderr, "uiacheck: "+test.want)
			require.Equal(t, 1, strings.Count(stderr, "\n"), "one line: %s", stderr)
			require.Empty(t, stdout)
			require.NotContains(t, stderr, "s3cert")
		})
	}
	status, stdout, stderr := check(t, "-url", policy, "-password", "correct § horse", "-run", firstLeg)
	require.Equal(t, exitPassed, status, "%s%s", stdout, stderr)
	status, _, stderr = check(t, "-url", open, "-tokens", "first", "-run", "^uia/(no-auth-is-401|all-stages-make-the-account)$")
	require.Equal(t, exitFailed, status, "one is enough: %s", stderr)
}

// A policy that is applied at the end of a registration only is told in one line as well.
func TestLatePolicy(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), `"token"`) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"errcode":"M_WEAK_PASSWORD","error":"Too weak"}`)
			return
		}
		homeserver(w, r)
	})
	status, _, stderr := check(t, "-url", url, "-rate", "1000", "-tokens", "1st,2nd,3rd,4th,5th,6th", "-run", "^uia/(all-stages|a-second|the-last-stage)")
	require.Equal(t, exitBroken, status, stderr)
	require.Contains(t, stderr, "uiacheck: -password: ")
	require.Equal(t, 1, strings.Count(stderr, "\n"), stderr)
}

// What the homeserver does not offer at all is one failure, with the flag that leaves it
// out, and nothing that needs it is a failure.
func TestLacking(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/register") {
			homeserver(w, r)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}`)
	})
	args := []string{"-url", url, "-rate", "1000", "-strict", "-run", "^(offers|validity|available|admin|fallback|limits)/"}
	status, stdout, stderr := check(t, append(args, "-admin-token", "s3cret")...)
	require.Equal(t, exitFailed, status, stderr)
	for _, feature := range []string{"validity", "available", "fallback", "admin", "whoami", "login", "versions", "devices"} {
		require.Contains(t, stdout, "\noffers/"+feature+" (")
	}
	require.Contains(t, stdout, "the homeserver does not offer validity, as offers/validity says; -lacks validity leaves it out")
	require.Contains(t, stdout, "the homeserver does not offer admin, as offers/admin says; it is left out without an admin token")
	require.Regexp(t, `total +\d+ +9 +0 +8 +1 `, stdout, "and that the stage is not limited")

	_, stdout, _ = check(t, "-url", url, "-rate", "1000", "-run", "^validity/")
	require.Contains(t, stdout, "0 passed, 1 failed (0 must, 1 should, 0 client)", "it is told if validity was asked for alone")
	require.Contains(t, stdout, "\noffers/validity (should)")

	status, stdout, stderr = check(t, append(args, "-lacks", "validity,available,fallback,whoami,login,versions,devices")...)
	require.Equal(t, exitFailed, status, stderr)
	require.Regexp(t, `total +\d+ +1 +0 +1 +0 `, stdout, "that the stage is not limited")
}

// A homeserver that stops answering in the middle ends the run, and what was found
// until then is reported.
func TestDies(t *testing.T) {
	var requests atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) < 10 {
			homeserver(w, r)
			return
		}
		panic(http.ErrAbortHandler)
	})
	status, stdout, stderr := check(t, "-url", url, "-timeout", "1m", "-rate", "1000")
	require.Equal(t, exitBroken, status)
	require.Contains(t, stderr, "the homeserver has stopped answering")
	require.Contains(t, stdout, "the run has ended before")
	require.Less(t, requests.Load(), int64(15), "it is not asked on and on")
}

func TestStatus(t *testing.T) {
	right := serve(t, homeserver)
	status, stdout, _ := check(t, "-url", right, "-run", firstLeg)
	require.Equal(t, exitPassed, status, stdout)
	require.Contains(t, stdout, "1 passed, 0 failed")

	const sameSession = "^uia/(sessions-differ|no-auth-is-401)$" // a failure at the level should
	status, stdout, _ = check(t, "-url", right, "-run", sameSession)
	require.Equal(t, exitPassed, status, stdout)
	require.Contains(t, stdout, "\nuia/sessions-differ (should)\n")
	status, _, _ = check(t, "-url", right, "-run", sameSession, "-strict")
	require.Equal(t, exitFailed, status)
	status, _, _ = check(t, "-url", right, "-run", sameSession, "-strict", "-levels", "must,client")
	require.Equal(t, exitPassed, status)

	wrong := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{\"a\":\"\u009b31m\u007f\"}") })
	status, stdout, _ = check(t, "-url", wrong, "-run", firstLeg)
	require.Equal(t, exitFailed, status)
	for _, part := range []string{
		"\nuia/no-auth-is-401 (must)\n",
		"they must still give a 401 response to requests with no auth data", // the sentence
		"status 200, expected 401",                                          // the expectation
		"POST /_matrix/client/v3/register", "200 OK",                        // request and answer
	} {
		require.Contains(t, stdout, part)
	}
	require.NotContains(t, stdout, "\u009b", "a homeserver does not write to the terminal")

	status, _, stderr := check(t, "-url", right, "-run", "^admin/the-list$")
	require.Equal(t, exitBroken, status)
	require.Contains(t, stderr, "no case is applicable")
}

// Requests go to the given address and nowhere else.
func TestRedirect(t *testing.T) {
	var elsewhere atomic.Int64
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/matrix/_matrix/client/versions" {
			http.Redirect(w, r, other, http.StatusPermanentRedirect)
			return
		}
		homeserver(w, r)
	})
	status, stdout, _ := check(t, "-url", url+"/matrix/", "-run", "^register/old-versions", "-strict")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stdout, "status 308, expected 200")
	require.Zero(t, elsewhere.Load())
}

func TestFormats(t *testing.T) {
	url := serve(t, administered)
	_, stdout, _ := check(t, "-url", url, "-json", "-rate", "1000", "-admin-token", "s3cret", "-run", "uia/no-auth|uia/sessions-differ|closed/|admin/the-list")
	var report struct {
		URL           string
		Passed        int
		Failed        int
		NotApplicable int `json:"not_applicable"`
		Cases         []struct {
			Name, Level, Says, Outcome, Reason string
			Problems                           []string
			Exchanges                          []uiatest.Exchange
		}
	}
	require.NoError(t, json.Unmarshal([]byte(stdout), &report), stdout)
	require.Equal(t, url, report.URL)
	require.Equal(t, 2, report.Passed)
	require.Equal(t, len(report.Cases), report.Passed+report.Failed+report.NotApplicable)
	require.NotContains(t, stdout, "s3cret")

	_, stdout, _ = check(t, "-url", url, "-junit", "-rate", "1000", "-run", "uia/no-auth|uia/sessions-differ|closed/")
	var suites struct {
		Suites []junitSuite `xml:"testsuite"`
	}
	require.NoError(t, xml.Unmarshal([]byte(stdout), &suites), stdout)
	require.Len(t, suites.Suites, 2)
	require.Equal(t, 1, suites.Suites[0].Failures)
	require.Equal(t, 4, suites.Suites[1].Skipped)
	require.Contains(t, suites.Suites[0].Cases[1].Failure.Text, "stands on")
}

func TestList(t *testing.T) {
	status, stdout, _ := check(t, "-list")
	require.Equal(t, exitPassed, status)
	require.Greater(t, strings.Count(stdout, "\n"), 3*120)
	_, stdout, _ = check(t, "-list", "-run", "^uia/(no-auth-is-401|out-of-order-is-401|sessions-differ)$", "-levels", "must")
	require.Equal(t, 2*3, strings.Count(stdout, "\n"), stdout)
}

// The description is whole: the levels, the exit statuses, what a run does, every flag,
// and three examples that are right.
func TestHelp(t *testing.T) {
	status, stdout, stderr := check(t, "-h")
	require.Equal(t, exitPassed, status)
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "{")
	for _, part := range []string{
		"must", "should", "client", "  0  ", "  1  ", "  2  ", fmt.Sprintf("about %d accounts", uiatest.Accounts), "-password", "-closed", "-guesses", "-html",
	} {
		require.Contains(t, stdout, part)
	}
	require.Contains(t, stdout, fmt.Sprintf("take %d of one use each", uiatest.TokensFor(uiatest.Cases())))
	examples := regexp.MustCompile(`(?m)^  uiacheck (-.*)$`).FindAllStringSubmatch(stdout, -1)
	require.Len(t, examples, 3)
	for _, example := range examples {
		args := strings.Fields(strings.ReplaceAll(strings.TrimSuffix(example[1], " >report.html"), "'", ""))
		_, err := parseFlags(args, io.Discard)
		require.NoError(t, err, "%q", args)
	}
}

// The time that is left is told by how it went so far.
func TestTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		report := progress(&out, time.Now())
		<-time.After(20 * time.Second)
		report(10, 40, uiatest.Report{Case: uiatest.Case{Name: "uia/x"}, Outcome: uiatest.Failed})
		require.Equal(t, "\r\033[K10 of 40, 1 failed, about 1m0s left  uia/x", out.String())
	})
}

func TestProgress(t *testing.T) {
	var out, errs bytes.Buffer
	run(t.Context(), []string{"-url", serve(t, homeserver), "-run", "uia/no-auth|closed/"}, &out, &errs, true)
	require.Contains(t, errs.String(), "\r\033[K1 of 5, 0 failed, about 0s left  uia/no-auth-is-401")
	require.True(t, strings.HasSuffix(errs.String(), "\r\033[K"), "nothing of it is left")
}

func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cancel()
		<-r.Context().Done()
	})
	var out, errs bytes.Buffer
	require.Equal(t, exitBroken, run(ctx, []string{"-url", url}, &out, &errs, false))
	require.Contains(t, errs.String(), "canceled")
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{
		{}, {"-url", "http://x", "more"}, {"-url", "http://x", "-run", "("}, {"-url", "http://x", "-levels", "may"},
		{"-url", "http://x", "-json", "-junit"}, {"-url", "http://x", "-json", "-html"}, {"-url", "http://x", "-guesses", "0"}, {"-url", "http://x", "-rate", "0"}, {"-url", "http://x", "-timeout", "-1s"},
		{"-url", "http://x", "-run", "nothing is called so"}, {"-unknown"}, {"-url", "http://x", "-lacks", "everything"}, {"-url", "ftp://x"},
		{"-url", "http://x?a=b"},
	} {
		status, _, stderr := check(t, args...)
		require.Equal(t, exitBroken, status, "%q", args)
		require.Equal(t, 1, strings.Count(stderr, "\n"), "%q: %s", args, stderr)
	}
}
