package hs

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"time"
)

// The errors of [Accounts]. Any other one means that it is not known whether
// the call took effect.
var (
	// ErrNotFound says that there is no such user, device or access token.
	ErrNotFound = errors.New("hs: not found")
	// ErrTaken says that a user of this localpart exists.
	ErrTaken = errors.New("hs: localpart is taken")
	// ErrBuried says that no account can be made with this key any more.
	ErrBuried = errors.New("hs: key is buried")
)

// User is an account.
type User struct {
	Localpart string // unique
	// Key is the registration that the account was made by (uia.Session.Key),
	// unique for ever. Empty for one that no registration made.
	Key          string
	PasswordHash string // empty if no password is right; elsewhere if the service of Options.AccountsURL knows it
	SigningKeys  SigningKeys
	Admin        bool
	Created      time.Time
}

// Device is a device of a user and the access token that it is logged in with.
type Device struct {
	Localpart string
	ID        string // unique for the user
	Name      string
	Token     TokenDigest
	Keys      DeviceKeys
	Created   time.Time
}

// DeviceKeys are the end-to-end encryption keys that a device has published.
type DeviceKeys struct {
	Identity json.RawMessage            `json:"identity,omitempty"` // device_keys as uploaded; nil means none
	OneTime  map[string]json.RawMessage `json:"one_time,omitempty"` // by "algorithm:id"
}

// Accounts keeps users and devices. What is passed in or returned is not
// aliased. Times are kept to the millisecond, in UTC. Every method is atomic, and
// joins the transaction that ctx carries if there is one.
type Accounts interface {
	// CreateUser adds u and returns it. If an account has been made with u.Key
	// before, it returns that one and changes nothing. It returns ErrTaken if the
	// localpart is in use.
	CreateUser(ctx context.Context, u User) (User, error)

	// User returns the user of this localpart, or ErrNotFound.
	User(ctx context.Context, localpart string) (User, error)

	// SetPassword replaces the password's hash. An unknown user is ErrNotFound.
	SetPassword(ctx context.Context, localpart, hash string) error

	// SetSigningKeys replaces those keys that are not nil. An unknown user is
	// ErrNotFound.
	SetSigningKeys(ctx context.Context, localpart string, keys SigningKeys) error

	// AddSigningKeys is SetSigningKeys if k.admits the keys, k being those that the
	// user has, and otherwise ErrTaken.
	AddSigningKeys(ctx context.Context, localpart string, keys SigningKeys) error

	// SetAdmin makes a user a server admin. An unknown one is ErrNotFound.
	SetAdmin(ctx context.Context, localpart string) error

	// Users returns at most limit users in the order of their localparts, without the
	// first offset of them, whose localpart contains a text; "" is in all. The total
	// counts them all.
	Users(ctx context.Context, contains string, offset, limit int) (page []User, total int, err error)

	// PutDevice adds d to a user that exists. A device of the same user and ID is
	// replaced: its access token and its keys are gone.
	PutDevice(ctx context.Context, d Device) error

	// DeviceByToken returns the device whose access token has this digest, or
	// ErrNotFound.
	DeviceByToken(ctx context.Context, token TokenDigest) (Device, error)

	// Devices returns the devices of a user by ID, none for an unknown one.
	Devices(ctx context.Context, localpart string) ([]Device, error)

	// RenameDevice gives a device another name. An unknown one is ErrNotFound.
	RenameDevice(ctx context.Context, localpart, id, name string) error

	// DeleteDevice deletes a device. An unknown one is ErrNotFound.
	DeleteDevice(ctx context.Context, localpart, id string) error

	// DeleteAllDevices deletes every device of a user.
	DeleteAllDevices(ctx context.Context, localpart string) error

	// AddKeys publishes keys of a device and returns all of its keys as they are
	// then. A nil Identity leaves the one that there is; one-time keys are added.
	// An unknown device is ErrNotFound.
	AddKeys(ctx context.Context, localpart, id string, keys DeviceKeys) (DeviceKeys, error)
}

// Burier is an [Accounts] without transactions. A crash can then leave it unknown
// whether a registration has made its account, and somebody has to decide.
type Burier interface {
	Accounts

	// Bury decides whether a registration took place. It returns the account made
	// with this key. If there is none it returns ErrNotFound, and from then on
	// CreateUser returns ErrBuried for the key: "not made" is an answer that stays
	// true.
	Bury(ctx context.Context, key string) (User, error)
}

// TokenDigest is the SHA-256 of an access token: all that is kept of it.
type TokenDigest [sha256.Size]byte

// digestToken returns what is kept of an access token.
func digestToken(token string) TokenDigest { return sha256.Sum256([]byte(token)) }

// newAccessToken makes an access token and the digest to keep of it.
func newAccessToken() (string, TokenDigest) {
	token := "uia_" + rand.Text()
	return token, digestToken(token)
}

// newDeviceID makes a device ID as other homeservers do: ten capital letters.
func newDeviceID() string { return rand.Text()[:10] }
