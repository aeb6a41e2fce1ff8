package uiatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxAnswer is how much of an answer is read.
const maxAnswer = 1 << 20

// message is a request to the homeserver.
type message struct {
	method, path string
	header       http.Header
	body         []byte
}

// answer is what came back.
type answer struct {
	path    string // that was asked for
	status  int
	header  http.Header
	body    []byte
	json    any // the body, if jsonErr is nil
	jsonErr error
}

// readAnswer reads an answer of at most maxAnswer bytes.
func readAnswer(m *message, r *http.Response) (*answer, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s %s: reading the answer: %w", m.method, shorten(m.path, 200), err)
	}
	a := &answer{path: m.path, status: r.StatusCode, header: r.Header, body: body}
	if len(body) > maxAnswer {
		a.body = body[:maxAnswer]
		return a, fmt.Errorf("%s %s: the answer is longer than %d bytes", m.method, shorten(m.path, 200), maxAnswer)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if a.jsonErr = decoder.Decode(&a.json); a.jsonErr == nil {
		if _, err := decoder.Token(); err != io.EOF {
			a.jsonErr = fmt.Errorf("something follows the JSON value")
		}
	}
	return a, nil
}

// retryAfter is how long an answer with status 429 asks to wait: a second if it
// does not say.
func (a *answer) retryAfter() time.Duration {
	wait := time.Second
	if object, ok := a.json.(map[string]any); ok {
		if ms, ok := object["retry_after_ms"].(json.Number); ok {
			if n, err := ms.Int64(); err == nil && n >= 0 {
				return time.Duration(min(n, 1<<40)) * time.Millisecond
			}
		}
	}
	if n, err := strconv.ParseInt(a.header.Get("Retry-After"), 10, 32); err == nil && n >= 0 {
		wait = time.Duration(n) * time.Second
	}
	return wait
}

// Exchange is a request and its answer, as a person reads them.
type Exchange struct {
	Request string `json:"request"`
	Answer  string `json:"answer"`
	// Failed says that this answer is not as expected.
	Failed bool `json:"failed,omitempty"`
}

// newExchange writes a request and its answer down.
func newExchange(m *message, a *answer, err error) Exchange {
	var x Exchange
	x.Request = written(m.method+" "+shorten(m.path, 500), m.header, m.body)
	switch {
	case a != nil:
		x.Answer = written(fmt.Sprint(a.status, " ", http.StatusText(a.status)), a.header, a.body)
		if err != nil {
			x.Answer += "\n" + err.Error()
		}
	case err != nil:
		x.Answer = "no answer: " + err.Error()
	}
	return x
}

func written(first string, header http.Header, body []byte) string {
	var b strings.Builder
	b.WriteString(first)
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "\n%s: %s", name, shorten(strings.Join(header[name], ", "), 300))
	}
	if len(body) > 0 {
		fmt.Fprintf(&b, "\n\n%s", legible(body))
	}
	return b.String()
}

// legible returns a body for a person to read: text is shortened, and for anything else
// it says how many bytes there are.
func legible(body []byte) string {
	head := body[:min(len(body), 2000)]
	strange := 0
	for _, c := range string(head) {
		if c == utf8.RuneError || c < ' ' && c != '\n' && c != '\t' && c != '\r' {
			strange++
		}
	}
	if strange > 1 && strange*20 > len(head) {
		return fmt.Sprintf("(%d bytes that are no text, beginning with %x)", len(body), body[:min(len(body), 16)])
	}
	return shorten(string(body), 2000)
}

// shorten cuts s, and says how long it was.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", strings.ToValidUTF8(s[:n], ""), len(s))
}

// encode writes a value as JSON, without escaping what HTML would need.
func encode(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return fmt.Append(nil, v)
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
