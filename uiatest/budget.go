package uiatest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// MaxGuesses is how many failed guesses at registration tokens the cases make at most,
// those about limits excepted.
const MaxGuesses = 50

// Accounts is about how many accounts a run of all cases makes. Where the token is the
// only stage it is half as many again, and where there is a page on which an invite link
// ends ten more.
const Accounts = 40

// budget is the failed guesses that a run may still make. A request that may turn
// out to be one is charged before it is sent, so that the bound holds whatever
// the homeserver answers.
type budget struct {
	mu       sync.Mutex
	left     int
	inFlight int
	settled  chan struct{} // closed and replaced when a guess in flight is settled
}

func newBudget(n int) *budget { return &budget{left: n, settled: make(chan struct{})} }

// charge takes a guess from the budget. It waits while as many guesses are in flight as
// are left. The caller calls settle when the guess has been answered, and says whether it
// has failed.
func (b *budget) charge(ctx context.Context) (settle func(failed bool), err error) {
	for {
		b.mu.Lock()
		switch {
		case b.left > b.inFlight:
			b.inFlight++
			b.mu.Unlock()
			return b.settle, nil
		case b.inFlight == 0:
			b.mu.Unlock()
			return nil, notApplicable("the failed guesses of this run are used up")
		}
		settled := b.settled
		b.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (b *budget) settle(failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
	if failed {
		b.left--
	}
	close(b.settled)
	b.settled = make(chan struct{})
}

// remaining returns how many failed guesses can still be made. It takes those in flight
// for right, as most of them are.
func (b *budget) remaining() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.left
}

// guess reports whether a request shows the homeserver a token that may be wrong.
func guess(m *message) bool {
	switch {
	case strings.Contains(m.path, "/validity?"):
		return true
	case strings.Contains(m.path, "/fallback/web"):
		return m.method == http.MethodPost
	case strings.HasPrefix(m.path, signupPath):
		return m.method == http.MethodGet
	case strings.Contains(m.path, "/register"):
		var body struct {
			Auth struct {
				Token any `json:"token"`
			} `json:"auth"`
		}
		return json.Unmarshal(m.body, &body) == nil && body.Auth.Token != nil
	}
	return false
}

// signupPath is what the address of a page begins with on which an invite link ends.
const signupPath = "/register?"

// innocent are the error codes that say nothing against the token.
var innocent = map[string]bool{
	"M_USER_IN_USE": true, "M_INVALID_USERNAME": true, "M_EXCLUSIVE": true, "M_WEAK_PASSWORD": true, "M_BAD_JSON": true,
	"M_NOT_JSON": true, "M_MISSING_PARAM": true, "M_INVALID_PARAM": true, "M_TOO_LARGE": true, "M_LIMIT_EXCEEDED": true, "M_UNKNOWN": true,
	"M_UNRECOGNIZED": true,
}

// failedGuess reports whether the answer to a guess is that it was wrong.
func failedGuess(m *message, a *answer) bool {
	if a == nil || a.status == http.StatusTooManyRequests || a.status >= 500 {
		return false
	}
	object, _ := a.json.(map[string]any)
	switch {
	case strings.Contains(m.path, "/validity?"):
		code, _ := object["errcode"].(string)
		return object["valid"] != true && code != "M_MISSING_PARAM" && code != "M_UNRECOGNIZED"
	case strings.Contains(m.path, "/fallback/web"):
		return a.status != http.StatusOK || !strings.Contains(string(a.body), "authDone")
	case strings.HasPrefix(m.path, signupPath): // where there is no page, nothing was guessed
		return strings.HasPrefix(a.header.Get("Content-Type"), "text/html") && formOf(string(a.body), true) == nil
	}
	code, _ := object["errcode"].(string)
	completed, _ := object["completed"].([]any)
	return code != "" && !innocent[code] && !slices.Contains(completed, any(typeToken))
}
