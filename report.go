package uia

import (
	"errors"
	"strings"
)

// useEvent makes the event of something that a stage has set aside.
func useEvent(kind EventKind, stage string, c TxClaim) Event {
	return Event{Kind: kind, Token: heldToken(c.Result), Operation: operationOf(c.Key), Session: c.Key, Stage: stage}
}

// stageFailed makes the event of a refused attempt. Of its cause only what a store
// says is reported: a stage of the host may put anything into an error.
func stageFailed(s *Session, stage string, refusal *Error) Event {
	ev := Event{
		Kind: EventStageFailed, Operation: operationOf(s.Key), Session: s.Key, Stage: stage,
		Client: s.Client, ErrCode: refusal.ErrCode,
	}
	ev.Reason, _ = storeReason(refusal)
	return ev
}

// storeReason returns what a store says of a token that is not to be had, and false if
// the error is another one.
func storeReason(err error) (reason string, ok bool) {
	for _, reason := range [...]error{ErrNotFound, ErrRevoked, ErrExpired, ErrExhausted, ErrNotHeld} {
		if errors.Is(err, reason) {
			return strings.TrimPrefix(reason.Error(), "uia: "), true
		}
	}
	return "", false
}
