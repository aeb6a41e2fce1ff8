package uiatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// requestTimeout is how long an answer may take. A final request may wait for
// another one of its session, and does so for half a minute in some homeservers.
const requestTimeout = 45 * time.Second

// maxRetries is how often a request is repeated that was answered with 429.
const maxRetries = 20

// sender sends requests at a bounded rate, and counts guesses.
type sender struct {
	base   string
	every  time.Duration // at the least between two requests; zero means at once
	budget *budget
	gates  gates

	mu   sync.Mutex
	next time.Time // when the next request may be sent
}

// manner is how a request is sent.
type manner int

const (
	patient manner = iota // after an answer with status 429 the request is sent again, as late as that asks for
	once                  // an answer with status 429 is an answer like any other
	racing                // like once, and the caller has called pace already
	limited               // like once, and a guess is not charged to the budget of the run
)

// pace waits until the next request may be sent, or the next n of them at once.
func (s *sender) pace(ctx context.Context, n int) error {
	s.mu.Lock()
	now := time.Now()
	at := s.next
	if at.Before(now) {
		at = now
	}
	s.next = at.Add(time.Duration(n) * s.every)
	s.mu.Unlock()
	return sleep(ctx, at.Sub(now))
}

// line waits until n requests may be sent at once.
func (s *sender) line(ctx context.Context, from *origin, request string, n int) error {
	_, path, _ := strings.Cut(request, " ")
	leave, err := s.gates.gate(from, endpoint(path)).enter(ctx, from.waiting)
	if err != nil {
		return err
	}
	leave()
	return s.pace(ctx, n)
}

// sleep waits for d. If ctx ends before that it does not wait at all.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return notApplicable(fmt.Sprintf("the homeserver asks to wait for %v, which is longer than the run may take", d.Round(time.Second)))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// send sends a request.
func (s *sender) send(ctx context.Context, from *origin, m *message, how manner) (*answer, error) {
	for range maxRetries {
		a, err := s.attempt(ctx, from, m, how)
		if err != nil || how != patient || a.status != http.StatusTooManyRequests {
			return a, err
		}
	}
	return nil, notApplicable(fmt.Sprintf("the homeserver has answered %d times with status 429", maxRetries))
}

// attempt sends a request once, when its gate lets it through.
func (s *sender) attempt(ctx context.Context, from *origin, m *message, how manner) (*answer, error) {
	gate := s.gates.gate(from, endpoint(m.path))
	if how == patient {
		leave, err := gate.enter(ctx, from.waiting)
		if err != nil {
			return nil, err
		}
		defer leave()
	}
	if how != racing {
		if err := s.pace(ctx, 1); err != nil {
			return nil, err
		}
	}
	a, err := s.roundTrip(ctx, from, m, how)
	if err == nil && how != limited {
		s.gates.note(from, endpoint(m.path), a)
	}
	return a, err
}

func (s *sender) roundTrip(ctx context.Context, from *origin, m *message, how manner) (a *answer, err error) {
	if guess(m) && how != limited {
		settle, err := s.budget.charge(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { settle(failedGuess(m, a)) }()
	}
	timed, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(timed, m.method, s.base+m.path, bytes.NewReader(m.body))
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, m.header)
	if r.Header.Get("User-Agent") == "" {
		r.Header.Set("User-Agent", "uiatest")
	}
	response, err := from.client.Do(r)
	if err != nil {
		if timed.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("no answer within %v", requestTimeout)
		}
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer response.Body.Close()
	a, err = readAnswer(m, response)
	if err != nil {
		err = fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return a, err
}

// errNoAnswer says that a request was not answered, or not to its end.
var errNoAnswer = errors.New("no answer")

// inapplicable is why a case does not apply.
type inapplicable struct{ reason string }

func (e *inapplicable) Error() string { return e.reason }

func notApplicable(reason string) error { return &inapplicable{reason} }
