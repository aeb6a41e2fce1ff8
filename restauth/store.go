package restauth

import (
	"context"
	"errors"
	"time"
)

// State is what can become of an account.
type State int

// The states of an account.
const (
	// Active is an account whose user can log in.
	Active State = iota + 1
	// Deactivated is one that nobody can log in to any more. It is final, and its name
	// stays taken.
	Deactivated
	// Buried stands for a registration that has made no account and never will. It has
	// no name.
	Buried
)

// Account is an account that is kept beside the homeserver.
type Account struct {
	// Key is the registration that has made it (register.Account.Key), unique for ever, at
	// most 128 bytes.
	Key string
	// Localpart is unique for ever.
	Localpart string
	// Hash is what package passwords has made of the password; "" if none is right.
	Hash string
	// Run is the run of the registration that has set Hash; math.MaxInt64 after
	// SetPassword.
	Run   int64
	State State
	// Created is when the account was made, in milliseconds.
	Created time.Time
}

var (
	// ErrNotFound says that there is no such account, or that it is not active.
	ErrNotFound = errors.New("restauth: there is no such account")
	// ErrTaken says that another account has the localpart.
	ErrTaken = errors.New("restauth: the localpart is taken")
	// ErrBuried says that no account can be made under the key any more.
	ErrBuried = errors.New("restauth: the registration has been given up")
)

// AccountStore keeps accounts. It is safe for concurrent use, by several processes if it
// outlives one. What a method has returned survives the process if the store does. Times
// are kept in milliseconds and returned in UTC.
//
// Every method is atomic. An error that is not one of this package's leaves open whether
// the call took effect, and the call can be repeated. A call whose context has ended
// returns its error and changes nothing.
//
// Package accounttest tests implementations.
type AccountStore interface {
	// Create adds an active account with the Key, Localpart, Hash, Run and Created of a,
	// and returns it. If the key has made an account, that one is returned, whatever the
	// localpart; if it is active and its Run is not higher than a's, it gets the Hash and
	// the Run of a before.
	//
	// It returns ErrBuried if the key is buried, and ErrTaken if an account of another key
	// has the localpart, deactivated or not; then nothing changes. Of several keys that
	// create one localpart at once, one gets it.
	Create(ctx context.Context, a Account) (Account, error)

	// Find returns the account of a localpart, deactivated or not, or ErrNotFound.
	// Localparts are compared byte for byte.
	Find(ctx context.Context, localpart string) (Account, error)

	// Made returns the account that a key has made, deactivated or not; ErrNotFound if
	// there is none, ErrBuried if there never will be.
	Made(ctx context.Context, key string) (Account, error)

	// SetPassword replaces the hash of an active account, and sets its Run so that no run
	// of its registration replaces it again. It returns ErrNotFound if there is no active
	// account.
	SetPassword(ctx context.Context, localpart, hash string) error

	// Deactivate makes an account Deactivated, without a hash. Repeating it is no error. It
	// returns ErrNotFound if there is no account.
	Deactivate(ctx context.Context, localpart string) error

	// Bury returns the account that the key has made, unchanged. If there is none it
	// returns ErrBuried, and from then on no account can be made under the key.
	// Repeating it returns the same.
	Bury(ctx context.Context, key string) (Account, error)
}
