package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
)

// defaultFence is the default of SharedSecret.Fence.
const defaultFence = 5 * time.Minute

// SharedSecret is the [Upstream] that makes accounts by the shared secret of the
// homeserver, as Synapse and Dendrite let their administrators do. Their own
// registration can be switched off.
type SharedSecret struct {
	*Client
	// ServerName is the part of user IDs behind the colon. Required.
	ServerName string
	// Secret is the upstream's registration_shared_secret. Required.
	Secret string
	// Fence is how long the upstream may take to carry out a request that makes an
	// account, even after the connection was lost. Until then Settle does not say "no",
	// and the use of the token stays in doubt. Zero means 5 minutes.
	Fence time.Duration

	names recentNames
}

var _ Upstream = (*SharedSecret)(nil)

const sharedSecretPath = "/_synapse/admin/v1/register"

// Available implements [Upstream]. Where the upstream does not tell while its own
// registration is off, the user's profile is asked for.
func (s *SharedSecret) Available(ctx context.Context, localpart string) error {
	return s.names.ask(localpart, func() error { return s.NameFree(ctx, localpart, s.ServerName) })
}

// nonce asks for what the next request has to contain.
func (s *SharedSecret) nonce(ctx context.Context, o Order) (string, error) {
	var a struct {
		Nonce string `json:"nonce"`
	}
	err := s.do(ctx, call{method: http.MethodGet, path: sharedSecretPath, client: o.Client}, &a)
	if err == nil && a.Nonce == "" {
		err = errors.New("gateway: the upstream gives no nonce")
	}
	return a.Nonce, err
}

// Begin implements [Upstream]. Some upstreams make an account by the shared secret
// whatever it is called, also of a name that is kept for a bridge: that is why the
// name has to be available, and not only unknown.
func (s *SharedSecret) Begin(ctx context.Context, o Order) (string, error) {
	if err := s.Available(ctx, o.Localpart); err != nil {
		return "", err
	}
	nonce, err := s.nonce(ctx, o)
	return nonce, refusal(err)
}

// register sends the request that makes an account.
func (s *SharedSecret) register(ctx context.Context, o Order, nonce string) (a loginAnswer, err error) {
	mac := hmac.New(sha1.New, []byte(s.Secret))
	mac.Write([]byte(strings.Join([]string{nonce, o.Localpart, o.Password, "notadmin"}, "\x00")))
	err = s.do(ctx, call{
		method: http.MethodPost, path: sharedSecretPath, client: o.Client,
		body: o.registerParams(map[string]any{
			"nonce": nonce, "username": o.Localpart, "password": o.Password, "admin": false,
			"mac": hex.EncodeToString(mac.Sum(nil)),
		}),
	}, &a)
	return a, err
}

// Make implements [Upstream].
func (s *SharedSecret) Make(ctx context.Context, o Order, nonce string) (*Login, error) {
	a, err := s.register(ctx, o, nonce)
	s.names.forget(o.Localpart)
	if e, ok := errors.AsType[*answerError](err); ok && e.Status < 500 && strings.Contains(strings.ToLower(e.Message), "nonce") {
		return nil, fmt.Errorf("%w: %w", ErrStale, err) // used up or expired
	}
	if err != nil {
		return nil, refusal(err)
	}
	return s.kept(ctx, o, a), nil
}

// Settle implements [Upstream].
func (s *SharedSecret) Settle(ctx context.Context, p Pending) (bool, error) {
	s.names.forget(p.Localpart)
	made, err := s.taken(ctx, p.Localpart)
	fence := s.Fence
	if fence == 0 {
		fence = defaultFence
	}
	if err == nil && !made && time.Since(p.Since) < fence {
		return false, errStillAtIt
	}
	return made, err
}

// errStillAtIt says that there is no account yet, but that the upstream may still be
// making it.
var errStillAtIt = errors.New("gateway: the upstream has no such account yet, but may still be at it")

// taken reports whether there is an account of this name. If the upstream says anything
// else than that the name is free or taken, taken returns an error.
func (s *SharedSecret) taken(ctx context.Context, localpart string) (bool, error) {
	err := s.available(ctx, localpart)
	switch {
	case err == nil:
		return false, nil
	case code(err) == spec.ErrorUserInUse:
		return true, nil
	case status(err) >= 400 && status(err) <= 499 && status(err) != http.StatusTooManyRequests:
		return s.exists(ctx, userID(localpart, s.ServerName))
	}
	return false, err
}

// Check looks at what [Client.Check] does, and whether the secret is right. It makes no
// account, because the name that it sends is not a valid one.
func (s *SharedSecret) Check(ctx context.Context) []Finding {
	out := s.Client.check(ctx, false)
	// The upstream looks at the name behind the MAC, and there can be no such name.
	probe := Order{Localpart: "not a name", Password: "not a password"}
	nonce, err := s.nonce(ctx, probe)
	if err == nil {
		_, err = s.register(ctx, probe, nonce)
	}
	switch {
	case status(err) == http.StatusForbidden:
		return append(out, Finding{Severe: true, Text: "the upstream refuses the registration shared secret: nobody can register"})
	case status(err) == http.StatusNotFound:
		return append(out, Finding{Severe: true, Text: "the upstream has no registration by shared secret, or it is not configured there: nobody can register"})
	case status(err) != http.StatusBadRequest:
		return append(out, Finding{Severe: true, Text: fmt.Sprintf("whether the registration shared secret is right cannot be told: %v", err)})
	}
	return out
}

func userID(localpart, serverName string) string { return "@" + localpart + ":" + serverName }

func errInUse() error {
	return uia.NewError(http.StatusBadRequest, spec.UserInUse("That username is taken."))
}
