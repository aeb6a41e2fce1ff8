package uiatest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestServer runs every case as a subtest. One that does not apply is skipped and
// says why; a summary is logged at the end. The cases run side by side as go test
// -parallel allows, and in random order with -shuffle; each is selected with -run
// by its name, which is area/case.
func TestServer(t *testing.T, s Server) {
	t.Helper()
	r, err := newRunner(t.Context(), s, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	cases := Cases()
	if err := r.canRegister(cases); err != nil {
		t.Fatal(err)
	}
	if f := flag.Lookup("test.shuffle"); f != nil && f.Value.String() != "off" {
		seed := rand.Uint64()
		t.Logf("the cases are shuffled with %d", seed)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(cases), func(i, j int) { cases[i], cases[j] = cases[j], cases[i] })
	}
	reports := make([]Report, len(cases))
	t.Run("cases", func(t *testing.T) {
		for i, c := range cases {
			if c.Area != limitsArea {
				t.Run(c.Name, func(t *testing.T) {
					t.Parallel()
					reports[i] = r.run(t.Context(), &c)
					reports[i].tell(t)
				})
			}
		}
	})
	var last []int
	for i, c := range cases {
		if c.Area == limitsArea {
			last = append(last, i)
		}
	}
	r.limits(last, reports, func(i int) { reports[i] = r.run(t.Context(), &cases[i]) })
	for _, i := range last {
		t.Run("cases/"+cases[i].Name, func(t *testing.T) { reports[i].tell(t) })
	}
	r.close()
	t.Log(summary(reports))
	if err := r.failure(); err != nil && t.Context().Err() == nil {
		t.Error(err)
	}
}

// tell tells a test what became of its case.
func (r *Report) tell(t *testing.T) {
	switch r.Outcome {
	case NotApplicable:
		t.Skip("not applicable: " + r.Reason)
	case Failed:
		t.Error(r.Explain())
	}
}

// summary counts the outcomes, and lists why cases do not apply.
func summary(reports []Report) string {
	count := make(map[Outcome]int)
	reasons := make(map[string]int)
	for _, r := range reports {
		count[r.Outcome]++
		if r.Outcome == NotApplicable {
			reasons[r.Reason]++
		}
	}
	lines := make([]string, 0, len(reasons))
	for reason, n := range reasons {
		lines = append(lines, fmt.Sprintf("\n%6d %s", n, reason))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d passed, %d failed, %d not applicable%s", count[Passed], count[Failed], count[NotApplicable], strings.Join(lines, ""))
}
