package simtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Moment is when a scheduler chooses.
type Moment struct {
	Step    int
	Current int      // the actor that went on last, -1 before the first
	Options []Option // at least one; the first is the default, and costs nothing
	// State returns a digest of everything on which the rest depends. Nil: it is not
	// known, and nothing can be left out for having been seen.
	State func() uint64
	// Quiet says that nothing has changed but the clock since an earlier moment of
	// this schedule, because an actor polls: here nothing need be explored again.
	Quiet bool
}

// Chooser says how to go on, or that the rest is not wanted.
type Chooser func(Moment) (c Choice, goOn bool)

// Outcome is what a schedule came to.
type Outcome struct {
	Schedule Schedule
	Wrong    []string // broken promises
	Trace    []string
	End      string // what can be seen at the end; only compared
	Aborted  bool   // the Chooser did not want the rest
}

// Subject is what a search runs once for each schedule. The same choices must come
// to the same states.
type Subject interface {
	Play(t *testing.T, choose Chooser, trace bool) *Outcome
}

// Found is what a search came to.
type Found struct {
	Outcome   *Outcome // the first that is wrong; nil if none is
	Schedules int
	Steps     int
	States    int
	Drift     int // replays that came to another state than before: must be zero
	Elapsed   time.Duration
	Exhausted bool
}

func (f Found) String() string {
	return fmt.Sprintf("%d schedules, %d steps, %d states, %.1f s, exhausted %t", f.Schedules, f.Steps, f.States, f.Elapsed.Seconds(), f.Exhausted)
}

// Search is how Exhaust searches. The zero value does not end before it is through.
type Search struct {
	// Most ends the search after so many schedules; zero means when it is through.
	Most int
	// Everything leaves nothing out, to find out what is lost by it.
	Everything bool
	// Each is called for each schedule that came to its end. Nil for none.
	Each func(*Outcome)
}

// node is a schedule that has been begun and is to be continued.
type node struct {
	prefix Schedule
	state  uint64 // before the last choice of prefix
	left   Budget
}

// explorer is the state of one Exhaust.
type explorer struct {
	Search
	found Found
	seen  map[uint64][]Budget
	stack []node
}

// Exhaust goes through all schedules of the subject within the budget, depth first,
// until one is wrong.
func Exhaust(t *testing.T, s Subject, b Budget, how Search) Found {
	start := time.Now()
	e := &explorer{Search: how, seen: map[uint64][]Budget{}, stack: []node{{left: b}}}
	for len(e.stack) > 0 && e.found.Outcome == nil && (how.Most == 0 || e.found.Schedules < how.Most) {
		n := e.stack[len(e.stack)-1]
		e.stack = e.stack[:len(e.stack)-1]
		out := s.Play(t, e.chooser(n), false)
		e.found.Schedules++
		e.found.Steps += len(out.Schedule)
		if len(out.Wrong) > 0 {
			e.found.Outcome = out
		}
		if how.Each != nil && !out.Aborted {
			how.Each(out)
		}
	}
	e.found.Exhausted = len(e.stack) == 0 && e.found.Outcome == nil
	e.found.States, e.found.Elapsed = len(e.seen), time.Since(start)
	return e.found
}

// chooser repeats the node's prefix and goes on with the defaults. What else it could
// have done, it leaves on the stack.
func (e *explorer) chooser(n node) Chooser {
	var trace Schedule
	return func(m Moment) (Choice, bool) {
		next := m.Options[0].Choice
		switch {
		case m.Step < len(n.prefix):
			if m.Step == len(n.prefix)-1 && m.State != nil && m.State() != n.state {
				e.found.Drift++
			}
			next = n.prefix[m.Step]
		case len(m.Options) == 1, m.Quiet:
		default:
			if !e.branch(n, m, trace) {
				return Choice{}, false
			}
		}
		trace = append(trace, next)
		return next, true
	}
}

// branch leaves on the stack what could be done instead of the default, and reports
// whether the default is worth going on with.
func (e *explorer) branch(n node, m Moment, trace Schedule) bool {
	state := uint64(0)
	if m.State != nil {
		state = m.State()
		if !e.Everything && e.known(state, n.left) {
			return false
		}
	}
	for _, o := range slices.Backward(m.Options[1:]) {
		if left, ok := n.left.minus(o.Cost); ok {
			e.stack = append(e.stack, node{append(slices.Clone(trace), o.Choice), state, left})
		}
	}
	return true
}

