package gateway

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// Upstream makes accounts at the homeserver behind the gateway. It is safe for
// concurrent use.
//
// If a method returns an *uia.Error, the client gets it.
type Upstream interface {
	// Available returns nil if an account with this localpart could be made, and
	// otherwise an *uia.Error, as register.Accounts has it. One of status 429 says that
	// the upstream did not want to tell.
	Available(ctx context.Context, localpart string) error

	// Begin prepares to make the account. Begin itself makes nothing, even if it fails:
	// an account is made only by Make. Its result is kept, sealed, for Make and Settle.
	Begin(ctx context.Context, o Order) (resume string, err error)

	// Make makes the account, and returns the login if the upstream has logged
	// o.DeviceID in along with it; nil if it has not.
	//
	// An *uia.Error says that this call has made nothing and never will. So does
	// [ErrStale], which says that another Begin may help. After any other error the
	// account may have been made, or may be yet.
	Make(ctx context.Context, o Order, resume string) (*Login, error)

	// Login logs o.DeviceID in with the password. Without a DeviceID it only finds out
	// whether that could be done, and returns nil. It returns [ErrWrongPassword] if
	// there is no account of that name and password.
	Login(ctx context.Context, o Order) (*Login, error)

	// Settle finds out whether an account was made by a Make whose result is not known.
	// It does not know the password. It may make the account now. "No" means that none
	// was made and none will be; while the upstream may still be making it, Settle
	// returns an error.
	Settle(ctx context.Context, p Pending) (made bool, err error)
}

var (
	// ErrStale says that what Begin returned is no longer good, and that nothing was
	// made.
	ErrStale = errors.New("gateway: the upstream has forgotten what was begun")
	// ErrWrongPassword says that the upstream has no account of that name and
	// password.
	ErrWrongPassword = errors.New("gateway: the upstream refuses the login")
)

// Order is an account to be made.
type Order struct {
	Localpart string
	Password  string // never empty
	// DeviceID is the device to be logged in; "" for none.
	DeviceID string
	// DeviceName is the display name of a new device; may be empty.
	DeviceName string
	// RefreshToken says that the client supports refresh tokens.
	RefreshToken bool
	// Client is the address of who asks for the account, the zero Addr if it is not
	// known. The upstream gets it in X-Forwarded-For.
	Client netip.Addr
}

// Pending is an account of which it is not known whether it was made.
type Pending struct {
	Localpart string
	// Resume is what Begin returned; "" if it can no longer be opened.
	Resume string
	// Since is when Make was called, or a little earlier.
	Since time.Time
}

// Login is what a login yields.
type Login struct {
	UserID       string
	DeviceID     string
	AccessToken  string
	RefreshToken string        // may be empty
	ExpiresIn    time.Duration // zero means that the access token lasts
}
