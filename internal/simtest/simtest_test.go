package simtest

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	onlyScenario = flag.String("scenario", "", "comma-separated `names` of the scenarios to explore, such as pg-tx/two, pg-tx/ or /two")
	budgetFlag   = flag.String("budget", "", "`bounds` to explore instead, such as P2F1C1")
	scheduleFlag = flag.String("schedule", "", "the `schedule` that TestReplay replays")
	firstFlag    = flag.Bool("first", false, "stop at the first scenario that is wrong")
	mostFlag     = flag.Int("most", 0, "how many schedules to try of each scenario; 0 for all")
)

// chosen are the scenarios that -scenario names.
func chosen() (out []*Scenario) {
	for _, sc := range all() {
		for name := range strings.SplitSeq(*onlyScenario, ",") {
			title := sc.Title()
			if name == "" || name == title || strings.HasSuffix(name, "/") && strings.HasPrefix(title, name) || strings.HasPrefix(name, "/") && strings.HasSuffix(title, name) {
				out = append(out, sc)
				break
			}
		}
	}
	return out
}

func report(t *testing.T, sc *Scenario, b Budget, f Found) {
	t.Helper()
	if f.Drift > 0 {
		t.Errorf("%s %v: %d replays came to another state", sc.Title(), b, f.Drift)
	}
	if f.Outcome != nil {
		m := Minimise(t, sc, f.Outcome.Schedule)
		t.Errorf("%s %v, after %d schedules: %s\n-scenario %s -schedule %q\n%s",
			sc.Title(), b, f.Schedules, m.Wrong, sc.Title(), m.Schedule, strings.Join(m.Trace, "\n"))
	}
}

// bounds is what is explored of a scenario unless -budget says otherwise. In CI that is
// every scenario with two preemptions, one fault and one clock event, each by itself, and
// with a preemption and a clock event where the most goes on. The race detector, which
// takes seven times as long, has nothing to find: one actor goes on at a time.
func bounds(sc *Scenario) []Budget {
	switch deep := sc.Name == "two" || sc.Name == "same"; {
	case raceDetector && sc.kind.name != "pg-tx":
		return []Budget{{}}
	case raceDetector:
		return []Budget{{Preemptions: 1}, {Faults: 1}}
	case os.Getenv("CI") != "true":
		return []Budget{{Preemptions: 1}, {Faults: 1}, {Clocks: 1}}
	case deep && sc.kind.name != "pg" && sc.kind.name != "sqlite":
		return []Budget{{Preemptions: 2}, {Faults: 1}, {Preemptions: 1, Clocks: 1}}
	}
	return []Budget{{Preemptions: 2}, {Faults: 1}, {Clocks: 1}}
}

// budgets are those of -budget, or the scenario's bounds.
func budgets(t *testing.T, sc *Scenario) (out []Budget) {
	t.Helper()
	if *budgetFlag == "" {
		return bounds(sc)
	}
	for s := range strings.SplitSeq(*budgetFlag, ",") {
		b, err := ParseBudget(s)
		if err != nil {
			t.Fatalf("-budget %s: %v", s, err)
		}
		out = append(out, b)
	}
	return out
}

// TestEverySchedule goes through all schedules of all scenarios.
func TestEverySchedule(t *testing.T) {
	sums := map[Budget]Found{}
	searches, exhausted := 0, 0
	for _, sc := range chosen() {
		for _, b := range budgets(t, sc) {
			f := Exhaust(t, sc, b, Search{Most: *mostFlag})
			report(t, sc, b, f)
			if *firstFlag && f.Outcome != nil {
				return
			}
			if f.Elapsed > 5*time.Second || *mostFlag > 0 && !f.Exhausted {
				t.Log(sc.Title(), b, f)
			}
			searches++
			if f.Exhausted {
				exhausted++
			}
			sum := sums[b]
			sum.Schedules += f.Schedules
			sum.Steps += f.Steps
			sum.States += f.States
			sum.Elapsed += f.Elapsed
			sums[b] = sum
		}
	}
	for b, f := range sums {
		t.Logf("%v: %d schedules, %d steps, %d states, %.1f s", b, f.Schedules, f.Steps, f.States, f.Elapsed.Seconds())
	}
	t.Logf("%d searches, %d exhausted", searches, exhausted)
	if searches == 0 {
		t.Error("no scenario is called " + *onlyScenario)
	}
}

// TestReplay replays -schedule.
func TestReplay(t *testing.T) {
	if *scheduleFlag == "" {
		return
	}
	schedule, err := ParseSchedule(*scheduleFlag)
	if err != nil {
		t.Fatal(err)
	}
	for _, sc := range chosen() {
		out := Replay(t, sc, schedule)
		t.Logf("%s\n%s", sc.Title(), strings.Join(out.Trace, "\n"))
		if len(out.Wrong) > 0 {
			t.Error(out.Wrong)
		}
	}
}
