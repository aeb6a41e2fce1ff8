package uiatest

import (
	"context"
	"fmt"
	"net/http"
	"sync"
)

// limitsArea is the area of the cases that guess until they are limited.
const limitsArea = "limits"

// shares are the wrong guesses that each way to guess gets, so that one without a
// limit does not leave the others without guesses.
type shares struct {
	each int

	mu  sync.Mutex
	all map[string]*share
}

// share is what has become of the guesses of one way to guess.
type share struct {
	spent   int
	limited bool // it was answered with status 429
}

func newShares(each int) *shares {
	if each <= 0 {
		each = 50
	}
	return &shares{each: each, all: make(map[string]*share)}
}

func (s *shares) of(way string) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[way] == nil {
		s.all[way] = new(share)
	}
	return s.all[way]
}

// unlimited is the error of a case that has made all its guesses and was never limited.
type unlimited struct {
	spent int
	again func() error // makes one more guess; its error is nil if that is limited as it should be
}

func (e *unlimited) Error() string {
	return fmt.Sprintf("no limit within %d guesses: none of them is answered with status 429", e.spent)
}

// until repeats a guess until it is limited, within the share of its way to guess.
func (r *runner) until(ctx context.Context, st *step, s *scope) error {
	share := r.shares.of(st.Until.Way)
	plain := *st
	plain.Expect, plain.Save = nil, nil
	guess := func() (*answer, error) {
		share.spent++
		again := s.contestant(share.spent)
		a, err := r.ask(ctx, &plain, again, limited)
		s.last = again.last
		if err == nil && a.status == http.StatusTooManyRequests {
			share.spent--
			share.limited = true
		}
		return a, err
	}
	wrong := 0 // the status of an answer to a wrong guess
	for share.spent < r.shares.each {
		a, err := guess()
		switch {
		case err != nil:
			return err
		case a.status == http.StatusTooManyRequests:
			return r.judge(st, a, s)
		case wrong != 0 && a.status != wrong:
			return notApplicable(fmt.Sprintf("after %d guesses the answer is %d, no longer %d: more guesses tell nothing", share.spent, a.status, wrong))
		}
		wrong = a.status
	}
	switch {
	case share.limited:
		return notApplicable(fmt.Sprintf("the %d guesses of this way to guess are spent", share.spent))
	case st.Until.Shape:
		return notApplicable(fmt.Sprintf("it is about an answer with status 429, and %d guesses have got none", share.spent))
	}
	failed := &unlimited{spent: share.spent}
	failed.again = func() error {
		a, err := guess()
		if err != nil || a.status != http.StatusTooManyRequests {
			return failed
		}
		return r.judge(st, a, s)
	}
	return failed
}

// limits runs the cases about limits, one after the other. Several ways to guess may have
// one limit in common, which only the last of them reaches. So if any limit was met, each
// way that was not limited before makes one more guess, and passes if that is limited.
func (r *runner) limits(cases []int, reports []Report, run func(i int)) {
	for _, i := range cases {
		run(i)
	}
	met := false
	for _, share := range r.shares.all {
		met = met || share.limited
	}
	for _, i := range cases {
		if again := reports[i].again; met && again != nil && again() == nil {
			reports[i].Outcome, reports[i].Problems, reports[i].Exchanges = Passed, nil, nil
		}
	}
}
