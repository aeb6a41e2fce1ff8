package gateway

import (
	"context"
	"errors"
	"time"
)

// State is how far a registration has come.
type State int

// The states of a claim.
//
//	none, Free -> Reserved -> Sent -> Made
//	              |  ^        |  |
//	   Free <-----+--|--------+  |
//	 Buried <-----+  +-----------+ (by a later run)
const (
	// Free says that nothing was made, and that a later run may begin anew.
	Free State = iota + 1
	// Reserved says that the localpart is the key's, and that nothing was sent that
	// makes an account.
	Reserved
	// Sent says that the upstream may have made the account. It is written before the
	// request.
	Sent
	// Made says that the account exists. It is final.
	Made
	// Buried says that the key has made no account and never will. It is final.
	Buried
)

// Claim is what is known of one registration.
type Claim struct {
	// Key is the session's key, at most 128 bytes.
	Key string
	// Localpart is the name that was claimed last; "" if there never was one.
	Localpart string
	// Run is the run of the operation that has the claim. Lower ones are fenced.
	Run   int64
	State State
	// Sealed is what is needed to go on, sealed; at most 4 KiB. Nil if there is
	// nothing.
	Sealed []byte
	// Changed is when the state was written last, in milliseconds.
	Changed time.Time
}

var (
	// ErrTaken says that another registration has a claim on the localpart.
	ErrTaken = errors.New("gateway: another registration has claimed the localpart")
	// ErrOvertaken says that a later run has the claim, or that it is final.
	ErrOvertaken = errors.New("gateway: the claim was overtaken")
)

// ClaimStore keeps claims. It is safe for concurrent use, by several processes if it
// outlives one. What a method has returned survives the process if the store does.
//
// Time is an argument; it is kept in milliseconds and returned in UTC. An error that
// is not one of this package's leaves open whether the call took effect, and the
// call can be repeated. A call whose context has ended returns its error and changes
// nothing.
//
// Package claimtest tests implementations.
type ClaimStore interface {
	// Reserve takes the claim of c.Key for c.Run. If there is none, or it is Free or
	// Reserved, it becomes Reserved with c.Localpart, and what was sealed is gone. If it
	// is Sent it bears c.Run from then on, and is otherwise unchanged. If it is final it is
	// unchanged, whatever c.Run. The claim is returned as it is then.
	//
	// It returns ErrOvertaken if a claim that is not final bears a higher run, and
	// ErrTaken if the claim of another key is Reserved or Sent with c.Localpart and this
	// one would become so; then nothing changes. Of several keys that reserve one
	// localpart at once, one gets it.
	Reserve(ctx context.Context, c Claim, now time.Time) (Claim, error)

	// Save writes c.State and c.Sealed, if the claim of c.Key is Reserved or Sent and
	// bears c.Run, and returns it. If it is in c.State already with that run, so that
	// the answer to an earlier call may have been lost, it is returned as it is. Otherwise
	// Save returns ErrOvertaken, also if there is no claim, and changes nothing.
	Save(ctx context.Context, c Claim, now time.Time) (Claim, error)

	// Bury returns the claim of the key if it is Sent or final, unchanged. Otherwise, and
	// if there is none, it makes the claim Buried, whatever its run, and returns that:
	// from then on no run can reserve, save or send anything under this key.
	Bury(ctx context.Context, key string, now time.Time) (Claim, error)

	// List returns at most q.Limit claims that q asks for, those that changed first
	// coming first.
	List(ctx context.Context, q ClaimQuery) ([]Claim, error)

	// Delete forgets the claim of c.Key if it still bears c.Run and is in c.State.
	// Otherwise it changes nothing, and that is no error.
	Delete(ctx context.Context, c Claim) error
}

// ClaimQuery says which claims are asked for.
type ClaimQuery struct {
	State State
	// Localpart, if not empty, leaves only the claims on this name.
	Localpart string
	// Before leaves only those that have not changed at this time or later. Zero
	// leaves all.
	Before time.Time
	Limit  int
}
