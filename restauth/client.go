package restauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/ask"
	"github.com/matrix-uia/uia/register"
	"github.com/matrix-uia/uia/stages"
)

const (
	// maxAnswer bounds what is read of the service's answer.
	maxAnswer = 64 << 10
	// defaultTimeout is the default of ClientOptions.Timeout.
	defaultTimeout = 10 * time.Second
	// maxAsking bounds how many questions one Client has open at once.
	maxAsking = 64
)

// ClientOptions are the options of [NewClient]. A zero field means the default.
type ClientOptions struct {
	// Transport sends the requests. Nil means one that uses no proxy of the environment.
	Transport http.RoundTripper
	// Timeout bounds one question, the wait for its turn included. Zero means 10 seconds.
	Timeout time.Duration
}

// Client asks a service whose accounts are those of a homeserver. It is safe for
// concurrent use, and needs no closing.
type Client struct {
	url        string
	basic      *url.Userinfo // nil for none
	serverName string
	transport  http.RoundTripper
	timeout    time.Duration
	asking     chan struct{}
}

// NewClient returns a client of the service at a URL, to which [Path] is appended, for a
// homeserver whose user IDs end in serverName. A user and a password in the URL are the
// credentials of HTTP Basic authentication; the password is HandlerOptions.Secret. opts may
// be nil.
func NewClient(service, serverName string, opts *ClientOptions) (*Client, error) {
	var o ClientOptions
	if opts != nil {
		o = *opts
	}
	u, err := url.Parse(service)
	switch {
	case err != nil:
		return nil, errors.New("restauth: the service's URL cannot be read") // the error would repeat its password
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("restauth: %q is no URL of a service, such as http://127.0.0.1:8090", u.Redacted())
	case serverName == "":
		return nil, errors.New("restauth: the name of the homeserver is missing")
	case o.Timeout < 0:
		return nil, errors.New("restauth: ClientOptions.Timeout is negative")
	case o.Timeout == 0:
		o.Timeout = defaultTimeout
	}
	c := &Client{
		basic: u.User, serverName: serverName, transport: o.Transport, timeout: o.Timeout, asking: make(chan struct{}, maxAsking),
	}
	u.User = nil
	c.url = strings.TrimSuffix(u.String(), "/") + Path
	return c, nil
}

// Verify asks the service whether this is the password of the user whom the identifier
// names: [Verify], for a PasswordStage and for a login. The service is asked in the
// spelling that accounts have, lower case.
//
// If the service cannot be asked, or does not answer as it should, the error is an
// *uia.Error of status 503; if it refuses for a while, one of status 429. No redirect is
// followed, and no error repeats what was sent or answered.
func (c *Client) Verify(ctx context.Context, id stages.Identifier, password string) (string, error) {
	if id.User == "" {
		return "", stages.ErrUnknownAddress // the protocol knows users alone
	}
	asked, ok := c.userID(id.User)
	if !ok || !possible(password) {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	right, err := c.ask(ctx, asked, password)
	switch {
	case err != nil:
		return "", err
	case right:
		return asked, nil
	}
	return "", nil
}

// userID returns the user ID that somebody means who has typed it or its localpart.
func (c *Client) userID(typed string) (string, bool) {
	typed = register.CanonicalLocalpart(typed)
	if !strings.HasPrefix(typed, "@") {
		typed = userID(typed, c.serverName)
	} else if localpart, ok := localpartOf(typed, strings.ToLower(c.serverName)); ok {
		typed = userID(localpart, c.serverName)
	}
	_, ok := localpartOf(typed, c.serverName)
	return typed, ok
}

// ask sends a question.
func (c *Client) ask(ctx context.Context, user, password string) (bool, error) {
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return false, noAnswer(ctx.Err())
	}
	body, err := json.Marshal(map[string]any{"user": map[string]string{"id": user, "password": password}})
	if err != nil {
		return false, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	r.Header.Set("Content-Type", "application/json")
	if c.basic != nil {
		secret, _ := c.basic.Password()
		r.SetBasicAuth(c.basic.Username(), secret)
	}
	res, err := ask.Do(c.transport, r, maxAnswer)
	switch {
	case err != nil:
		return false, noAnswer(err)
	case res.Status == http.StatusTooManyRequests:
		return false, limited(res.Header)
	case res.Status != http.StatusOK:
		return false, noAnswer(fmt.Errorf("it answers with status %d", res.Status))
	}
	return readAnswer(res.Body, user)
}

// readAnswer reads whether the service says that the password is the user's.
func readAnswer(body []byte, asked string) (bool, error) {
	var a answerIn
	switch err := json.Unmarshal(body, &a); {
	case err != nil || a.Auth == nil || a.Auth.Success == nil:
		return false, noAnswer(errors.New("its answer is not one of check_credentials"))
	case !*a.Auth.Success:
		return false, nil
	case a.Auth.MXID != "" && !strings.EqualFold(a.Auth.MXID, asked):
		return false, noAnswer(errors.New("its answer is about another user"))
	}
	return true, nil
}

// noAnswer is the answer for a client when the service does not give one.
func noAnswer(cause error) error {
	return unavailable("The service that knows the accounts does not answer. Please try again in a moment.",
		fmt.Errorf("restauth: asking the service that knows the accounts: %w", cause))
}

// limited is the answer for a client when the service refuses to answer for a while.
func limited(h http.Header) error {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || seconds < 1 {
		seconds = 1
	}
	return &uia.Error{
		Status:      http.StatusTooManyRequests,
		MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "Too many wrong passwords. Please try again later."},
		RetryAfter:  min(time.Duration(seconds)*time.Second, time.Hour),
		Cause:       errors.New("restauth: the service that knows the accounts answers 429"),
	}
}
