package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// pkg is a package of the module as go list tells it.
type pkg struct {
	ImportPath, Dir, Name, Export string
	GoFiles                       []string
	TestGoFiles, XTestGoFiles     []string
	DepOnly                       bool
}

func (p pkg) hasTests() bool { return len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 }

// plan is everything that is tried.
type plan struct {
	root    string
	targets []pkg // mutated
	also    []pkg // judge too
	mutants []*mutant
	tried   []*mutant         // those of the files that are asked for
	sources map[string][]byte // instrumented, by absolute path
}

// load finds the packages and makes their mutants. Packages without tests of
// their own are mutated too: whatever is left alive of them by the others' shows.
func load(ctx context.Context, opts options) (*plan, error) {
	root, err := filepath.Abs(opts.dir)
	if err != nil {
		return nil, err
	}
	p := &plan{root: root, sources: map[string][]byte{}}
	listed, err := list(ctx, root, opts.pkgs)
	if err != nil {
		return nil, err
	}
	exports := map[string]string{}
	for _, l := range listed {
		exports[l.ImportPath] = l.Export
		if !l.DepOnly && !isTestHelper(l) {
			p.targets = append(p.targets, l)
		}
	}
	judges, err := list(ctx, root, opts.also)
	if err != nil {
		return nil, err
	}
	for _, l := range judges {
		if !l.DepOnly && l.hasTests() {
			p.also = append(p.also, l)
		}
	}
	if len(p.targets) == 0 {
		return nil, errors.New("no package to mutate")
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, t := range p.targets {
		if err := p.addPackage(fset, imports, t); err != nil {
			return nil, fmt.Errorf("%s: %w", t.ImportPath, err)
		}
	}
	for _, m := range p.mutants {
		if len(opts.files) == 0 || slices.Contains(opts.files, path.Base(m.File)) {
			p.tried = append(p.tried, m)
		}
	}
	if len(p.tried) == 0 {
		return nil, errors.New("no mutant to try")
	}
	return p, nil
}

// isTestHelper: code for tests is no check of the product.
func isTestHelper(p pkg) bool {
	return slices.ContainsFunc(strings.Split(p.ImportPath, "/"), func(s string) bool { return len(s) > 4 && strings.HasSuffix(s, "test") || s == "build" })
}

func list(ctx context.Context, root string, patterns []string) ([]pkg, error) {
	if len(patterns) == 0 {
		return nil, nil
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,Name,Export,GoFiles,TestGoFiles,XTestGoFiles,DepOnly"}, patterns...)...)
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var found []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
}

func (p *plan) addPackage(fset *token.FileSet, imports types.Importer, of pkg) error {
	var files []*ast.File
	sources := map[*ast.File][]byte{}
	for _, name := range of.GoFiles {
		path := filepath.Join(of.Dir, name)
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, source, parser.SkipObjectResolution|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, f)
		sources[f] = source
	}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}
	if _, err := (&types.Config{Importer: imports}).Check(of.ImportPath, fset, files, info); err != nil {
		return err
	}
	for _, f := range files {
		path := fset.Position(f.Package).Filename
		rel, err := filepath.Rel(p.root, path)
		if err != nil {
			return err
		}
		s := &sites{
			file: filepath.ToSlash(rel), fset: fset, source: sources[f], info: info,
			pkg: of.ImportPath, first: len(p.mutants) + 1,
		}
		s.walk(f)
		p.mutants = append(p.mutants, s.mutants...)
		p.sources[path] = s.instrumented()
	}
	return nil
}
