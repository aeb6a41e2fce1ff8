package uiatest

import (
	"html"
	"regexp"
	"slices"
	"strings"
)

// calling says whether a page calls a function.
type calling int

const (
	neverCalls  calling = iota
	cannotTell          // the page has a script that stands in another file
	mayCall             // in a function that something else may call
	callsAtOnce         // as soon as the page is there
)

var (
	tagScript = regexp.MustCompile(`(?is)<script\b([^>]*)>(.*?)</script\s*>`)
	handler   = regexp.MustCompile(`(?is)\s(on[a-z]+)\s*=\s*("[^"]*"|'[^']*')`)
	sign      = regexp.MustCompile(`^(?s:[A-Za-z_$][\w$]*|=>|.)`)
)

// maxTokens bounds how long a page's scripts are looked through.
const maxTokens = 20_000

// pageCalls says whether the scripts of a page call a function of this name. That
// they contain a call is not enough: it may stand in a comment, in a string, or in
// a function that nothing else mentions.
func pageCalls(page, name string) calling {
	found := neverCalls
	p := scripts{at: make(map[string][]position), known: make(map[string]calling)}
	for _, tag := range tagScript.FindAllStringSubmatch(page, -1) {
		attrs := attributes(tag[1])
		kind := strings.ToLower(attrs["type"])
		switch {
		case attrs["src"] != "":
			found = cannotTell
		case kind == "" || kind == "module" || strings.HasSuffix(kind, "javascript"):
			p.add(newScript(tag[2], callsAtOnce))
		}
	}
	for _, attr := range handler.FindAllStringSubmatch(tagScript.ReplaceAllString(page, ""), -1) {
		when := mayCall
		if strings.EqualFold(attr[1], "onload") {
			when = callsAtOnce
		}
		p.add(newScript(html.UnescapeString(strings.Trim(attr[2], `"'`)), when))
	}
	if p.tokens > maxTokens {
		return cannotTell
	}
	return max(found, p.whoCalls(name))
}

// scripts are all scripts of a page.
type scripts struct {
	tokens int
	at     map[string][]position
	known  map[string]calling // the results of whoCalls by name, also of calls that have not ended
}

// position is where a name stands.
type position struct {
	script *script
	i      int
}

func (p *scripts) add(s *script) {
	p.tokens += len(s.tokens)
	for i, token := range s.tokens {
		p.at[token] = append(p.at[token], position{s, i})
	}
}

// whoCalls says when the function is called.
func (p *scripts) whoCalls(name string) calling {
	if when, ok := p.known[name]; ok {
		return when
	}
	p.known[name] = neverCalls // so that a function does not count as called because it calls itself
	found := neverCalls
	for _, at := range p.at[name] {
		s, i := at.script, at.i
		if s.at(i+1) != "(" || s.at(i-1) == "function" || s.at(s.closed(i+1)+1) == "{" {
			continue
		}
		when := s.when
		for _, f := range s.functions {
			if f.from < i && i < f.to {
				when = min(when, p.called(f))
			}
		}
		found = max(found, when)
	}
	p.known[name] = found
	return found
}

// called says when a function that stands in a script is called.
func (p *scripts) called(f function) calling {
	switch {
	case f.atOnce:
		return callsAtOnce
	case f.name == "" || f.property && strings.HasPrefix(f.name, "on"):
		return mayCall // it is handed on, or the browser calls it
	}
	when := p.whoCalls(f.name)
	if when == neverCalls && len(p.at[f.name]) > 1 {
		when = mayCall
	}
	return when
}

// script is a script of a page: its names and signs, and when it runs.
type script struct {
	tokens    []string
	when      calling
	close     map[int]int // where the bracket that opens here is closed
	functions []function
}

// function is a function of a script.
type function struct {
	from, to int    // its body
	name     string // "" if it has none
	atOnce   bool   // it is called where it stands
	property bool   // it becomes a property: others may call that
}

