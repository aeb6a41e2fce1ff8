package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/matrix-uia/uia/uiatest"
)

// shapes are bodies that a report has to cope with.
var shapes = map[string]string{
	"nothing":        "",
	"HTML":           "<!DOCTYPE html>\n<html>\n<head><title>It works!</title></head>\n" + strings.Repeat("<p>\n\t<b>A page</b> of many lines\n</p>\n", 500) + "</html>",
	"binary":         strings.Repeat("\x00\x01\xfe\xff\x89PNG\r\n\x1a\n", 300),
	"a long line":    `{"errcode":"` + strings.Repeat("x", 90_000) + `"}`,
	"deep":           strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000),
	"for a terminal": "{\"errcode\":\"\x1b]0;owned\x07\x1b[31m\u009b31m\u202e\u2028" + strings.Repeat("and text ", 40) + "\"}",
	"for a browser":  `{"errcode":"</pre><script>alert(1)</script>]]>"}`,
	"no UTF-8":       "{\"errcode\":\"\xff\xfe\"}",
	"many members":   "{" + strings.Repeat(`"a":1,`, 20_000) + `"b":{}}`,
	"two values":     `{} {}`,
	"secrets":        `{"access_token":"syt_of_somebody","errcode":"it-is-s3cret and opener-token","error":"it-is-s3cret"}`,
}

// misshapen opens sessions, and answers everything else with a body.
func misshapen(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		sent, _ := io.ReadAll(r.Body)
		if string(sent) == "{}" && strings.HasSuffix(r.URL.Path, "/register") {
			homeserver(w, r)
			return
		}
		w.Header()["Content-Type"] = nil
		fmt.Fprint(w, body)
	}
}

// Whatever a homeserver answers, a report is what it has to be: a failure has at most 30
// lines, none of them obeyed by a terminal, and no report tells a secret.
func TestShapes(t *testing.T) {
	for name, body := range shapes {
		t.Run(name, func(t *testing.T) {
			server := uiatest.Server{Handler: misshapen(body), Tokens: slices.Repeat([]string{"opener-token"}, 30)}
			reports, err := uiatest.Run(t.Context(), server, &uiatest.Options{Match: regexp.MustCompile("^(available/|input/what-is|uia/(sessions|a-poll|no-|all-))")})
			require.NoError(t, err)
			report := func(write func(io.Writer, *result) error) string {
				var out strings.Builder
				require.NoError(t, write(&out, &result{URL: "http://127.0.0.1:8008", Reports: reports}))
				require.NotContains(t, out.String(), "opener-token")
				require.NotContains(t, out.String(), "syt_of_somebody")
				return out.String()
			}
			text := report(writeText)
			require.NotRegexp(t, `[\x00-\x08\x0b-\x1f\x7f\x{80}-\x{9f}\x{202e}\x{2028}]`, text)
			require.Less(t, len(text), 1<<20)
			failures := regexp.MustCompile(`(?m)^[a-z]+/\S+ \((must|should|client)\)$`).Split(text, -1)
			require.Greater(t, len(failures), 10)
			for _, failure := range failures[1:] {
				failure, _, _ = strings.Cut(failure, "\n\n")
				require.LessOrEqual(t, strings.Count(failure, "\n"), 29, failure)
				require.Contains(t, failure, ">>> answer")
			}
			require.Equal(t, 2, strings.Count(text, "\ntotal "), "a summary at both ends")

			var whole struct{ Cases []uiatest.Report }
			require.NoError(t, json.Unmarshal([]byte(report(writeJSON)), &whole))
			for _, r := range whole.Cases {
				marked := 0
				for _, x := range r.Exchanges {
					if x.Failed {
						marked++
					}
				}
				require.Equal(t, r.Outcome == uiatest.Failed, marked > 0, r.Name)
			}

			require.NoError(t, xml.Unmarshal([]byte(report(writeJUnit)), new(struct{})))

			page := report(writeHTML)
			require.NotContains(t, page, "<script")
			require.NotContains(t, page, "src=")
			require.NotContains(t, page, "http-equiv")
			require.Regexp(t, `(?s)^<!DOCTYPE html>.*</html>\s*$`, page)
		})
	}
}

// An answer of 100 MB is no answer, wherever it comes.
func TestHuge(t *testing.T) {
	block := bytes.Repeat([]byte(" "), 1<<20)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/available") {
			for range 100 {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
			return
		}
		homeserver(w, r)
	})
	status, stdout, stderr := check(t, "-url", url, "-rate", "1000", "-strict", "-run", "^(available/an?-|uia/no-auth-is)")
	require.Equal(t, exitFailed, status, stderr)
	require.Contains(t, stdout, "the answer is longer than 1048576 bytes")
	require.Less(t, len(stdout), 1<<16)
	require.Contains(t, stdout, "uia             1      0")
}

// The address that is reported has no password in it.
func TestAddressWithPassword(t *testing.T) {
	url := strings.Replace(serve(t, homeserver), "http://", "http://user:hunter2@", 1)
	for _, format := range []string{"-strict", "-json", "-junit", "-html"} {
		_, stdout, stderr := check(t, "-url", url, "-run", firstLeg, format)
		require.NotContains(t, stdout+stderr, "hunter2")
	}
}
