package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// failure is a top-level test that failed, with the tests inside it that did.
type failure struct {
	pkg, test string
	dir       string // of the module, "" for this one: go finds a package from within its module only
	count     int
}

// blame counts a failed test under the top-level test that it belongs to.
func (t *tally) blame(e event) {
	top, _, _ := strings.Cut(e.Test, "/")
	for i := range t.failures {
		if f := &t.failures[i]; f.pkg == e.Package && f.test == top {
			f.count++
			return
		}
	}
	t.failures = append(t.failures, failure{pkg: e.Package, test: top, count: 1})
}

// retry runs what failed once more, where that is little: many failures, or a
// package that died, are no matter of time.
func (t *tally) retry(limit int, command []string) {
	if t.ended || len(t.failures) > limit || len(command) == 0 {
		return
	}
	for _, f := range t.failures {
		fmt.Fprintf(t.out, "once more, alone: %s %s\n", f.pkg, f.test)
		if !t.passesAlone(f, command) {
			continue
		}
		t.failed -= f.count
		t.passed += f.count
		fmt.Fprintf(t.out, "UNSTEADY: %s failed beside the others and passed alone\n", f.test)
	}
}

func (t *tally) passesAlone(f failure, command []string) bool {
	args := append(slices.Clone(command[1:]), "-count=1", "-json", "-run", "^"+f.test+"$", f.pkg)
	cmd := exec.Command(command[0], args...)
	cmd.Dir = f.dir
	cmd.Stderr = os.Stderr
	answer, err := cmd.StdoutPipe()
	if err != nil || cmd.Start() != nil {
		return false
	}
	second := newTally(t.out)
	err = second.read(answer)
	// A test that is not there any more passes nothing.
	return cmd.Wait() == nil && err == nil && second.failed == 0 && second.passed > 0
}
