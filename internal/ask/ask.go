// Package ask sends requests to the services that a process of ours depends on, and
// expects little of them: no redirect is followed, an answer ends somewhere, and no error
// repeats what was sent.
package ask

import (
	"fmt"
	"io"
	"net/http"
)

// Transport is for services that are configured: it uses no proxy of the environment,
// and keeps connections.
var Transport = func() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxIdleConnsPerHost = 32
	return t
}()

// Answer is an answer that was read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request through a transport, nil meaning [Transport], and reads at most
// limit bytes of the answer; a longer one is an error. The request's context bounds all of
// it.
func Do(transport http.RoundTripper, r *http.Request, limit int64) (Answer, error) {
	if transport == nil {
		transport = Transport
	}
	res, err := transport.RoundTrip(r)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("the answer to %s %s: %w", r.Method, r.URL.Path, err)
	case int64(len(body)) > limit:
		return Answer{}, fmt.Errorf("the answer to %s %s is too large", r.Method, r.URL.Path)
	}
	return Answer{res.StatusCode, res.Header, body}, nil
}
