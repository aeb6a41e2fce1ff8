// Package kitrun runs the cases of the conformance kits for stores: on a store that is to
// be tested, and, in the kits' own tests, on stores that are broken.
package kitrun

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// TB is the part of testing.TB that a case needs, so that it can run where it is meant to
// fail.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Run runs a case as a subtest. If it fails, it prints the sentence of the documentation
// that the case tests.
func Run(t *testing.T, name, says string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) {
		defer func() {
			if t.Failed() {
				t.Logf("the contract says: %s", says)
			}
		}()
		test(t)
	})
}

// Fails runs a case and returns why it fails first; "" if it does not. A panic is a
// failure, and so is a case that has not ended when the context has.
func Fails(ctx context.Context, test func(TB)) string {
	r := new(recorder)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.Errorf("panic: %v", p)
			}
		}()
		test(r)
	}()
	select {
	case <-done:
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.why
	case <-ctx.Done():
		return "it hangs"
	}
}

// recorder is the TB of a case that is meant to fail.
type recorder struct {
	mu  sync.Mutex
	why string
}

func (*recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == "" {
		r.why = fmt.Sprintf(format, args...)
	}
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}