// known reports whether the state has been explored with at least this budget, and
// notes that it is.
func (e *explorer) known(state uint64, left Budget) bool {
	for _, b := range e.seen[state] {
		if b.covers(left) {
			return true
		}
	}
	e.seen[state] = append(slices.DeleteFunc(e.seen[state], left.covers), left)
	return false
}

// Random runs n schedules by seed: actors go on by priorities, which change at as many
// random steps as the budget has preemptions (PCT: if few changes suffice for a
// mistake, the chance to find it is known), with its number of faults and clock events.
func Random(t *testing.T, s Subject, b Budget, seed uint64, n int) (found Found) {
	start := time.Now()
	length := 40 // of a schedule; learnt
	for i := range uint64(n) {
		out := s.Play(t, randomly(rand.New(rand.NewPCG(seed, i)), b, length), false)
		found.Schedules++
		found.Steps += len(out.Schedule)
		length = max(8, (length*15+len(out.Schedule))/16)
		if len(out.Wrong) > 0 {
			found.Outcome = out
			break
		}
	}
	found.Elapsed = time.Since(start)
	return found
}

func randomly(rnd *rand.Rand, b Budget, length int) Chooser {
	steps := func(n int8) map[int]bool {
		out := map[int]bool{}
		for range n {
			out[rnd.IntN(length)] = true
		}
		return out
	}
	change, fault, clock := steps(b.Preemptions), steps(b.Faults), steps(b.Clocks)
	priority, lowest := rnd.Perm(32), -1
	return func(m Moment) (Choice, bool) {
		if clock[m.Step] {
			if c, ok := m.among(rnd, func(o Option) bool { return o.Cost.Clocks > 0 || o.Kind == 'w' }); ok {
				return c, true
			}
		}
		if change[m.Step] && m.Current >= 0 {
			priority[m.Current] = lowest
			lowest--
		}
		best := m.first(priority)
		if fault[m.Step] {
			if c, ok := m.among(rnd, func(o Option) bool { return o.Cost.Faults > 0 && o.Who == best.Who }); ok {
				return c, true
			}
		}
		return best, true
	}
}

// among returns one of the options that are wanted, and false if there is none.
func (m Moment) among(rnd *rand.Rand, wanted func(Option) bool) (Choice, bool) {
	some := slices.DeleteFunc(slices.Clone(m.Options), func(o Option) bool { return !wanted(o) })
	if len(some) == 0 {
		return Choice{}, false
	}
	return some[rnd.IntN(len(some))].Choice, true
}

// first returns what the actor with the highest priority does, or the default where
// that is not an actor's.
func (m Moment) first(priority []int) Choice {
	best := m.Options[0].Choice
	for _, o := range m.Options {
		if o.Kind == 'r' && o.Verdict == Run && best.Kind == 'r' && priority[o.Who] > priority[best.Who] {
			best = o.Choice
		}
	}
	return best
}

// Replay runs one schedule with a trace. Where a choice is not possible, and after
// the last one, the default is taken.
func Replay(t *testing.T, s Subject, schedule Schedule) *Outcome {
	return s.Play(t, func(m Moment) (Choice, bool) {
		if m.Step < len(schedule) {
			if i := slices.IndexFunc(m.Options, func(o Option) bool { return o.Choice == schedule[m.Step] }); i >= 0 {
				return m.Options[i].Choice, true
			}
		}
		return m.Options[0].Choice, true
	}, true)
}

// Minimise leaves out what a wrong schedule does not need, and traces the rest. What
// it leaves out are deviations from the default, each by itself.
func Minimise(t *testing.T, s Subject, schedule Schedule) *Outcome {
	deviations := map[int]Choice{}
	s.Play(t, func(m Moment) (Choice, bool) {
		next := m.Options[0].Choice
		if m.Step < len(schedule) && schedule[m.Step] != next {
			next = schedule[m.Step]
			deviations[m.Step] = next
		}
		return next, true
	}, false)
	play := func(without int, trace bool) *Outcome {
		return s.Play(t, func(m Moment) (Choice, bool) {
			if c, ok := deviations[m.Step]; ok && m.Step != without {
				if slices.ContainsFunc(m.Options, func(o Option) bool { return o.Choice == c }) {
					return c, true
				}
			}
			return m.Options[0].Choice, true
		}, trace)
	}
	for again := true; again; {
		again = false
		for _, step := range slices.Sorted(maps.Keys(deviations)) {
			if len(play(step, false).Wrong) > 0 {
				delete(deviations, step)
				again = true
				break
			}
		}
	}
	return play(-1, true)
}
