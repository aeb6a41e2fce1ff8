package uia

import "context"

// Effect is what an operation has done.
type Effect struct {
	// UserID is the account that the operation was for. Required if a stage set something
	// aside and the session has no Subject: the token's use is recorded as spent for this
	// account.
	UserID string
	// Body is the response, encoded with encoding/json; nil means {}.
	Body any
	// After is called as soon as it is certain that the operation took effect: with
	// Operation.Tx after the commit. It is called at most once for each run that took
	// effect, in the process that ran it, before the client is answered. After a crash it
	// is not called. Its context ends after 15 seconds. Nil for nothing.
	After func(context.Context)
}

// Operate is a guarded operation. It returns an *Error if it did not take effect and
// never will: the client gets that error, the session stays complete and the client may
// try again. Any other error means that it may have taken effect; the client gets a 500,
// or what [Undecided] says, what the stages set aside stays in doubt, and either another
// request of the session runs the operation again or Recover asks Resolve.
//
// It must take effect at most once for each Session.Key, by a unique index on what
// it makes: a second run under a key that has succeeded returns what the first one
// made. With Operation.Tx no index is needed. Its context ends before the lease
// does, and is not cancelled when the client hangs up.
type Operate = func(ctx context.Context, s *Session) (Effect, error)

// Undecided returns the error of an operation that does not know yet whether it has taken
// effect. The client gets this error, with its RetryAfter, and what the stages set aside
// stays in doubt. A status of 429 or 503 fits. The client's next request runs the
// operation again.
func Undecided(answer *Error) error { return &undecided{answer} }

type undecided struct{ answer *Error }

func (u *undecided) Error() string { return "uia: undecided: " + u.answer.Error() }

// Unwrap leaves the *Error out: that would say that the operation did not take effect.
func (u *undecided) Unwrap() error { return u.answer.Cause }

// NotMade returns the error of an operation that has made sure by itself that no earlier
// run of its session took effect or ever will: by a row that a run with a lower
// Session.Run may not change, for example. The client gets this error, the session is no
// longer in doubt, and the client may try again with other parameters. If the operation
// returns a plain *Error in a session that is in doubt, the engine asks Resolve instead,
// and if Resolve says that nothing happened, the session ends.
func NotMade(answer *Error) error { return &notMade{answer} }

type notMade struct{ answer *Error }

func (n *notMade) Error() string { return n.answer.Error() }
func (n *notMade) Unwrap() error { return n.answer }
