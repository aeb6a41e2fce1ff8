package uiatest

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// The parts of what Explain says, in lines: 30 at most, with three lines at the top and
// one at the end.
const (
	maxProblems = 5
	maxBrief    = 6 // exchanges in a line each
	maxMessage  = 7 // the request that failed, and the same for its answer
	maxWidth    = 180
)

// Explain says why a case failed, in at most 30 lines: the sentence it stands on, what
// was expected, and the request whose answer is not as expected, after those that led
// there. It is empty if the case has not failed.
func (r *Report) Explain() string {
	if r.Outcome != Failed {
		return ""
	}
	lines := []string{
		fmt.Sprintf("%s (%s)", r.Name, r.Level),
		"  stands on  " + cut(r.Says, 1000),
		"             (" + cut(strings.TrimRight(r.Place+". "+r.Because, ". "), 2*maxWidth) + ")",
	}
	for i, p := range r.Problems {
		if i == maxProblems-1 && len(r.Problems) > maxProblems {
			lines = append(lines, fmt.Sprintf("  problem    and %d more", len(r.Problems)-i))
			break
		}
		lines = append(lines, "  problem    "+cut(p, 3*maxWidth))
	}
	return strings.Join(append(lines, r.story()...), "\n") + "\n"
}

// story tells what was sent: the first exchange that failed as a whole, and the ones
// before it in a line each, the last of them if they are many.
func (r *Report) story() (lines []string) {
	failed := 0
	for failed < len(r.Exchanges) && !r.Exchanges[failed].Failed {
		failed++
	}
	if failed == len(r.Exchanges) {
		return nil
	}
	from := max(failed-maxBrief+1, 0)
	switch {
	case from == 1:
		from = 0
	case from > 1:
		lines = append(lines, fmt.Sprintf("     before  %d more requests", from))
	}
	for _, x := range r.Exchanges[from:failed] {
		lines = append(lines, "     before  "+x.brief())
	}
	x := r.Exchanges[failed]
	lines = append(lines, label("    request  ", x.Request, r.Problems)...)
	lines = append(lines, label(">>> answer   ", x.Answer, r.Problems)...)
	also := 0
	for _, x := range r.Exchanges[failed+1:] {
		if x.Failed {
			also++
		}
	}
	if also > 0 {
		lines = append(lines, fmt.Sprintf(">>> and %d more answers like that", also))
	}
	return lines
}

// brief is an exchange in a line.
func (x *Exchange) brief() string {
	request, _, body := parts(x.Request)
	answer, _, said := parts(x.Answer)
	line := request
	if body != "" {
		line += " " + cut(strings.Join(strings.Fields(abridge(body)), " "), 80)
	}
	line += " -> " + answer
	if _, rest, ok := strings.Cut(said, `"errcode":`); ok {
		code, _, _ := strings.Cut(strings.TrimLeft(rest, ` "`), `"`)
		line += " " + code
	}
	return cut(line, maxWidth)
}

// label writes a message behind a label, in few lines: the headers that matter and as
// much of the body as there is room for.
func label(name, message string, problems []string) (lines []string) {
	first, headers, body := parts(message)
	lines = append(lines, name+cut(first, maxWidth))
	next := func(line string) {
		lines = append(lines, strings.Repeat(" ", len(name))+cut(line, maxWidth))
	}
	for _, header := range headers {
		key, _, _ := strings.Cut(header, ":")
		matters := key == "Content-Type" || key == "Authorization" || strings.Contains(strings.Join(problems, "\n"), "header "+key)
		if matters && len(lines) < maxMessage-2 {
			next(header)
		}
	}
	text := bodyLines(body)
	for i, line := range text {
		if len(lines) == maxMessage-1 && i < len(text)-1 {
			next(fmt.Sprintf("... (%d more lines)", len(text)-i))
			break
		}
		next(line)
	}
	return lines
}

// bodyLines returns the lines of a body, those that are too long in several.
func bodyLines(body string) (lines []string) {
	for line := range strings.SplitSeq(abridge(body), "\n") {
		runes := []rune(strings.TrimSpace(line))
		for len(runes) > maxWidth {
			lines = append(lines, string(runes[:maxWidth]))
			runes = runes[maxWidth:]
		}
		if len(runes) > 0 {
			lines = append(lines, string(runes))
		}
	}
	return lines
}

// longString is a string in JSON that is so long that it is made for machines, such as a
// session. What stands beside it matters more.
var longString = regexp.MustCompile(`"[A-Za-z0-9+/=._~-]{48,}"`)

// abridge shortens long strings in JSON.
func abridge(body string) string {
	return longString.ReplaceAllStringFunc(body, func(s string) string { return s[:17] + "..." + s[len(s)-1:] })
}

// parts takes a written message apart.
func parts(message string) (first string, headers []string, body string) {
	head, body, _ := strings.Cut(message, "\n\n")
	headers = strings.Split(head, "\n")
	return headers[0], headers[1:], body
}

// cut makes a line of what may be many, without what a terminal would obey, and not
// longer than n characters.
func cut(s string, n int) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c == '\n' || c == '\t' || c == '\r':
			return ' '
		case unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || c >= '\u202a' && c <= '\u202e':
			return '�'
		}
		return c
	}, strings.ToValidUTF8(s, "�"))
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-3]) + "..."
	}
	return s
}
