package flows

import "slices"

// The things that can come of a request.
const (
	right = iota
	wrong
	missing
)

// model is User-Interactive Authentication as the specification tells it.
type model struct {
	flows     [][]string
	anyOrder  bool
	completed []string
	final     bool // the operation has run
}

// expected is what a request has to be answered with.
type expected struct {
	status  int
	errcode string
}

// begins reports whether what is completed is the beginning of the flow, or with
// anyOrder a part of it.
func (m *model) begins(flow []string, completed []string) bool {
	if m.anyOrder {
		return !slices.ContainsFunc(completed, func(typ string) bool { return !slices.Contains(flow, typ) })
	}
	return len(completed) <= len(flow) && slices.Equal(flow[:len(completed)], completed)
}

func (m *model) next(typ string) bool {
	with := append(slices.Clone(m.completed), typ)
	return slices.ContainsFunc(m.flows, func(f []string) bool { return m.begins(f, with) })
}

func (m *model) complete() bool {
	return slices.ContainsFunc(m.flows, func(f []string) bool { return len(f) == len(m.completed) && m.begins(f, m.completed) })
}

// request is a request of the client. An empty typ is a poll.
func (m *model) request(body, typ string, outcome int, wrongCode string) expected {
	switch done := typ == "" || slices.Contains(m.completed, typ); {
	case m.final: // no parameters, and the same user
		return expected{200, ""}
	case !done && !m.next(typ):
		return expected{401, "M_FORBIDDEN"}
	case !done && outcome == missing:
		return expected{401, "M_MISSING_PARAM"}
	case !done && outcome == wrong:
		return expected{401, wrongCode}
	case !done:
		m.completed = append(m.completed, typ)
	}
	if m.complete() {
		m.final = true
		return expected{200, ""}
	}
	return expected{401, ""}
}

// page is what the user submits on the fallback page of a stage.
func (m *model) page(typ string, outcome int) int {
	switch {
	case m.final:
		return 403
	case slices.Contains(m.completed, typ):
		return 200
	case !m.next(typ):
		return 403
	case outcome == missing:
		return 400
	case outcome == wrong:
		return 401
	}
	m.completed = append(m.completed, typ)
	return 200
}
