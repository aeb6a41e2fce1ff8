package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/matrix-uia/uia/uiatest"
)

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
	for _, a := range r.Areas() {
		suite := junitSuite{Name: a.Name, Tests: len(a.Reports), Failures: a.Failed, Skipped: a.NotApplicable}
		for _, report := range a.Reports {
			c := junitCase{Name: report.Name, Class: "uiacheck." + a.Name, Time: fmt.Sprintf("%.3f", report.Took.Seconds())}
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
