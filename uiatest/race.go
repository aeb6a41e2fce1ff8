package uiatest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// contestant takes part in a race.
type contestant struct {
	scope *scope
	last  *answer
	err   error
	out   bool // an answer was not as expected, so it takes no further step
}

// race lets several contestants take the same steps, all of them each step at the same
// time, and counts those whose answers are as expected. A contestant that is answered with
// status 429 has lost.
func (r *runner) race(ctx context.Context, ra *race, s *scope) error {
	field := make([]*contestant, ra.Contestants)
	for i := range field {
		field[i] = &contestant{scope: s.contestant(i)}
	}
	steps, err := r.flat(ra.Steps)
	if err != nil {
		return err
	}
	for i := range steps {
		st := &steps[i]
		if st.When != "" && st.When != r.flow {
			continue
		}
		if st.Set == nil {
			if err := r.sender.line(ctx, s.from, st.Request, len(field)); err != nil {
				return err
			}
		}
		var all sync.WaitGroup
		for _, c := range field {
			if !c.out {
				all.Go(func() { r.advance(ctx, st, c) })
			}
		}
		all.Wait()
	}
	return ra.judge(field, s)
}

// flat replaces each step that uses a sequence by the steps of the sequence, because the
// contestants of a race take every single step at the same time.
func (r *runner) flat(steps []step) ([]step, error) {
	var out []step
	for _, st := range steps {
		if st.Use == "" {
			out = append(out, st)
			continue
		}
		inner, err := r.flat(r.suite.sequences[st.Use])
		if err != nil || inner == nil {
			return nil, errors.Join(err, fmt.Errorf("there is no sequence %q", st.Use))
		}
		out = append(append(out, step{When: st.When, Set: st.With}), inner...)
	}
	return out, nil
}

func (r *runner) advance(ctx context.Context, st *step, c *contestant) {
	if st.Set != nil {
		c.err = c.scope.set(st.Set)
	} else {
		c.last, c.err = r.ask(ctx, st, c.scope, racing)
	}
	c.out = c.err != nil
}

// judge says whether the race ended as it should.
func (ra *race) judge(field []*contestant, s *scope) error {
	var won []*contestant
	var list []string
	limited := false
	others := ra.Others
	if others == nil {
		others = statuses{400, 401, 403, 409}
	}
	for i, c := range field {
		var broken *problem
		switch {
		case c.err != nil && !errors.As(c.err, &broken):
			return c.err
		case c.err == nil:
			won = append(won, c)
		case c.last.status == http.StatusTooManyRequests, c.last.status == http.StatusServiceUnavailable:
			limited = true
		case !slices.Contains(others, c.last.status):
			list = append(list, fmt.Sprintf("contestant %d is answered with %d, expected success or %v: %s", i, c.last.status, others, broken))
			s.log.blame(c.scope.last)
		}
	}
	if len(won) > ra.Most {
		blame(won, s)
		list = append(list, fmt.Sprintf("%d of %d succeed, expected at most %d", len(won), len(field), ra.Most))
	}
	if len(won) < ra.Least && !limited {
		blame(field, s)
		list = append(list, fmt.Sprintf("%d of %d succeed, expected at least %d", len(won), len(field), ra.Least))
	}
	if different := compare(won, ra.Same, ra.Distinct); different != nil {
		blame(won, s)
		list = append(list, different...)
	}
	if len(list) > 0 {
		return problems(list...)
	}
	if len(won) < ra.Least {
		return notApplicable("the homeserver limits how many requests come at once")
	}
	if len(won) > 0 {
		return s.save(ra.Save, won[0].last)
	}
	return nil
}

// blame marks the last answers of contestants.
func blame(field []*contestant, s *scope) {
	for _, c := range field {
		s.log.blame(c.scope.last)
	}
}

// compare says which members of the winners' answers are not the same, or not
// distinct.
func compare(won []*contestant, same, distinct []string) (list []string) {
	values := func(path string) map[string]bool {
		out := make(map[string]bool)
		for _, c := range won {
			out[show(dig(c.last.json, path))] = true
		}
		return out
	}
	for _, path := range same {
		if got := values(path); len(got) > 1 {
			list = append(list, fmt.Sprintf("%d answers succeed, with %d different %s, expected one", len(won), len(got), path))
		}
	}
	for _, path := range distinct {
		if got := values(path); len(got) < len(won) {
			list = append(list, fmt.Sprintf("%d answers succeed, with %d different %s, expected as many", len(won), len(got), path))
		}
	}
	return list
}
