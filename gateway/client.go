package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/internal/ask"
)

const (
	// maxAnswer bounds what is read of an upstream's answer.
	maxAnswer = 1 << 20
	// defaultTimeout is how long an upstream may take. It is shorter than a run.
	defaultTimeout = 10 * time.Second
)

// Client talks to the upstream on the gateway's own behalf. It is safe for
// concurrent use.
type Client struct {
	// URL is where the upstream is reached, with no slash at the end. Required.
	URL string
	// Transport sends the requests. Nil means one that uses no proxy of the
	// environment. Redirects are never followed.
	Transport http.RoundTripper
	// Timeout bounds one request. Zero means 10 seconds. It should be well below the
	// time that a run of the registration has, so that its end is known in time.
	Timeout time.Duration
}

// answerError is an answer of the upstream that is no success.
type answerError struct {
	Status     int
	Code       spec.MatrixErrorCode `json:"errcode"`
	Message    string               `json:"error"`
	RetryAfter float64              `json:"retry_after_ms"`
	Session    string               `json:"session"`
	Completed  []string             `json:"completed"`
	Flows      []offeredFlow        `json:"flows"`
}

// offeredFlow is a flow that the upstream offers.
type offeredFlow struct {
	Stages []string `json:"stages"`
}

// Error says what the upstream answered. It never has what was sent.
func (e *answerError) Error() string {
	return fmt.Sprintf("the upstream answers %d %s: %.200q", e.Status, e.Code, e.Message)
}

// call is one request to the upstream.
type call struct {
	method, path string
	token        string     // the access token; "" for none
	client       netip.Addr // on whose behalf
	body         any        // nil for none
}

// do sends a request and decodes a successful answer into the last argument, which
// may be nil. The error is an *answerError if the upstream answered in Matrix JSON,
// or with a status of 4xx in whatever form.
func (c *Client) do(ctx context.Context, k call, into any) error {
	timeout := c.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := k.request(ctx, c.URL)
	if err != nil {
		return err
	}
	res, err := ask.Do(c.Transport, r, maxAnswer)
	switch {
	case err != nil:
		return fmt.Errorf("gateway: %w", err)
	case res.Status < 200 || res.Status > 299:
		refusal := &answerError{}
		_ = json.Unmarshal(res.Body, refusal) // no JSON: there is no errcode then
		refusal.Status = res.Status
		if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && refusal.RetryAfter == 0 {
			refusal.RetryAfter = float64(seconds) * 1000
		}
		return refusal
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(res.Body, into); err != nil {
		return fmt.Errorf("gateway: the answer to %s %s is not what it should be: %w", k.method, withoutQuery(k.path), err)
	}
	return nil
}

func (k call) request(ctx context.Context, base string) (*http.Request, error) {
	var body io.Reader
	if k.body != nil {
		encoded, err := json.Marshal(k.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, k.method, strings.TrimSuffix(base, "/")+k.path, body)
	if err != nil {
		return nil, err
	}
	if k.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if k.client.IsValid() {
		r.Header.Set("X-Forwarded-For", k.client.Unmap().WithZone("").String())
	}
	if k.token != "" {
		r.Header.Set("Authorization", "Bearer "+k.token)
	}
	return r, nil
}

func withoutQuery(path string) string {
	before, _, _ := strings.Cut(path, "?")
	return before
}

// status returns the status of an upstream's answer, 0 if err is none.
func status(err error) int {
	if e, ok := errors.AsType[*answerError](err); ok {
		return e.Status
	}
	return 0
}

// code returns the errcode of an upstream's answer, "" if err is none.
func code(err error) spec.MatrixErrorCode {
	if e, ok := errors.AsType[*answerError](err); ok {
		return e.Code
	}
	return ""
}

// told are the refusals that a client gets in the words of the upstream.
var told = map[spec.MatrixErrorCode]bool{
	spec.ErrorUserInUse: true, spec.ErrorInvalidUsername: true, spec.ErrorExclusive: true, spec.ErrorWeakPassword: true,
	"M_PASSWORD_TOO_SHORT": true, "M_PASSWORD_NO_DIGIT": true, "M_PASSWORD_NO_UPPERCASE": true,
	"M_PASSWORD_NO_LOWERCASE": true, "M_PASSWORD_NO_SYMBOL": true, "M_PASSWORD_IN_DICTIONARY": true,
}

// refusal makes an *uia.Error of an answer by which the upstream says that it has
// done nothing: of 400 to 499, in Matrix JSON. Any other error is returned as it is.
func refusal(err error) error {
	e, ok := errors.AsType[*answerError](err)
	switch {
	case !ok || e.Status < 400 || e.Status > 499 || e.Code == "":
		return err
	case e.Status == http.StatusTooManyRequests:
		return busy(e)
	case told[e.Code]:
		return &uia.Error{Status: http.StatusBadRequest, MatrixError: spec.MatrixError{ErrCode: e.Code, Err: e.Message}, Cause: err}
	}
	return unavailable("The homeserver refuses to make accounts. Please tell its administrator.", err)
}

// nameRefusal is refusal for what an upstream says of a name: whatever it dislikes in
// it, the client can choose another.
func nameRefusal(err error) error {
	if status(err) == http.StatusBadRequest && !told[code(err)] {
		return &uia.Error{
			Status: http.StatusBadRequest, Cause: err,
			MatrixError: spec.InvalidUsername("This homeserver has no room for this username."),
		}
	}
	return refusal(err)
}

// busy is the answer for a client when a limit of the upstream is reached.
func busy(e *answerError) error {
	wait := time.Duration(e.RetryAfter) * time.Millisecond
	return &uia.Error{
		Status:      http.StatusTooManyRequests,
		MatrixError: spec.MatrixError{ErrCode: spec.ErrorLimitExceeded, Err: "The homeserver is busy. Please try again in a moment."},
		RetryAfter:  min(max(wait, time.Second), time.Hour),
		Cause:       e,
	}
}

// unavailable is the answer for a client when the upstream is at fault.
func unavailable(message string, cause error) error {
	return &uia.Error{Status: http.StatusBadGateway, MatrixError: spec.Unknown(message), Cause: cause}
}

// available asks whether a user can be called so.
func (c *Client) available(ctx context.Context, localpart string) error {
	return c.do(ctx, call{
		method: http.MethodGet,
		path:   "/_matrix/client/v3/register/available?username=" + url.QueryEscape(localpart),
		client: clientOf(ctx),
	}, nil)
}

// exists asks whether there is a user of this ID, by its profile.
func (c *Client) exists(ctx context.Context, userID string) (bool, error) {
	err := c.do(ctx, call{method: http.MethodGet, path: "/_matrix/client/v3/profile/" + url.PathEscape(userID)}, nil)
	if status(err) == http.StatusNotFound && code(err) != spec.ErrorUnrecognized {
		return false, nil
	}
	return err == nil, err
}

// clientKey is the context key of the address of who sent the request.
type clientKey struct{}

// clientOf returns the address of who sent the request that ctx belongs to.
func clientOf(ctx context.Context) netip.Addr {
	addr, _ := ctx.Value(clientKey{}).(netip.Addr)
	return addr
}
