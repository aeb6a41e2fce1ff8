package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia/uiatest"
)

// result is a whole run.
type result struct {
	URL     string
	Reports []uiatest.Report
	Began   time.Time
	Took    time.Duration
	Error   error // why the run ended early; nil if it did not
}

// area is what became of the cases of one area, or of all.
type area struct {
	Name          string
	Reports       []uiatest.Report
	Levels        []tally
	Passed        int
	Failed        int
	NotApplicable int
}

// tally is how the cases of one level ended.
type tally struct {
	Level  uiatest.Level
	Passed int
	Failed int
}

// newArea counts.
func newArea(name string, reports []uiatest.Report) area {
	a := area{Name: name, Reports: reports}
	for _, level := range []uiatest.Level{uiatest.Must, uiatest.Should, uiatest.Client} {
		t := tally{Level: level}
		for _, r := range reports {
			switch {
			case r.Level != level:
			case r.Outcome == uiatest.Passed:
				t.Passed++
			case r.Outcome == uiatest.Failed:
				t.Failed++
			default:
				a.NotApplicable++
			}
		}
		a.Passed += t.Passed
		a.Failed += t.Failed
		a.Levels = append(a.Levels, t)
	}
	return a
}

// failed returns how many cases of a level have failed.
func (a *area) failed(level uiatest.Level) (n int) {
	for _, t := range a.Levels {
		if t.Level == level {
			n += t.Failed
		}
	}
	return n
}

// Failures are the cases that have failed.
func (a area) Failures() []uiatest.Report {
	return slices.DeleteFunc(slices.Clone(a.Reports), func(r uiatest.Report) bool { return r.Outcome != uiatest.Failed })
}

// Total is all areas as one.
func (r *result) Total() area { return newArea("total", r.Reports) }

// Areas are the areas that cases were run of.
func (r *result) Areas() (out []area) {
	for _, name := range uiatest.Areas() {
		in := slices.DeleteFunc(slices.Clone(r.Reports), func(r uiatest.Report) bool { return r.Area != name })
		if len(in) > 0 {
			out = append(out, newArea(name, in))
		}
	}
	return out
}

// reason is why cases are not applicable.
type reason struct {
	Why   string
	Cases []string
}

// Reasons are why cases are not applicable, those of most cases first.
func (r *result) Reasons() (out []reason) {
	for _, report := range r.Reports {
		if report.Outcome != uiatest.NotApplicable {
			continue
		}
		i := slices.IndexFunc(out, func(o reason) bool { return o.Why == report.Reason })
		if i < 0 {
			i = len(out)
			out = append(out, reason{Why: report.Reason})
		}
		out[i].Cases = append(out[i].Cases, report.Name)
	}
	slices.SortStableFunc(out, func(a, b reason) int { return len(b.Cases) - len(a.Cases) })
	return out
}

// Ended says why the run ended early; empty if it did not.
func (r *result) Ended() string {
	if r.Error == nil {
		return ""
	}
	return oneLine(r.Error)
}

// Duration is how long the run took, as a person says it.
func (r *result) Duration() string { return r.Took.Round(100 * time.Millisecond).String() }

// writeText writes a summary, every failure with what it stands on, why cases do not
// apply, and the summary again, for readers who see only the end.
func writeText(w io.Writer, r *result) error {
	out := &strings.Builder{}
	r.writeSummary(out)
	for _, a := range r.Areas() {
		if a.Failed > 0 {
			fmt.Fprintf(out, "\n== %s: what failed\n", a.Name)
		}
		for _, report := range a.Failures() {
			fmt.Fprintf(out, "\n%s", report.Explain())
		}
	}
	if reasons := r.Reasons(); len(reasons) > 0 {
		fmt.Fprint(out, "\n== not applicable\n\n")
		for _, reason := range reasons {
			fmt.Fprintf(out, "%5d  %s\n", len(reason.Cases), reason.Why)
		}
	}
	if len(r.Reports) > 1 {
		fmt.Fprint(out, "\n")
		r.writeSummary(out)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// writeSummary writes a table of the areas.
func (r *result) writeSummary(w io.Writer) {
	total := r.Total()
	fmt.Fprintf(w, "%-10s %6s %6s %7s %8s %8s %16s\n", "", "passed", "failed", "of must", "should", "client", "not applicable")
	for _, a := range append(r.Areas(), total) {
		fmt.Fprintf(w, "%-10s %6d %6d %7d %8d %8d %16d\n", a.Name, a.Passed, a.Failed,
			a.failed(uiatest.Must), a.failed(uiatest.Should), a.failed(uiatest.Client), a.NotApplicable)
	}
	fmt.Fprintf(w, "\n%s: %d passed, %d failed (%d must, %d should, %d client), %d not applicable, in %s\n", r.URL,
		total.Passed, total.Failed, total.failed(uiatest.Must), total.failed(uiatest.Should), total.failed(uiatest.Client),
		total.NotApplicable, r.Duration())
}

// writeJSON writes the reports as one JSON object.
func writeJSON(w io.Writer, r *result) error {
	type counts struct {
		Area          string `json:"area,omitempty"`
		Passed        int    `json:"passed"`
		Failed        int    `json:"failed"`
		NotApplicable int    `json:"not_applicable"`
	}
	count := func(name string, a area) counts { return counts{name, a.Passed, a.Failed, a.NotApplicable} }
	out := struct {
		URL string `json:"url"`
		counts
		Error string           `json:"error,omitempty"`
		Areas []counts         `json:"areas"`
		Cases []uiatest.Report `json:"cases"`
	}{URL: r.URL, counts: count("", r.Total()), Error: r.Ended(), Areas: []counts{}, Cases: r.Reports}
	for _, a := range r.Areas() {
		out.Areas = append(out.Areas, count(a.Name, a))
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}
