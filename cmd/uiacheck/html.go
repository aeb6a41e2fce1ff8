package main

import (
	_ "embed"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/matrix-uia/uia/uiatest"
)

//go:embed report.html
var page string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"join":    func(list []string) string { return strings.Join(list, ", ") },
	"stamp":   func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04 UTC") },
	"culprit": culprit,
}).Parse(page))

// culprit returns the first exchange whose answer is not as expected; nil if there is none.
func culprit(r uiatest.Report) *uiatest.Exchange {
	i := slices.IndexFunc(r.Exchanges, func(x uiatest.Exchange) bool { return x.Failed })
	if i < 0 {
		return nil
	}
	return &r.Exchanges[i]
}

// writeHTML writes the reports as one page that needs nothing else: no script, no other
// file.
func writeHTML(w io.Writer, r *result) error { return reportPage.Execute(w, r) }
