package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// Asker is the user of the upstream who has sent a request to the gateway.
type Asker struct {
	UserID      string
	DeviceID    string // "" if the access token belongs to none
	AccessToken string
	Guest       bool
}

// Asker asks the upstream whose access token a request has. The error is 401
// M_MISSING_TOKEN or M_UNKNOWN_TOKEN, or one that is no *uia.Error if the upstream does not
// tell.
func (c *Client) Asker(r *http.Request) (Asker, error) {
	token, ok := bearer(r)
	if !ok {
		return Asker{}, errMissingToken
	}
	return c.whoami(r.Context(), token)
}

var errMissingToken = uia.NewError(http.StatusUnauthorized, spec.MissingToken("Missing access token"))

// whoami asks whose access token this is.
func (c *Client) whoami(ctx context.Context, token string) (Asker, error) {
	var who struct {
		UserID   string `json:"user_id"`
		DeviceID string `json:"device_id"`
		IsGuest  bool   `json:"is_guest"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/_matrix/client/v3/account/whoami", token: token}, &who)
	switch {
	case status(err) == http.StatusUnauthorized:
		return Asker{}, uia.NewError(http.StatusUnauthorized, spec.UnknownToken("Unknown access token"))
	case err != nil:
		return Asker{}, fmt.Errorf("gateway: asking the upstream who this is: %w", err)
	case who.UserID == "":
		return Asker{}, errors.New("gateway: the upstream does not say who this is")
	}
	return Asker{who.UserID, who.DeviceID, token, who.IsGuest}, nil
}

// NameFree returns nil if the upstream has no user of this name and would take a new one,
// and an *uia.Error if it would not, or does not want to tell for now (429). Where the
// upstream does not tell while its own registration is off, the user's profile is asked for.
func (c *Client) NameFree(ctx context.Context, localpart, serverName string) error {
	err := c.available(ctx, localpart)
	if status(err) != http.StatusForbidden && status(err) != http.StatusNotFound {
		return nameRefusal(err)
	}
	taken, err := c.exists(ctx, userID(localpart, serverName))
	if err == nil && taken {
		return errInUse()
	}
	return refusal(err)
}

// SignOutOthers removes all devices of the user but the one that asks. The password is the
// user's.
func (c *Client) SignOutOthers(ctx context.Context, a Asker, password string) error {
	var list struct {
		Devices []struct {
			ID string `json:"device_id"`
		} `json:"devices"`
	}
	if err := c.do(ctx, call{method: http.MethodGet, path: "/_matrix/client/v3/devices", token: a.AccessToken}, &list); err != nil {
		return refusal(err)
	}
	others := []string{}
	for _, d := range list.Devices {
		if d.ID != a.DeviceID {
			others = append(others, d.ID)
		}
	}
	if len(others) == 0 {
		return nil
	}
	_, err := c.guarded(ctx, "/_matrix/client/v3/delete_devices", a, password, map[string]any{"devices": others})
	return err
}

// Deactivate ends the user's account at the upstream, and returns its answer. The password
// is the user's, params are what the client has sent but for auth.
func (c *Client) Deactivate(ctx context.Context, a Asker, password string, params map[string]any) (json.RawMessage, error) {
	return c.guarded(ctx, "/_matrix/client/v3/account/deactivate", a, password, params)
}

// guarded asks for something that the upstream guards with the user's password.
func (c *Client) guarded(ctx context.Context, path string, a Asker, password string, params map[string]any) (json.RawMessage, error) {
	var done json.RawMessage
	k := call{method: http.MethodPost, path: path, token: a.AccessToken, body: params}
	err := c.do(ctx, k, &done)
	e, challenged := errors.AsType[*answerError](err)
	if !challenged || e.Status != http.StatusUnauthorized || e.Session == "" {
		return done, refusal(err)
	}
	const withPassword = "m.login.password"
	if !slices.ContainsFunc(e.Flows, func(f offeredFlow) bool { return slices.Equal(f.Stages, []string{withPassword}) }) {
		return nil, fmt.Errorf("gateway: the upstream guards %s with more than a password", path)
	}
	params["auth"] = map[string]any{
		"type": withPassword, "session": e.Session, "password": password, "user": a.UserID,
		"identifier": map[string]string{"type": "m.id.user", "user": a.UserID},
	}
	err = c.do(ctx, k, &done)
	return done, refusal(err)
}
