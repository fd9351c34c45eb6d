package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/cmd/internal/manual"
	"github.com/zonebroker/zonebroker/cmd/internal/manual/manualtest"
)

func TestEveryCommandIsExplained(t *testing.T) {
	root, _ := newRootCmd()
	manualtest.Help(t, root)
	manualtest.Pages(t, root, about())
}

var readsEnvironment = regexp.MustCompile(`Getenv\("(\w+)"\)`)

// TestPageNamesTheEnvironment: what changes how the program runs stands in its
// manual, but for what only test binaries read.
func TestPageNamesTheEnvironment(t *testing.T) {
	root, _ := newRootCmd()
	page := manual.Pages(root, about())[0].Text
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasPrefix(e.Name(), "failpoint") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		source, err := os.ReadFile(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range readsEnvironment.FindAllStringSubmatch(string(source), -1) {
			if !strings.Contains(page, m[1]) {
				t.Errorf("%s reads %s, which the page does not name", e.Name(), m[1])
			}
		}
	}
}
