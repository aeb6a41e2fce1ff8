package uia

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/matrix-org/gomatrixserverlib/spec"
)

// Request bodies are brought into one canonical form when they come in: sorted
// members, no white space, one way to escape a string, numbers as they were
// written. Two bodies that mean the same then have the same digest, whatever a
// client does between its legs, and nothing behind this file meets a duplicate
// member, invalid UTF-8 or half a surrogate pair, which JSON decoders read
// differently.

// maxDepth bounds how deeply arrays and objects nest.
const maxDepth = 64

var (
	errNotJSON    = NewError(http.StatusBadRequest, spec.NotJSON("The request body is not valid JSON."))
	errNotObject  = NewError(http.StatusBadRequest, spec.BadJSON("The request body is not a JSON object."))
	errDuplicate  = NewError(http.StatusBadRequest, spec.BadJSON("An object has two members of the same name."))
	errTooDeep    = NewError(http.StatusBadRequest, spec.BadJSON("The request body is nested too deeply."))
	errBadAuth    = NewError(http.StatusBadRequest, spec.BadJSON("The member auth is not an object."))
	errBadType    = NewError(http.StatusBadRequest, spec.BadJSON("The member type of auth is not a string."))
	errBadSession = NewError(http.StatusBadRequest, spec.BadJSON("The member session of auth is not a string."))
)

// canonicalObject returns the canonical form of a JSON object, or an *Error. An
// empty body counts as an empty object.
func canonicalObject(body []byte) ([]byte, error) {
	p := parser{src: body, out: make([]byte, 0, len(body)+8)}
	p.space()
	if p.pos == len(p.src) {
		return append(p.out, "{}"...), nil
	}
	if err := p.value(); err != nil {
		return nil, err
	}
	p.space()
	if p.pos != len(p.src) {
		return nil, errNotJSON
	}
	if p.out[0] != '{' {
		return nil, errNotObject
	}
	return p.out, nil
}

// parser reads src from pos on and appends its canonical form to out.
type parser struct {
	src   []byte
	pos   int
	out   []byte
	depth int
	spans []span // the members of the objects that are open
	array [16]span
	moved []byte // room for sorting
}

// span is one member in out: "name":value
type span struct{ start, colon, end int }

func (p *parser) space() {
	for p.pos < len(p.src) {
		switch p.src[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// next skips white space and consumes c if it comes next.
func (p *parser) next(c byte) bool {
	p.space()
	if p.pos < len(p.src) && p.src[p.pos] == c {
		p.pos++
		return true
	}
	return false
}

func (p *parser) value() error {
	p.space()
	if p.pos == len(p.src) {
		return errNotJSON
	}
	switch c := p.src[p.pos]; {
	case c == '{':
		return p.nested((*parser).object)
	case c == '[':
		return p.nested((*parser).list)
	case c == '"':
		return p.string()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(p.src[p.pos:], []byte(word)) {
			p.pos += len(word)
			p.out = append(p.out, word...)
			return nil
		}
	}
	return errNotJSON
}

func (p *parser) nested(read func(*parser) error) error {
	if p.depth++; p.depth > maxDepth {
		return errTooDeep
	}
	p.out = append(p.out, p.src[p.pos])
	p.pos++
	err := read(p)
	p.depth--
	return err
}

func (p *parser) list() error {
	if p.next(']') {
		p.out = append(p.out, ']')
		return nil
	}
	for {
		if err := p.value(); err != nil {
			return err
		}
		if p.next(']') {
			p.out = append(p.out, ']')
			return nil
		}
		if !p.next(',') {
			return errNotJSON
		}
		p.out = append(p.out, ',')
	}
}

func (p *parser) object() error {
	if p.next('}') {
		p.out = append(p.out, '}')
		return nil
	}
	if p.spans == nil {
		p.spans = p.array[:0]
	}
	base := len(p.spans)
	for {
		m := span{start: len(p.out)}
		if p.space(); p.pos == len(p.src) || p.src[p.pos] != '"' {
			return errNotJSON
		}
		if err := p.string(); err != nil {
			return err
		}
		if !p.next(':') {
			return errNotJSON
		}
		m.colon = len(p.out)
		p.out = append(p.out, ':')
		if err := p.value(); err != nil {
			return err
		}
		m.end = len(p.out)
		p.out = append(p.out, ',')
		p.spans = append(p.spans, m)
		if p.next('}') {
			break
		}
		if !p.next(',') {
			return errNotJSON
		}
	}
	if err := p.sort(p.spans[base:]); err != nil {
		return err
	}
	p.spans = p.spans[:base]
	p.out[len(p.out)-1] = '}' // in place of the last comma
	return nil
}

// sort brings the members of one object, which end out, into the order of their
// names.
func (p *parser) sort(members []span) error {
	name := func(m span) []byte { return p.out[m.start:m.colon] }
	order := func(a, b span) int { return bytes.Compare(name(a), name(b)) }
	sorted := slices.IsSortedFunc(members, order)
	first := members[0].start
	if !sorted {
		slices.SortFunc(members, order)
	}
	for i := 1; i < len(members); i++ {
		if bytes.Equal(name(members[i-1]), name(members[i])) {
			return errDuplicate
		}
	}
	if !sorted {
		p.moved = p.moved[:0]
		for _, m := range members {
			p.moved = append(append(p.moved, p.out[m.start:m.end]...), ',')
		}
		copy(p.out[first:], p.moved)
	}
	return nil
}

func (p *parser) number() error {
	digits := func() bool {
		start := p.pos
		for p.pos < len(p.src) && '0' <= p.src[p.pos] && p.src[p.pos] <= '9' {
			p.pos++
		}
		return p.pos > start
	}
	at := func(set string) bool {
		if p.pos < len(p.src) && bytes.IndexByte([]byte(set), p.src[p.pos]) >= 0 {
			p.pos++
			return true
		}
		return false
	}
	start := p.pos
	at("-")
	if !at("0") && !digits() {
		return errNotJSON
	}
	if at(".") && !digits() {
		return errNotJSON
	}
	if at("eE") {
		at("+-")
		if !digits() {
			return errNotJSON
		}
	}
	p.out = append(p.out, p.src[start:p.pos]...)
	return nil
}
