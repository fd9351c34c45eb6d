package test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

var (
	measured = regexp.MustCompile(`(?m)^tier: [2-4]\b`)
	rulesOut = regexp.MustCompile(`(?m)^  boot: {kexec: denied, hibernation: denied}$`)
)

// TestPolicyTemplates: each document of deploy/policies loads, and those of tier
// 2 and above rule out the kernels that no PCR knows.
func TestPolicyTemplates(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join("..", "deploy", "policies", "*.yaml"))
	must(t, err)
	if len(paths) == 0 {
		t.Fatal("deploy/policies holds no document")
	}
	var docs []policy.File
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		must(t, err)
		if measured.Match(raw) && !rulesOut.Match(raw) {
			t.Errorf("%s is of tier 2 or above and does not rule out kexec and hibernation", path)
		}
		docs = append(docs, policy.File{Name: filepath.Base(path), Bytes: raw})
	}
	if _, problems := policy.Load(docs); len(problems) > 0 {
		t.Errorf("the templates do not load: %v", problems)
	}
}
