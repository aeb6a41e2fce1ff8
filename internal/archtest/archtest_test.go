package archtest

import (
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// root lists the packages of the root module and what they depend on.
func root(t *testing.T) []Package {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	require.NoError(t, err)
	list, err := List(filepath.Dir(strings.TrimSpace(string(out))), "./...")
	require.NoError(t, err)
	return list
}

// name writes the import path of a package as rules.go does.
func name(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func TestImports(t *testing.T) {
	list := root(t)
	standard := map[string]bool{"C": true, "unsafe": true}
	for _, p := range list {
		standard[p.ImportPath] = standard[p.ImportPath] || p.Standard
	}
	found := map[string][]string{}
	for _, p := range list {
		if p.Module == nil || p.Module.Path != module {
			continue
		}
		all := []string{}
		for _, path := range p.Imports {
			if !standard[path] {
				all = append(all, name(path))
			}
		}
		found[name(p.ImportPath)] = all
	}
	assert.Empty(t, broken(imports, found), "rules.go says who may import whom")
}

// broken says how what was found differs from the rules. A rule that nothing needs any
// more goes too.
func broken(rules, found map[string][]string) (out []string) {
	for _, p := range slices.Sorted(maps.Keys(found)) {
		allowed, ok := rules[p]
		if !ok {
			out = append(out, fmt.Sprintf("%s has no rule", p))
			continue
		}
		for _, path := range found[p] {
			if !slices.Contains(allowed, path) {
				out = append(out, fmt.Sprintf("%s must not import %s", p, path))
			}
		}
		for _, path := range allowed {
			if !slices.Contains(found[p], path) {
				out = append(out, fmt.Sprintf("%s may import %s, and does not", p, path))
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(rules)) {
		if _, ok := found[p]; !ok {
			out = append(out, fmt.Sprintf("there is no package %s", p))
		}
	}
	return out
}

func TestBroken(t *testing.T) {
	rules := map[string][]string{"a": {"b", "c"}, "b": {}, "gone": {}}
	assert.Equal(t, []string{
		"a must not import d", "a may import c, and does not", "b must not import a", "new has no rule", "there is no package gone",
	}, broken(rules, map[string][]string{"a": {"b", "d"}, "b": {"a"}, "new": {}}))
	assert.Empty(t, broken(rules, map[string][]string{"a": {"b", "c"}, "b": {}, "gone": {}}))
}

// TestKnots prints the strongly connected components of the root package's files.
func TestKnots(t *testing.T) {
	g, err := Files(root(t), module)
	require.NoError(t, err)
	require.Greater(t, len(g), 10)
	require.NotEmpty(t, g["uia.go"]["operation.go"], "Engine has operations: the graph works")
	components := g.Components()
	for _, c := range components {
		t.Logf("%d files can be reached from each other: %s", len(c), strings.Join(c, " "))
	}
	for _, c := range components {
		if len(c) > maxKnot {
			t.Errorf("%s are one knot. The uses that tie it:\n%s", strings.Join(c, " "), g.ties(c))
		}
	}
}

// ties lists the uses inside a component.
func (g Graph) ties(component []string) string {
	var out strings.Builder
	for _, from := range component {
		for _, to := range component {
			if why := g[from][to]; len(why) > 0 {
				slices.Sort(why)
				fmt.Fprintf(&out, "\t%s uses of %s: %s\n", from, to, strings.Join(why, " "))
			}
		}
	}
	return out.String()
}

func TestComponents(t *testing.T) {
	edge := func(to ...string) map[string][]string {
		out := map[string][]string{}
		for _, f := range to {
			out[f] = []string{"x"}
		}
		return out
	}
	g := Graph{
		"a": edge("b"), "b": edge("c", "d"), "c": edge("a"), // one circle,
		"d": edge("e"), "e": edge("f"), "f": edge("e"), // another that it leads to,
		"g": edge("a", "f"), "h": edge(), // and what is in none
		"i": edge("j", "k"), "j": edge("l"), "k": edge("j"), "l": edge("i", "k"),
	}
	assert.Equal(t, [][]string{{"i", "j", "k", "l"}, {"a", "b", "c"}, {"e", "f"}}, g.Components())
}
