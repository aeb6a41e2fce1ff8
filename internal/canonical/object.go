package canonical

import (
	"bytes"
	"slices"
)

// span is one member in out: "name":value
type span struct{ start, colon, end int }

// object reads the members of an object whose opening brace has been read.
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
		if p.count++; p.count > maxMembers {
			return ErrMembers
		}
		m := span{start: len(p.out)}
		if p.space(); p.pos == len(p.src) || p.src[p.pos] != '"' {
			return ErrSyntax
		}
		if err := p.string(); err != nil {
			return err
		}
		if !p.next(':') {
			return ErrSyntax
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
			return ErrSyntax
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
			return ErrDuplicate
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
