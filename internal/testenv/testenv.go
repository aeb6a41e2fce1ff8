// Package testenv is for tests that need more of their machine than Go: servers,
// browsers, clients. It decides whether a test whose needs are not met is skipped or
// fails, and runs programs that do not outlive the test.
package testenv

import (
	"os"
	"testing"
)

// Need is called with the reason why something that a test needs is not on this
// machine: a server, a browser, a client. Nil means that all is there. Otherwise
// the test is skipped with that one line, and with CI=true it fails: there nothing
// may go untested.
func Need(t testing.TB, missing error) {
	t.Helper()
	switch {
	case missing == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}
