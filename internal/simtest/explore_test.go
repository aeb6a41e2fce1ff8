package simtest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// toy is a subject of which everything is known: two actors add one to a counter in two
// steps, reading and writing, and it is wrong if one addition is lost.
type toy struct{ blind bool }

func (s toy) Play(_ *testing.T, choose Chooser, trace bool) *Outcome {
	out := &Outcome{}
	var step, read [2]int
	counter, cur := 0, -1
	for n := 0; ; n++ {
		m := Moment{Step: n, Current: cur, State: func() uint64 {
			return uint64(step[0] + 3*step[1] + 9*read[0] + 27*read[1] + 81*counter + 243*cur + 729)
		}}
		if s.blind {
			m.State = nil
		}
		for _, who := range []int{max(cur, 0), 1 - max(cur, 0)} {
			if step[who] < 2 {
				o := Option{Choice: Go(who)}
				if len(m.Options) > 0 && m.Options[0].Who == int8(cur) {
					o.Cost.Preemptions = 1
				}
				m.Options = append(m.Options, o)
			}
		}
		if len(m.Options) == 0 {
			break
		}
		c, ok := choose(m)
		if !ok {
			out.Aborted = true
			return out
		}
		out.Schedule = append(out.Schedule, c)
		cur = int(c.Who)
		if step[cur]++; step[cur] == 1 {
			read[cur] = counter
		} else {
			counter = read[cur] + 1
		}
	}
	if counter != 2 {
		out.Wrong = []string{"an addition is lost"}
	}
	if trace {
		out.Trace = []string{"traced"}
	}
	return out
}

func TestExhaustIsExhaustive(t *testing.T) {
	for _, blind := range []bool{false, true} {
		f := Exhaust(t, toy{blind}, Budget{}, Search{})
		assert.True(t, f.Exhausted, "without a preemption nothing is lost")
		f = Exhaust(t, toy{blind}, Budget{Preemptions: 1}, Search{})
		require.NotNil(t, f.Outcome)
		m := Minimise(t, toy{blind}, f.Outcome.Schedule)
		assert.Equal(t, []string{"traced"}, m.Trace)
		assert.NotEmpty(t, m.Wrong)
		again, err := ParseSchedule(m.Schedule.String())
		require.NoError(t, err)
		assert.Equal(t, m, Replay(t, toy{blind}, again))
		f = Exhaust(t, toy{blind}, Budget{Preemptions: 1}, Search{Most: 1})
		assert.False(t, f.Exhausted)
	}
	assert.NotNil(t, Random(t, toy{}, Budget{Preemptions: 1}, 1, 200).Outcome)
	assert.Nil(t, Random(t, toy{}, Budget{}, 1, 200).Outcome)
}

// ends are all ends to which the schedules of a scenario come.
func ends(t *testing.T, sc *Scenario, b Budget, everything bool) ([]string, Found) {
	t.Helper()
	all := map[string]bool{}
	f := Exhaust(t, sc, b, Search{Everything: everything, Each: func(o *Outcome) { all[o.End] = true }})
	require.True(t, f.Exhausted, "%v", f.Outcome)
	require.Zero(t, f.Drift)
	return slices.Sorted(maps.Keys(all)), f
}

// TestNothingIsLostByLeavingOut explores without and with leaving out what was seen: the
// schedules come to the same ends.
func TestNothingIsLostByLeavingOut(t *testing.T) {
	for _, sc := range all() {
		switch {
		case sc.Unpruned, sc.kind.name == "sqlite", sc.kind.name == "pg", raceDetector && sc.Name != "one":
			continue // like others, or too slow
		case !strings.Contains(" same one two differ refused lapse ", " "+sc.Name+" "):
			continue
		}
		for _, b := range []Budget{{Preemptions: 1}, {Faults: 1}, {Clocks: 1}} {
			every, plain := ends(t, sc, b, true)
			some, pruned := ends(t, sc, b, false)
			assert.Equal(t, every, some, "%s %v: %d schedules, %d with leaving out", sc.Title(), b, plain.Schedules, pruned.Schedules)
		}
	}
}
