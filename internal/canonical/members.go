package canonical

import (
	"bytes"
	"iter"
)

// Members returns the members of an object in canonical form, in their order: each
// name with its quotes, and each value.
func Members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		for m := first(object); m.end > 0; m = m.next(object) {
			if !yield(object[m.start:m.colon], object[m.colon+1:m.end]) {
				return
			}
		}
	}
}

// Member returns the value of a member of an object in canonical form, nil if
// there is none. The name must need no escaping.
func Member(object []byte, name string) []byte {
	if m, ok := find(object, name); ok {
		return object[m.colon+1 : m.end]
	}
	return nil
}

// Without returns an object in canonical form without one of its members, and
// that member's value (nil if there is none). The name must need no escaping.
func Without(object []byte, name string) (rest, value []byte) {
	m, ok := find(object, name)
	if !ok {
		return object, nil
	}
	start, end := m.start, m.end
	switch {
	case object[end] == ',': // take the comma behind it along
		end++
	case start > 1: // the last of several: the comma before it
		start--
	}
	rest = make([]byte, 0, len(object)-(end-start))
	return append(append(rest, object[:start]...), object[end:]...), object[m.colon+1 : m.end]
}

func find(object []byte, name string) (span, bool) {
	for m := first(object); m.end > 0; m = m.next(object) {
		if string(object[m.start+1:m.colon-1]) == name {
			return m, true
		}
	}
	return span{}, false
}

// first returns the first member of an object; the zero span if it is empty.
func first(object []byte) span { return memberAt(object, 1) }

// next returns the member that follows; the zero span if none does.
func (m span) next(object []byte) span { return memberAt(object, m.end+1) }

func memberAt(object []byte, pos int) span {
	if pos >= len(object) || object[pos] != '"' {
		return span{}
	}
	colon := skipString(object, pos)
	return span{pos, colon, skip(object, colon+1)}
}

// skip returns the place behind the value that begins at pos.
func skip(canonical []byte, pos int) int {
	switch canonical[pos] {
	case '"':
		return skipString(canonical, pos)
	case '{', '[':
		return skipNested(canonical, pos)
	}
	for pos < len(canonical) && canonical[pos] != ',' && canonical[pos] != '}' && canonical[pos] != ']' {
		pos++ // a number or a word
	}
	return pos
}

func skipString(canonical []byte, pos int) int {
	for pos++; ; {
		end := pos + bytes.IndexByte(canonical[pos:], '"')
		escape := bytes.IndexByte(canonical[pos:end], '\\')
		if escape < 0 {
			return end + 1
		}
		pos += escape + 2 // the escaped character may be a quote
	}
}

// skipNested does not tell braces from brackets: in canonical form they match.
func skipNested(canonical []byte, pos int) int {
	for depth := 0; ; {
		switch canonical[pos] {
		case '"':
			pos = skipString(canonical, pos)
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if pos++; depth == 0 {
			return pos
		}
	}
}
