package uia

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Limiter bounds how many wrong guesses a client may make. One limiter serves
// every place where a secret can be guessed, so that all of them draw on one
// budget. Package limit has the limiter of a homeserver that is one process,
// and package redislimit that of one which is several.
type Limiter interface {
	// Charge takes one failure from the client's budget before a guess is looked
	// at, so that a thousand guesses at once are no cheaper than a thousand in a
	// row. The caller then looks at the guess and calls settle: true if it was
	// wrong, false to give the charge back (it was right, or could not be looked
	// at). Settle must be called, on every path; calls after the first do
	// nothing. It is nil if err is not.
	//
	// The error is a *LimitError if the budget is spent, ErrNoClient if client is
	// no address, or the context's. With any error the guess must not be looked
	// at. Charge may wait, within the context, for guesses that are in flight.
	Charge(ctx context.Context, client netip.Addr) (settle func(failed bool), err error)
}

// ErrNoClient says that the client's address is not known. It is a mistake of the host or
// of its proxies: letting such requests share one budget would let one of them lock all
// the others out. (A peer on a unix socket is this machine, ::1; if it is a proxy, the
// client is the address that the proxy names.)
var ErrNoClient = errors.New("uia: no client address to limit failures by")

// LimitError says that the client's budget of failures is spent.
type LimitError struct {
	// RetryAfter is how long it takes until the client may guess once more.
	RetryAfter time.Duration
}

// Error says how long the client has to wait.
func (e *LimitError) Error() string {
	return fmt.Sprintf("uia: too many failures, retry after %v", e.RetryAfter)
}
