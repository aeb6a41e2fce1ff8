package uia

import (
	"context"
	"encoding/json"
	"time"
)

// Stage is one authentication type: the extension point of the engine. A Stage
// is used by many requests at once.
type Stage interface {
	// Type returns the authentication type, for example "m.login.dummy". It is
	// always the same.
	Type() string

	// Attempt looks at what a client submitted: auth is the request's auth member,
	// a JSON object, read with [Field]. It is called only if the type is the next
	// one of a flow and not completed.
	//
	// A nil error completes the stage. The result, which may be nil and is a JSON value
	// of at most a few KiB, is sealed into the session's record; the operation finds it
	// in [Session.Result].
	//
	// An *Error with status 401 says that the attempt failed and may be repeated: the
	// client gets the challenge again with its errcode and error. An *Error with status
	// 400 and M_MISSING_PARAM, M_INVALID_PARAM or M_BAD_JSON (which [Field] returns) is
	// about a member of auth: that is a failed attempt as well. One with another status
	// is answered as it is. Statuses 401 and 403 are charged to the client's failure
	// budget, others are not. A *Continue asks for another request. Any other error says
	// that the stage is broken: the client gets a 500 that says nothing, and the error is
	// logged.
	//
	// Attempt must not change anything that would have to be undone if the completion
	// cannot be recorded. A stage that has to do so implements TxStage.
	Attempt(ctx context.Context, s *Session, auth json.RawMessage) (result json.RawMessage, err error)
}

// ParamsStage can be implemented by a Stage that has public parameters, in which
// case each challenge carries them in its params.
type ParamsStage interface {
	Stage
	// Params returns a JSON object, or nil for none.
	Params(ctx context.Context, s *Session) (json.RawMessage, error)
}

// OpeningStage can be implemented by a Stage that must remember something from
// the moment a session is opened, such as the versions of the policies that it
// shows. The session ID carries it.
type OpeningStage interface {
	Stage
	// Opening returns at most 512 bytes, which [Session.Opening] gives back later,
	// or "" for nothing.
	Opening(ctx context.Context, s *Session) (string, error)
}

// ConfiguredStage can be implemented by a Stage that can be configured wrongly, in
// which case New reports it together with every other mistake.
type ConfiguredStage interface {
	Stage
	// Configured returns what is wrong, nil if nothing is.
	Configured() error
}

// FreeStage can be implemented by a Stage that everybody passes, such as
// m.login.dummy or the acceptance of terms. A session that begins with one costs a
// database write although nothing has been proved, which New warns of.
type FreeStage interface {
	Stage
	Free()
}

// TxClaim names what a TxStage has set aside for a session.
type TxClaim struct {
	Key    string          // Session.Key
	Run    int64           // the run in whose name the stage is asked; see Claim.Run
	Result json.RawMessage // what the stage's Attempt or Hold returned
	Now    time.Time       // the time of the request
	Hold   HoldMode        // what Hold is to do; other methods do not look at it
}

// HoldMode says what [TxStage.Hold] is to do.
type HoldMode int

// The modes of a hold.
const (
	// HoldFirmly keeps the thing for the session for a while. If it is kept for long
	// enough already, nothing has to be done.
	HoldFirmly HoldMode = iota
	// HoldAgain is HoldFirmly for a thing that has been lost since: whatever the
	// result says, it must be set aside anew.
	HoldAgain
	// HoldLoosely keeps the thing for the session only until somebody else needs it.
	HoldLoosely
)

// TxStage can be implemented by a Stage that sets something aside, such as one
// use of a token: the engine then holds it while the client goes on, pins it
// before the operation runs, and spends it or gives it back after. Where the
// contract of a method leaves out an error, the engine logs it and goes on.
//
// Every method may be repeated with the same arguments, and must refuse a
// run that a higher one has overtaken with an error that matches ErrNotHeld,
// without changing anything. A session whose thing is already spent is ErrSpent.
type TxStage interface {
	Stage

	// Hold sets something aside for a while, as c.Hold says. It is called when an
	// Attempt has passed, with its result, and again on later requests of the session,
	// so that it can be renewed. It returns the result to be recorded: c.Result itself
	// if nothing has changed, and then it should not have cost any I/O.
	//
	// An *Error of status 401 says that the thing cannot be set aside, or that it was
	// lost and cannot be set aside again. The stage is then not completed, or no longer
	// completed.
	Hold(ctx context.Context, c TxClaim) (json.RawMessage, error)

	// Begin pins what is held until it is decided: it must not lapse any more.
	// An *Error of status 401 says that it is no longer held.
	Begin(ctx context.Context, c TxClaim) error

	// Commit spends what is pinned for this user. It may run inside the
	// transaction of the operation, and more than once if that is repeated.
	Commit(ctx context.Context, c TxClaim, userID string) error

	// Rollback makes what is pinned held again, loosely.
	Rollback(ctx context.Context, c TxClaim) error

	// Release gives back what is held or pinned and will not be used. If kept is not nil,
	// it is the result that was recorded in place of c.Result: the thing that kept refers
	// to must not be given back.
	Release(ctx context.Context, c TxClaim, kept json.RawMessage) error

	// InDoubt returns at most limit claims, oldest first, whose last Begin was before the
	// given time. Recover decides them.
	InDoubt(ctx context.Context, before time.Time, limit int) ([]TxClaim, error)
}

// sweepBatch is how many things of one kind are decided or removed at once, at most.
const sweepBatch = 1000

// Sweeper can be implemented by a Stage whose leftovers take up space, in which
// case Recover calls it.
type Sweeper interface {
	Stage
	// Sweep removes a bounded number of leftovers that nobody has used since the given
	// time, and returns how many it removed. The sessions that they belong to have ended.
	Sweep(ctx context.Context, since time.Time) (int, error)
}

// DummyType is the auth type of [DummyStage].
const DummyType = "m.login.dummy"

// DummyStage is m.login.dummy: it always passes. Put behind another stage it
// keeps one flow from being the beginning of another (Client-Server API, "Dummy
// Auth").
type DummyStage struct{}

// Type returns DummyType.
func (DummyStage) Type() string { return DummyType }

// Free implements [FreeStage].
func (DummyStage) Free() {}

// Attempt passes.
func (DummyStage) Attempt(context.Context, *Session, json.RawMessage) (json.RawMessage, error) {
	return nil, nil
}
