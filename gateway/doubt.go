package gateway

import (
	"errors"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// undecided says that an account may have been made, or may be yet.
func undecided(err error) error {
	return errors.New("gateway: it is not known whether the account was made: " + err.Error())
}

// notMade says that no run of this key has made an account, or will.
func notMade(why error) error { return why }

// runOf returns the run of the operation.
func runOf(register.Account) int64 { return 0 }

var _ = uia.NewError
