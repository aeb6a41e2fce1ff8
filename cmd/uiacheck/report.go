package main

import (
	"encoding/json"
	"encoding/xml"
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
	Took    time.Duration
	Error   error // why the run ended early; nil if it did not
}

// count returns how many cases of a level, or of every level if it is empty, ended so.
func (r *result) count(outcome uiatest.Outcome, level uiatest.Level) (n int) {
	for _, report := range r.Reports {
		if report.Outcome == outcome && (level == "" || report.Level == level) {
			n++
		}
	}
	return n
}

// areas returns the areas of the run with their reports.
func (r *result) areas() (out []*result, names []string) {
	for _, area := range uiatest.Areas() {
		in := slices.DeleteFunc(slices.Clone(r.Reports), func(r uiatest.Report) bool { return r.Area != area })
		if len(in) > 0 {
			out, names = append(out, &result{Reports: in}), append(names, area)
		}
	}
	return out, names
}

var levels = []uiatest.Level{uiatest.Must, uiatest.Should, uiatest.Client}

// writeText writes a table for each area, and every failure with what it stands on.
func writeText(w io.Writer, r *result) error {
	areas, names := r.areas()
	for i, area := range areas {
		area.writeTable(w, names[i])
	}
	failed := false
	for _, report := range r.Reports {
		if report.Outcome == uiatest.Failed {
			if !failed {
				fmt.Fprint(w, "What failed, with the sentence that it stands on\n\n")
			}
			failed = true
			fmt.Fprintln(w, report.Explain())
		}
	}
	_, err := fmt.Fprintf(w, "%s: %d passed, %d failed (%d must, %d should, %d client), %d not applicable, in %v\n", r.URL,
		r.count(uiatest.Passed, ""), r.count(uiatest.Failed, ""), r.count(uiatest.Failed, uiatest.Must), r.count(uiatest.Failed, uiatest.Should),
		r.count(uiatest.Failed, uiatest.Client), r.count(uiatest.NotApplicable, ""), r.Took.Round(100*time.Millisecond))
	return err
}

// writeTable writes the table of one area: its levels, the cases that failed, and
// why others do not apply.
func (r *result) writeTable(w io.Writer, area string) {
	fmt.Fprintf(w, "%-10s %8s %8s %16s\n", area, "passed", "failed", "not applicable")
	for _, level := range levels {
		passed, failed, not := r.count(uiatest.Passed, level), r.count(uiatest.Failed, level), r.count(uiatest.NotApplicable, level)
		if passed+failed+not > 0 {
			fmt.Fprintf(w, "  %-8s %8d %8d %16d\n", level, passed, failed, not)
		}
	}
	reasons := make(map[string]int)
	for _, report := range r.Reports {
		switch report.Outcome {
		case uiatest.Failed:
			fmt.Fprintf(w, "  FAILED %-6s  %s\n", report.Level, report.Name)
		case uiatest.NotApplicable:
			reasons[report.Reason]++
		}
	}
	var lines []string
	for reason, n := range reasons {
		lines = append(lines, fmt.Sprintf("  not applicable: %d, %s\n", n, reason))
	}
	slices.Sort(lines)
	fmt.Fprintln(w, strings.Join(lines, ""))
}

// writeJSON writes the reports as one JSON object.
func writeJSON(w io.Writer, r *result) error {
	out := struct {
		URL           string           `json:"url"`
		Passed        int              `json:"passed"`
		Failed        int              `json:"failed"`
		NotApplicable int              `json:"not_applicable"`
		Error         string           `json:"error,omitempty"`
		Cases         []uiatest.Report `json:"cases"`
	}{r.URL, r.count(uiatest.Passed, ""), r.count(uiatest.Failed, ""), r.count(uiatest.NotApplicable, ""), "", r.Reports}
	if r.Error != nil {
		out.Error = oneLine(r.Error)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(out)
}

// junitSuite is an area in JUnit's XML.
type junitSuite struct {
	XMLName  xml.Name    `xml:"testsuite"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Name    string        `xml:"name,attr"`
	Class   string        `xml:"classname,attr"`
	Time    string        `xml:"time,attr"`
	Failure *junitMessage `xml:"failure"`
	Skipped *junitMessage `xml:"skipped"`
}

type junitMessage struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes the reports for tools that read JUnit's XML.
func writeJUnit(w io.Writer, r *result) error {
	var out struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []junitSuite
	}
	areas, names := r.areas()
	for i, area := range areas {
		suite := junitSuite{Name: names[i], Tests: len(area.Reports),
			Failures: area.count(uiatest.Failed, ""), Skipped: area.count(uiatest.NotApplicable, "")}
		for _, report := range area.Reports {
			c := junitCase{Name: report.Name, Class: "uiacheck." + names[i], Time: fmt.Sprintf("%.3f", report.Took.Seconds())}
			switch report.Outcome {
			case uiatest.Failed:
				c.Failure = &junitMessage{Message: strings.Join(report.Problems, "; "), Type: string(report.Level), Text: report.Explain()}
			case uiatest.NotApplicable:
				c.Skipped = &junitMessage{Message: report.Reason}
			}
			suite.Cases = append(suite.Cases, c)
		}
		out.Suites = append(out.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(w)
	encoder.Indent("", "  ")
	if err := encoder.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
