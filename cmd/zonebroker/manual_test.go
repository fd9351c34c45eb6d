package main

import (
	"testing"

	"github.com/zonebroker/zonebroker/cmd/internal/manual"
	"github.com/zonebroker/zonebroker/cmd/internal/manual/manualtest"
)

func TestEveryCommandIsExplained(t *testing.T) {
	root, _ := newRootCmd()
	manualtest.Help(t, root)
	manualtest.Pages(t, root, about())
}

// TestPageNamesTheEnvironment: what changes how the program runs stands in its
// manual.
func TestPageNamesTheEnvironment(t *testing.T) {
	root, _ := newRootCmd()
	manualtest.Environment(t, manual.Pages(root, about())[0].Text)
}
