package archtest

import (
	"cmp"
	"maps"
	"slices"
)

// Components returns the strongly connected components of the graph that have more than
// one file, the largest first: each file of one can be reached from each other.
func (g Graph) Components() [][]string {
	t := tarjan{g: g, index: map[string]int{}, low: map[string]int{}}
	for _, v := range slices.Sorted(maps.Keys(g)) {
		if t.index[v] == 0 {
			t.visit(v)
		}
	}
	slices.SortStableFunc(t.found, func(a, b []string) int { return cmp.Compare(len(b), len(a)) })
	return t.found
}

// tarjan is the state of Tarjan's algorithm.
type tarjan struct {
	g          Graph
	index, low map[string]int // from 1
	stack      []string
	found      [][]string
}

func (t *tarjan) visit(v string) {
	t.index[v] = len(t.index) + 1
	t.low[v] = t.index[v]
	t.stack = append(t.stack, v)
	for _, w := range slices.Sorted(maps.Keys(t.g[v])) {
		if t.index[w] == 0 {
			t.visit(w)
			t.low[v] = min(t.low[v], t.low[w])
		} else if slices.Contains(t.stack, w) {
			t.low[v] = min(t.low[v], t.index[w])
		}
	}
	if t.low[v] != t.index[v] {
		return
	}
	at := slices.Index(t.stack, v)
	component := slices.Sorted(slices.Values(t.stack[at:]))
	t.stack = t.stack[:at]
	if len(component) > 1 {
		t.found = append(t.found, component)
	}
}
