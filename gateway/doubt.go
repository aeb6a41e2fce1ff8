package gateway

import (
	"errors"
	"net/http"

	"github.com/matrix-org/gomatrixserverlib/spec"

	"github.com/matrix-uia/uia"
	"github.com/matrix-uia/uia/register"
)

// undecided says that the account may have been made, or may still be made. The answer
// asks the client to come back later; if a limit of the upstream is the reason, the
// answer says so.
func undecided(err error) error {
	if e, ok := errors.AsType[*uia.Error](err); ok && e.Status == http.StatusTooManyRequests {
		return uia.Undecided(e)
	} else if ok {
		err = errors.New(e.Error()) // as an *uia.Error it would say that nothing was made
	}
	return uia.Undecided(&uia.Error{
		Status: http.StatusServiceUnavailable, RetryAfter: retryAfter, Cause: err,
		MatrixError: spec.Unknown("The homeserver has not answered whether the account was made. Please try again in a moment."),
	})
}

// notMade says that no run of this key has made an account, or ever will: the claim
// bears this one. The client may choose another name.
func notMade(why error) error {
	e, ok := errors.AsType[*uia.Error](why)
	if !ok {
		return why
	}
	return uia.NotMade(e)
}

// runOf returns the number of the run, by which claims fence lower ones.
func runOf(acc register.Account) int64 {
	if acc.Session == nil {
		return 0
	}
	return acc.Session.Run
}
