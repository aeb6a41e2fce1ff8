package uiatest

import (
	"fmt"
	"strings"
)

// Explain says why a case failed: the sentence it stands on, what was expected, and
// the requests and answers that led there, in several lines.
func (r *Report) Explain() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)\n", r.Name, r.Level)
	fmt.Fprintf(&b, "  stands on  %s\n             (%s)\n", indent(r.Says, 13), r.Place)
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "  problem    %s\n", indent(p, 13))
	}
	for _, x := range r.Exchanges {
		fmt.Fprintf(&b, "  request    %s\n  answer     %s\n", indent(x.Request, 13), indent(x.Answer, 13))
	}
	return b.String()
}

// indent indents all lines but the first, and shows what a terminal would obey.
func indent(s string, n int) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' && c != '\n' && c != '\t' || c >= 0x7f && c < 0xa0 {
			return '�'
		}
		return c
	}, s)
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\n", "\n"+strings.Repeat(" ", n))
}