func newScript(text string, when calling) *script {
	s := &script{tokens: tokenize(text), when: when}
	open := s.pair()
	for i, token := range s.tokens {
		switch {
		case token == "{" && s.at(i-1) == ")":
			params := open[i-1]
			if f, ok := s.declared(params); ok {
				s.add(f, i, s.closed(i))
			}
		case token == "=>":
			params := i - 1
			if s.at(params) == ")" {
				params = open[params]
			}
			f := s.assigned(params)
			if s.at(i+1) == "{" {
				s.add(f, i+1, s.closed(i+1))
			} else {
				s.add(f, i, s.expressionEnd(i))
			}
		}
	}
	return s
}

// pair sets s.close, which says for each opening bracket where it is closed. It returns
// the reverse: for each closing bracket, where it was opened.
func (s *script) pair() (open map[int]int) {
	s.close, open = make(map[int]int), make(map[int]int)
	var stack []int
	for i, token := range s.tokens {
		switch token {
		case "(", "[", "{":
			stack = append(stack, i)
		case ")", "]", "}":
			if len(stack) > 0 {
				s.close[stack[len(stack)-1]], open[i] = i, stack[len(stack)-1]
				stack = stack[:len(stack)-1]
			}
		}
	}
	return open
}

func (s *script) add(f function, from, to int) {
	f.from, f.to = from, to
	f.atOnce = s.at(to+1) == "(" || s.at(to+1) == ")" && s.at(to+2) == "("
	s.functions = append(s.functions, f)
}

func (s *script) at(i int) string {
	if i < 0 || i >= len(s.tokens) {
		return ""
	}
	return s.tokens[i]
}

// closed returns where the bracket at i is closed. A bracket that is never closed counts
// as closed at the end of the script.
func (s *script) closed(i int) int {
	if end, ok := s.close[i]; ok {
		return end
	}
	return len(s.tokens)
}

// expressionEnd returns where the expression ends that begins after i.
func (s *script) expressionEnd(i int) int {
	for i++; i < len(s.tokens); i++ {
		switch s.tokens[i] {
		case "(", "[", "{":
			i = s.closed(i)
		case ")", "]", "}", ",", ";":
			return i - 1
		}
	}
	return len(s.tokens)
}

// declared returns the function whose list of parameters begins at params. It returns
// false if the brackets there belong to an if, a loop or the like.
func (s *script) declared(params int) (f function, ok bool) {
	name := s.at(params - 1)
	switch {
	case slices.Contains([]string{"if", "for", "while", "switch", "catch", "with"}, name):
		return f, false
	case name == "function":
		return s.assigned(params - 1), true
	case s.at(params-2) == "function":
		return function{name: name}, true
	}
	return function{name: name, property: true}, true // a method
}

// assigned returns the function that begins at i in an expression, with the name of the
// variable or property that it is assigned to.
func (s *script) assigned(i int) function {
	if s.at(i-1) == "async" {
		i--
	}
	if s.at(i-1) == "=" || s.at(i-1) == ":" {
		return function{name: s.at(i - 2), property: s.at(i-3) == "." || s.at(i-1) == ":"}
	}
	return function{}
}

// tokenize returns the names and signs of a script, without comments, and with ""
// in quotation marks for each string and regular expression.
func tokenize(text string) (out []string) {
	for text != "" {
		skip, token := 1, ""
		switch c := text[0]; {
		case c <= ' ':
		case strings.HasPrefix(text, "//"):
			skip = upTo(text, "\n")
		case strings.HasPrefix(text, "/*"):
			skip = 2 + upTo(text[2:], "*/")
		case c == '"' || c == '\'' || c == '`',
			c == '/' && (len(out) == 0 || strings.ContainsAny(out[len(out)-1][:1], "(,=:[!&|?{};")):
			skip, token = quoted(text), `""`
		default:
			token = sign.FindString(text)
			skip = len(token)
		}
		text = text[min(skip, len(text)):]
		if token != "" {
			out = append(out, token)
		}
	}
	return out
}

// upTo returns how many bytes of text there are up to end, end included.
func upTo(text, end string) int {
	before, _, _ := strings.Cut(text, end)
	return len(before) + len(end)
}

// quoted returns how long the string or regular expression is that text begins with.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case text[0]:
			return i + 1
		}
	}
	return len(text)
}
