// Package panics keeps a mistake in a host's code from ending more than the request.
package panics

import (
	"fmt"
	"net/http"
	"runtime/debug"
)

// ToError makes an error of a panic, with the stack in it: for logs. Defer it directly,
// not from another deferred function. A panic with http.ErrAbortHandler goes on, so that
// a handler can still abort its request.
//
// It is for what a handler calls; [In] is for what must end in an error in any case.
func ToError(err *error) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		*err = fmt.Errorf("panicked: %v\n%s", p, debug.Stack())
	}
}

// In makes an error of every panic, with the stack in it and with the name of what has
// panicked in front. Defer it directly, not from another deferred function.
func In(name string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s panicked: %v\n%s", name, p, debug.Stack())
	}
}
