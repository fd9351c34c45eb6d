package main

import (
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
)

// TestConformanceHelpNamesEveryKind: who writes a manifest finds each kind that is
// judged, in lines that a terminal has room for.
func TestConformanceHelpNamesEveryKind(t *testing.T) {
	help := newConformanceCmd().Long
	_, list, found := strings.Cut(help, "The kinds are\n")
	list, _, end := strings.Cut(list, ".\n\n")
	if !found || !end {
		t.Fatalf("no list of kinds: %s", help)
	}
	got := strings.Split(strings.ReplaceAll(list, "\n", " "), ", ")
	if want := conformance.Kinds(); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%v, want %v", got, want)
	}
	for line := range strings.Lines(help) {
		if len(line) > 1+82 {
			t.Errorf("%d columns: %s", len(line)-1, line)
		}
	}
}
