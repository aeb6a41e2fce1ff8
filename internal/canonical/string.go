package canonical

import (
	"bytes"
	"encoding/json"
	"unicode/utf16"
	"unicode/utf8"
)

// string reads a string whose opening quote comes next.
func (p *parser) string() error {
	p.pos++
	p.out = append(p.out, '"')
	for {
		start := p.pos // copy what needs no change in one piece
		for p.pos < len(p.src) {
			c := p.src[p.pos]
			if c == '"' || c == '\\' || c < 0x20 || c >= utf8.RuneSelf {
				break
			}
			p.pos++
		}
		p.out = append(p.out, p.src[start:p.pos]...)
		if p.pos == len(p.src) {
			return ErrSyntax
		}
		switch c := p.src[p.pos]; {
		case c == '"':
			p.pos++
			p.out = append(p.out, '"')
			return nil
		case c == '\\':
			r, ok := p.escape()
			if !ok {
				return ErrSyntax
			}
			p.out = appendRune(p.out, r)
		case c < 0x20:
			return ErrSyntax
		default:
			r, size := utf8.DecodeRune(p.src[p.pos:])
			if r == utf8.RuneError && size == 1 {
				return ErrSyntax
			}
			p.out = append(p.out, p.src[p.pos:p.pos+size]...)
			p.pos += size
		}
	}
}

// escape reads an escape sequence. Half a surrogate pair is not a character.
func (p *parser) escape() (rune, bool) {
	p.pos++
	if p.pos == len(p.src) {
		return 0, false
	}
	c := p.src[p.pos]
	p.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		r, ok := p.hex4()
		if !ok || !utf16.IsSurrogate(r) {
			return r, ok
		}
		if !bytes.HasPrefix(p.src[p.pos:], []byte(`\u`)) {
			return 0, false
		}
		p.pos += 2
		low, ok := p.hex4()
		r = utf16.DecodeRune(r, low)
		return r, ok && r != utf8.RuneError
	}
	return 0, false
}

func (p *parser) hex4() (rune, bool) {
	if len(p.src)-p.pos < 4 {
		return 0, false
	}
	var r rune
	for _, c := range p.src[p.pos : p.pos+4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	p.pos += 4
	return r, true
}

// appendRune appends a character of a string as the canonical form writes it.
func appendRune(out []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(out, '\\', byte(r))
	case r < 0x20:
		return append(out, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
	}
	return utf8.AppendRune(out, r)
}

// AppendString appends s as a JSON string.
func AppendString(out []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			encoded, _ := json.Marshal(s)
			return append(out, encoded...)
		}
	}
	return append(append(append(out, '"'), s...), '"')
}
