package uiatest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// recording is what a homeserver in the field was seen to answer to the requests of
// a case, brought down to what matters, and what becomes of the case.
type recording struct {
	Case    string
	Outcome Outcome
	Why     string
	Problem string // part of what is said if it fails
	Flows   [][]string
	Answers []*recorded
}

// recorded is one answer.
type recorded struct {
	To      string // the request: the method, the path and the query; * is anything
	Has     any    // a matcher for the body
	Status  int
	Headers map[string]string
	JSON    any
	Text    string

	used bool
}

// replay answers as was recorded: each request gets the first answer that is for it
// and has not been given yet, or else the last one that is.
type replay struct {
	closed  bool
	mu      sync.Mutex
	answers []*recorded // nil until the case begins
}

func (p *replay) begin(answers []*recorded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answers = answers
}

var placeholder = regexp.MustCompile(`\$\{([a-z_.]+)\}`)

func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var sent any
	_ = json.Unmarshal(raw, &sent)
	found := p.find(r.Method+" "+r.URL.RequestURI(), sent)
	body := []byte(found.Text)
	if found.JSON != nil {
		body = placeholder.ReplaceAllFunc(encode(found.JSON), func(ref []byte) []byte {
			return fmt.Append(nil, dig(sent, string(ref[2:len(ref)-1])))
		})
		w.Header().Set("Content-Type", "application/json")
	}
	for name, value := range found.Headers {
		w.Header().Set(name, value)
	}
	w.WriteHeader(found.Status)
	_, _ = w.Write(body)
}

func (p *replay) find(request string, sent any) *recorded {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.answers != nil:
	case strings.HasPrefix(request, "GET "+adminPath):
		return &recorded{Status: http.StatusOK, JSON: json.RawMessage(`{"registration_tokens":[]}`)}
	case p.closed:
		return &recorded{Status: http.StatusForbidden, JSON: json.RawMessage(`{"errcode":"M_FORBIDDEN","error":"closed"}`)}
	default:
		return &recorded{Status: http.StatusUnauthorized, JSON: json.RawMessage(challenge)}
	}
	last := &recorded{Status: http.StatusNotImplemented, JSON: map[string]any{"errcode": "M_UNRECOGNIZED", "error": "not recorded: " + request}}
	for _, a := range p.answers {
		start, wild := strings.CutSuffix(a.To, "*")
		if request != start && !(wild && strings.HasPrefix(request, start)) || a.Has != nil && len(match("", a.Has, sent)) > 0 {
			continue
		}
		last = a
		if !a.used {
			break
		}
	}
	last.used = true
	return last
}

// What other homeservers answer is judged as it should be: who was accused wrongly is
// not accused any more, and who was accused rightly still is.
func TestRecorded(t *testing.T) {
	raw, err := os.ReadFile("testdata/recorded.json")
	require.NoError(t, err)
	var file struct{ Recordings []recording }
	require.NoError(t, json.Unmarshal(raw, &file))
	for i, rec := range file.Recordings {
		t.Run(fmt.Sprint(rec.Case, "-", i), func(t *testing.T) {
			cases := Cases()
			at := slices.IndexFunc(cases, func(c Case) bool { return c.Name == rec.Case })
			require.GreaterOrEqual(t, at, 0, "there is no such case")
			server := &replay{closed: cases[at].needs("closed")}
			flows := rec.Flows
			if flows == nil {
				flows = [][]string{{typeToken, typeDummy}}
			}
			r, err := newRunner(t.Context(), Server{Handler: server, Flows: flows, NewToken: given, AdminToken: "admin token", Closed: server.closed}, &Options{})
			require.NoError(t, err)
			defer r.close()
			require.Empty(t, r.missing(t.Context(), &cases[at]))
			server.begin(rec.Answers)
			report := r.run(t.Context(), &cases[at])
			require.Equal(t, rec.Outcome, report.Outcome, "%s: %s %s", rec.Why, report.Reason, report.Explain())
			require.Contains(t, strings.Join(report.Problems, "; "), rec.Problem)
			require.False(t, rec.Outcome == Failed && rec.Problem == "", "a recording of a failure says how")
		})
	}
}
