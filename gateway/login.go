package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// loginAnswer is the 200 of a login, and of a registration.
type loginAnswer struct {
	UserID       string  `json:"user_id"`
	DeviceID     string  `json:"device_id"`
	AccessToken  string  `json:"access_token"`
	RefreshToken string  `json:"refresh_token"`
	ExpiresInMS  float64 `json:"expires_in_ms"`
}

func (a loginAnswer) login() *Login {
	return &Login{
		UserID: a.UserID, DeviceID: a.DeviceID, AccessToken: a.AccessToken, RefreshToken: a.RefreshToken,
		ExpiresIn: time.Duration(a.ExpiresInMS) * time.Millisecond,
	}
}

// deviceParams adds to a request the parameters of the device to be logged in.
func (o Order) deviceParams(body map[string]any) map[string]any {
	if o.DeviceID == "" {
		return body
	}
	body["device_id"] = o.DeviceID
	if o.DeviceName != "" {
		body["initial_device_display_name"] = o.DeviceName
	}
	if o.RefreshToken {
		body["refresh_token"] = true
	}
	return body
}

// registerParams adds to a request that makes an account whether it is to be
// logged in.
func (o Order) registerParams(body map[string]any) map[string]any {
	if o.DeviceID == "" {
		body["inhibit_login"] = true
	}
	return o.deviceParams(body)
}

// Login implements [Upstream].
func (c *Client) Login(ctx context.Context, o Order) (*Login, error) {
	var a loginAnswer
	err := c.do(ctx, call{
		method: http.MethodPost, path: "/_matrix/client/v3/login", client: o.Client,
		body: o.deviceParams(map[string]any{
			"type": "m.login.password", "password": o.Password,
			"identifier": map[string]string{"type": "m.id.user", "user": o.Localpart},
		}),
	}, &a)
	switch {
	case status(err) == http.StatusForbidden && code(err) == spec.ErrorForbidden:
		return nil, ErrWrongPassword
	case status(err) == http.StatusTooManyRequests:
		return nil, refusal(err)
	case err != nil:
		return nil, err
	case a.AccessToken == "" || a.DeviceID == "":
		return nil, errors.New("gateway: the upstream logs in, but gives no access token")
	case o.DeviceID == "":
		c.logout(ctx, a)
		return nil, nil
	}
	return a.login(), nil
}

// logout ends a login that nobody wants. If it fails, the account has a device that
// nobody uses.
func (c *Client) logout(ctx context.Context, a loginAnswer) {
	_ = c.do(ctx, call{method: http.MethodPost, path: "/_matrix/client/v3/logout", token: a.AccessToken, body: struct{}{}}, nil)
}

// kept returns the login that came with a new account, if it is for the device that
// was asked for. Some upstreams log another one in, which is logged out.
func (c *Client) kept(ctx context.Context, o Order, a loginAnswer) *Login {
	switch {
	case a.AccessToken == "":
		return nil
	case o.DeviceID == "" || a.DeviceID != o.DeviceID:
		c.logout(ctx, a)
		return nil
	}
	return a.login()
}
