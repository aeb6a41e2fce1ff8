// Package canonical brings JSON objects into one canonical form: sorted members, no white
// space, one way to escape a string, numbers as they were written. Two objects that mean
// the same then have the same bytes, whatever a client does between its requests, and
// code that uses this package never sees a duplicate member, invalid UTF-8 or half a
// surrogate pair, which JSON decoders read differently.
package canonical

import (
	"bytes"
	"errors"
)

// maxDepth bounds how deeply arrays and objects nest.
const maxDepth = 64

// maxMembers bounds how many members all objects of a body have together. Sorting
// thousands of them costs a hundred times as much as an ordinary body, and a client that
// sends them has proved nothing yet.
const maxMembers = 256

// Why [Object] refuses.
var (
	ErrSyntax    = errors.New("canonical: not valid JSON")
	ErrNotObject = errors.New("canonical: not a JSON object")
	ErrDuplicate = errors.New("canonical: an object has two members of the same name")
	ErrDepth     = errors.New("canonical: nested too deeply")
	ErrMembers   = errors.New("canonical: too many members")
)

// Object returns the canonical form of a JSON object, in memory of its own. An
// empty body counts as an empty object. An error is one of those above.
func Object(body []byte) ([]byte, error) {
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
		return nil, ErrSyntax
	}
	if p.out[0] != '{' {
		return nil, ErrNotObject
	}
	return p.out, nil
}

// parser reads src from pos on and appends its canonical form to out.
type parser struct {
	src   []byte
	pos   int
	out   []byte
	depth int
	count int    // of the members so far
	spans []span // the members of the objects that are open
	array [16]span
	moved []byte // room for sorting
}

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
		return ErrSyntax
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
	return ErrSyntax
}

func (p *parser) nested(read func(*parser) error) error {
	if p.depth++; p.depth > maxDepth {
		return ErrDepth
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
			return ErrSyntax
		}
		p.out = append(p.out, ',')
	}
}

func (p *parser) number() error {
	start := p.pos
	p.one('-', '-')
	if !p.one('0', '0') && !p.digits() {
		return ErrSyntax
	}
	if p.one('.', '.') && !p.digits() {
		return ErrSyntax
	}
	if p.one('e', 'E') {
		p.one('+', '-')
		if !p.digits() {
			return ErrSyntax
		}
	}
	p.out = append(p.out, p.src[start:p.pos]...)
	return nil
}

// one consumes either of two characters.
func (p *parser) one(a, b byte) bool {
	if p.pos == len(p.src) || p.src[p.pos] != a && p.src[p.pos] != b {
		return false
	}
	p.pos++
	return true
}

// digits consumes digits, and reports whether there are any.
func (p *parser) digits() bool {
	start := p.pos
	for p.pos < len(p.src) && '0' <= p.src[p.pos] && p.src[p.pos] <= '9' {
		p.pos++
	}
	return p.pos > start
}
