package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// AccountsOptions are the options of [NewAccounts].
type AccountsOptions struct {
	// Upstream makes the accounts. Required.
	Upstream Upstream
	// Claims keeps how far each registration has come. Required.
	Claims ClaimStore
	// ServerName is the part of user IDs behind the colon. Required.
	ServerName string
	// Secrets seal what claims keep: uia.Config's. Required. A claim whose secret has
	// been destroyed is settled without what it has kept.
	Secrets uia.Secrets
	// Asking is how many requests at once may ask the upstream whether a name is
	// available, which every first request of a registration does. Further requests go on
	// without asking: whether the name is free is decided when the account is made. Zero
	// means 16.
	Asking int
	// Logger gets what goes wrong. Nil discards it. It never sees a password or an
	// access token.
	Logger *slog.Logger
	// Now tells the time. Nil means time.Now.
	Now func() time.Time
}

// Accounts makes accounts at an upstream: the Accounts of a register.Registration,
// whose Resolve is [Accounts.Resolve]. It is safe for concurrent use.
type Accounts struct {
	upstream   Upstream
	claims     ClaimStore
	serverName string
	sealer     sealer
	asking     chan struct{}
	log        *slog.Logger
	now        func() time.Time
}

var _ register.Accounts = (*Accounts)(nil)

// NewAccounts returns an Accounts, or every mistake in its options at once.
func NewAccounts(o AccountsOptions) (*Accounts, error) {
	a := &Accounts{upstream: o.Upstream, claims: o.Claims, serverName: o.ServerName, log: o.Logger, now: o.Now}
	var mistakes []error
	if o.Upstream == nil {
		mistakes = append(mistakes, errors.New("gateway: AccountsOptions.Upstream is required"))
	}
	if o.Claims == nil {
		mistakes = append(mistakes, errors.New("gateway: AccountsOptions.Claims is required"))
	}
	if o.ServerName == "" {
		mistakes = append(mistakes, errors.New("gateway: AccountsOptions.ServerName is required"))
	}
	if o.Asking < 0 {
		mistakes = append(mistakes, errors.New("gateway: AccountsOptions.Asking is negative"))
	}
	if o.Secrets == nil {
		mistakes = append(mistakes, errors.New("gateway: AccountsOptions.Secrets is required"))
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	a.sealer = newSealer(o.Secrets)
	if o.Asking == 0 {
		o.Asking = 16
	}
	a.asking = make(chan struct{}, o.Asking)
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	return a, nil
}

// Available implements register.Accounts. If the upstream refuses to answer (429), the
// registration goes on.
func (a *Accounts) Available(ctx context.Context, r register.UsernameRequest) error {
	select {
	case a.asking <- struct{}{}:
		defer func() { <-a.asking }()
	default:
		return nil
	}
	err := a.upstream.Available(ctx, r.Localpart)
	if e, ok := errors.AsType[*uia.Error](err); ok && e.Status == http.StatusTooManyRequests {
		return nil
	} else if err != nil && !ok {
		return unreachable(err)
	}
	return err
}

// unreachable is the answer for a client when nothing was made because the upstream does
// not answer, or not as it should.
func unreachable(cause error) error {
	return &uia.Error{
		Status: http.StatusServiceUnavailable, RetryAfter: retryAfter, Cause: cause,
		MatrixError: spec.Unknown("The homeserver does not answer. Please try again in a moment."),
	}
}

// retryAfter is after how long a client should ask again whose registration is not
// decided yet.
const retryAfter = 5 * time.Second

// maxPassword is the longest password, in bytes, that every upstream takes.
const maxPassword = 512

// order returns what a registration asks the upstream for.
func (a *Accounts) order(acc register.Account) (Order, error) {
	o := Order{Localpart: acc.Localpart, Password: acc.Password}
	// Upstreams answer these with 500, which would leave it open whether the account
	// was made.
	if o.Password == "" || strings.Contains(o.Password, "\x00") || len(o.Password) > maxPassword {
		return o, uia.NewError(http.StatusBadRequest, spec.InvalidParam("This password cannot be used here."))
	}
	if acc.Session != nil {
		o.Client = acc.Session.Client
	}
	if !acc.InhibitLogin {
		o.DeviceID, o.DeviceName, o.RefreshToken = acc.DeviceID, acc.DeviceName, acc.RefreshToken
		if o.DeviceID == "" {
			// With an ID that the gateway has made up, it can tell whether the upstream has
			// logged in the device that it was asked for.
			o.DeviceID = rand.Text()[:10]
		}
	}
	return o, nil
}
