package main

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tiny runs the tool over the module in testdata with a list of equivalents.
func tiny(t *testing.T, list string, files ...string) *report {
	t.Helper()
	dir, err := filepath.Abs("testdata/tiny")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "list.tsv")
	if err := os.WriteFile(name, []byte(list), 0o600); err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	opts := options{dir: dir, pkgs: []string{"."}, also: []string{"./other"}, files: files, list: rel, workers: 2}
	p, err := load(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := readList(opts)
	if err != nil {
		t.Fatal(err)
	}
	b, err := build(t.Context(), opts, p)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	if err := b.tryAll(t.Context(), p, opts.workers, io.Discard); err != nil {
		t.Fatal(err)
	}
	return judge(p, listed)
}

// survivorsOfTiny is what the tests of the module do not watch.
const survivorsOfTiny = `Admit: move the comparison by one: age > 99
Unwatched: invert the condition: a && b
Unwatched: drop the operand: a
Unwatched: drop the operand: b
`

func lines(r *report) string {
	var out strings.Builder
	for _, m := range r.Survivors {
		out.WriteString(m.Function + ": " + m.Kind + ": " + m.Text + "\n")
	}
	return out.String()
}

func TestSurvivors(t *testing.T) {
	r := tiny(t, "")
	if got := lines(r); got != survivorsOfTiny || r.Clean {
		t.Errorf("survivors:\n%s", got)
	}
	// Admit: if, ||'s two sides, two limits, return. Sum: for, limit, two
	// statements. First: return. pick: case, limit, return; Unwatched: three.
	// Even: if, return.
	if c := r.Total; c.Mutants != 19 || c.Killed != 15 || c.Stuck == 0 || c.Survivors != 4 || c.Equivalent != 0 {
		t.Errorf("%+v", c)
	}
	if m := r.Survivors[0]; m.File != "tiny.go" || m.Line != 9 || m.Reached {
		t.Errorf("%+v", m)
	}
}

func TestList(t *testing.T) {
	list := []string{
		"# a note",
		"tiny.go\tAdmit\tage > 99\tmove the comparison by one\tfor this test",
		"tiny.go\tUnwatched\ta && b\tinvert the condition\tfor this test",
		"tiny.go\tUnwatched\ta\tdrop the operand\tfor this test",
		"tiny.go\tUnwatched\tb\tdrop the operand\tfor this test",
	}
	if r := tiny(t, strings.Join(list, "\n")+"\n"); !r.Clean || r.Total.Equivalent != 4 || r.Total.Survivors != 0 {
		t.Errorf("all are listed, and yet: %+v", r)
	}
	gone := "tiny.go\tAdmit\tage > 98\tmove the comparison by one\tgone"
	dead := "tiny.go\tAdmit\tage < 18\tmove the comparison by one\tkilled"
	elsewhere := "other/x.go\tF\ta\tskip the statement\tof a package that is not tried"
	r := tiny(t, strings.Join(append(list, gone, dead, elsewhere), "\n"))
	if r.Clean || len(r.Stale) != 2 || !strings.HasPrefix(r.Stale[0], "gone: ") || !strings.HasPrefix(r.Stale[1], "killed by example.org/tiny: ") {
		t.Errorf("stale: %q", r.Stale)
	}
}

// TestFiles: of a file that is not asked for nothing is tried, so that nothing
// is said about what is listed of it.
func TestFiles(t *testing.T) {
	live := "tiny.go\tAdmit\tage < 18\tmove the comparison by one\twould be stale if it were tried\n"
	r := tiny(t, live, "more.go")
	if c := r.Total; c.Mutants != 2 || c.Killed != 2 || !r.Clean {
		t.Errorf("%+v, stale: %q", r.Total, r.Stale)
	}
	if _, err := load(t.Context(), options{dir: "testdata/tiny", pkgs: []string{"."}, files: []string{"none.go"}}); err == nil {
		t.Error("a run that tries nothing is no success")
	}
}

func TestBrokenList(t *testing.T) {
	for _, list := range []string{"a\tb\tc\td\n", "a\tb\tc\td\t \n", "a\tb\tc\td\te\tf\n"} {
		name := filepath.Join(t.TempDir(), "list.tsv")
		if err := os.WriteFile(name, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readList(options{dir: filepath.Dir(name), list: "list.tsv"}); err == nil {
			t.Errorf("%q was taken", list)
		}
	}
}

// TestInstrumentedText: nothing moves to another line, and it is Go.
func TestInstrumentedText(t *testing.T) {
	p, err := load(t.Context(), options{dir: "../..", pkgs: []string{"./verifier/..."}})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.mutants) < 1000 {
		t.Errorf("only %d mutants of the verifier", len(p.mutants))
	}
	keys := map[string]bool{}
	for i, m := range p.mutants {
		if m.Number != i+1 || keys[m.key()] {
			t.Errorf("mutant %d has number %d or the key of another: %s", i+1, m.Number, m.key())
		}
		keys[m.key()] = true
	}
	for path, text := range p.sources {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.ParseFile(token.NewFileSet(), path, text, 0); err != nil {
			t.Error(err)
		}
		if bytes.Count(source, []byte("\n")) != bytes.Count(text, []byte("\n")) {
			t.Errorf("%s: lines moved", path)
		}
	}
	for _, of := range p.targets {
		if strings.HasSuffix(of.ImportPath, "evidencetest") {
			t.Error("a test helper is mutated")
		}
	}
}

func TestReport(t *testing.T) {
	m := &mutant{Number: 3, Package: "p", File: "a.go", Line: 4, Function: "F", Kind: skip, Text: "x = 1", state: survived}
	done := &mutant{Number: 4, Package: "p", File: "a.go", Line: 5, Function: "F", Kind: skip, Text: "y = 1", state: killed}
	r := judge(&plan{mutants: []*mutant{m, done}, tried: []*mutant{m, done}}, nil)
	var table, object bytes.Buffer
	if err := r.print(&table, "table"); err != nil {
		t.Fatal(err)
	}
	if want := "a.go:4: skip the statement: x = 1 [F, mutant 3] (no test reaches it)"; !strings.Contains(table.String(), want) {
		t.Errorf("want %q in\n%s", want, &table)
	}
	if err := r.print(&object, "json"); err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(object.Bytes(), &back); err != nil || back.Total.Survivors != 1 || back.Survivors[0].Text != "x = 1" || back.Clean {
		t.Errorf("%v: %s", err, &object)
	}
}

// TestExitCodes runs the command itself.
func TestExitCodes(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "mutate")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	empty := filepath.Join("testdata", "empty.tsv")
	run := func(args ...string) int {
		cmd := exec.CommandContext(t.Context(), bin, args...)
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode()
	}
	common := []string{"-C", "testdata/tiny", "-also", "./other", "-equivalent", "../" + filepath.Base(empty)}
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"-pkgs", "."}, 3},
		{[]string{"-pkgs", ".", "-run", "3"}, 0},
		{[]string{"-pkgs", "./nothing"}, 1},
		{[]string{"-o", "xml"}, 2},
		{[]string{"word"}, 2},
	} {
		if got := run(slices.Concat(common, tt.args)...); got != tt.want {
			t.Errorf("%q: exit %d, want %d", tt.args, got, tt.want)
		}
	}
}
