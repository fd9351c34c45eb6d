// Command count reads the output of go test -json, shows what go test would
// show (one line a package, all of a failed test) and why tests were skipped,
// and closes with the number of tests that passed, failed and were skipped.
//
// With -again, up to so many tests that failed are run once more, each alone, by
// the command that follows, such as go test -race:
// tests that give real processes a time to answer may miss it where a machine
// does something else at that moment. One that passes alone counts as passed and
// is named as unsteady; one that fails twice has failed.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one line of go test -json (go doc test2json). After each run the
// Makefile adds one with Action "exit", the run's exit code as Output and, where it
// was that of another module, the folder of that module as Dir.
type event struct {
	Action, Package, ImportPath, Test, Output, Dir string
}

// tally holds the results and, until a test ends, its output.
type tally struct {
	out                     io.Writer
	output                  map[string]*strings.Builder
	blamed                  map[string]bool // packages in which a test failed
	passed, failed, skipped int

	failures []failure // top-level tests
	ended    bool      // something failed without a test to blame
	seen     int       // failures up to the end of the run before
	placed   int       // of failures, those of which the folder is known
}

func main() {
	again := flag.Int("again", 0, "run up to so many failed tests once more, each alone")
	flag.Parse()
	t := newTally(os.Stdout)
	if err := t.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "count:", err)
		os.Exit(1)
	}
	t.retry(*again, flag.Args())
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

func newTally(out io.Writer) *tally {
	return &tally{out: out, output: map[string]*strings.Builder{}, blamed: map[string]bool{}}
}

func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			t.take(line)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tally) take(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprint(t.out, string(line)) // go's own messages
		return
	}
	key := e.Package + " " + e.Test
	switch {
	case e.Action == "exit":
		t.exit(e)
	case e.Action == "build-output":
		fmt.Fprint(t.out, e.Output)
	case e.Action == "output" && e.Test == "":
		t.packageLine(e.Output)
	case e.Action == "output":
		if t.output[key] == nil {
			t.output[key] = &strings.Builder{}
		}
		t.output[key].WriteString(e.Output)
	case e.Test != "":
		t.end(key, e)
	case e.Action == "fail":
		t.died(e.Package)
	}
}

// exit ends a run: one that failed and blamed nothing counts as a failure.
func (t *tally) exit(e event) {
	if e.Output != "0" && t.failed == t.seen {
		t.failed++
		t.ended = true
		fmt.Fprintf(t.out, "go test ended with %s and named no test\n", e.Output)
	}
	t.seen = t.failed
	for i := range t.failures[t.placed:] {
		t.failures[t.placed+i].dir = e.Dir
	}
	t.placed = len(t.failures)
}

// packageLine drops what says nothing beyond the count.
func (t *tally) packageLine(s string) {
	if s != "PASS\n" && !strings.Contains(s, "[no test files]") {
		fmt.Fprint(t.out, s)
	}
}

func (t *tally) end(key string, e event) {
	text := ""
	if b := t.output[key]; b != nil {
		text = b.String()
	}
	switch e.Action {
	case "pass":
		t.passed++
	case "fail":
		t.failed++
		t.blamed[e.Package] = true
		t.blame(e)
		fmt.Fprint(t.out, text)
	case "skip":
		t.skipped++
		fmt.Fprintf(t.out, "skipped %s: %s\n", e.Test, reason(text))
	default:
		return
	}
	delete(t.output, key)
}

// died counts a package that failed without a test to blame (it does not build,
// or a panic or the timeout ended it), and shows the tests that never ended.
func (t *tally) died(pkg string) {
	if !t.blamed[pkg] {
		t.failed++
		t.ended = true
	}
	for key, b := range t.output {
		if strings.HasPrefix(key, pkg+" ") {
			fmt.Fprint(t.out, b.String())
			delete(t.output, key)
		}
	}
}

// reason returns what a skipped test said last.
func reason(text string) string {
	why := "no reason given"
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			why = line
		}
	}
	return why
}
