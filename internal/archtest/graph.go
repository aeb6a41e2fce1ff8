// Package archtest keeps the shape of this module: which package may import which, and
// that the files of the root package are not tied into knots.
// What is allowed is data, in rules.go.
package archtest

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
)

// Graph says which file of a package uses which others: their types, functions,
// methods, fields, variables and constants. The names stand for why: what is used.
type Graph map[string]map[string][]string

// Files returns the graph of one of the listed packages, without its tests.
func Files(list []Package, path string) (Graph, error) {
	exports := map[string]string{}
	var pkg Package
	for _, p := range list {
		exports[p.ImportPath] = p.Export
		if p.ImportPath == path {
			pkg = p
		}
	}
	fset := token.NewFileSet()
	var files []*ast.File
	g := Graph{}
	for _, name := range pkg.GoFiles {
		f, err := parser.ParseFile(fset, filepath.Join(pkg.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
		g[name] = map[string][]string{}
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})}
	checked, err := conf.Check(path, fset, files, info)
	if err != nil {
		return nil, err
	}
	file := func(p token.Pos) string { return filepath.Base(fset.Position(p).Filename) }
	seen := map[[3]string]bool{}
	for id, used := range info.Uses {
		if used.Pkg() != checked {
			continue
		}
		edge := [3]string{file(id.Pos()), file(used.Pos()), used.Name()}
		if edge[0] != edge[1] && !seen[edge] {
			seen[edge] = true
			g[edge[0]][edge[1]] = append(g[edge[0]][edge[1]], used.Name())
		}
	}
	return g, nil
}
