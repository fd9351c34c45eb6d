package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier"
)

// shownZone is a zone around requirements that a page shows alone.
const shownZone = `apiVersion: zonebroker/v1
kind: Zone
name: shown
tier: 1
selectors: {any: [{format: tpm2}]}
admit: [inventory]
`

// TestEvidencePagesLint: whatever YAML a page of evidence shows is taken by the lint
// of policies, and each format of documents has a page whose zone takes it. What the
// pages of files and of boots refer to stands on them too.
func TestEvidencePagesLint(t *testing.T) {
	pages, err := filepath.Glob("../docs/evidence/*.md")
	must(t, err)
	zones := map[string]string{}
	for _, path := range pages {
		source, err := os.ReadFile(path)
		must(t, err)
		page := strings.TrimSuffix(filepath.Base(path), ".md")
		if !strings.Contains(string(source), "```yaml\n") || page == "ima" || page == "eventlog" { // see TestDocumentedZonesLint
			continue
		}
		for i, text := range blocks(t, "docs/evidence/"+page+".md", "yaml") {
			if strings.HasPrefix(text, "apiVersion: rbac.authorization.k8s.io/") {
				continue // what a cluster is told
			}
			if strings.HasPrefix(text, "requires:") {
				text = shownZone + strings.Replace(text, "requires:\n", "requires:\n  class: A\n  format: [tpm2]\n", 1)
			}
			zones[page] += text
			if _, problems := policy.Load([]policy.File{{Name: fmt.Sprintf("%s-%d.yaml", page, i), Bytes: []byte(text)}}); len(problems) > 0 {
				t.Errorf("%s.md: %v", page, problems)
			}
		}
	}
	for _, format := range verifier.Formats() {
		if verifier.NamedByEK(format) {
			continue
		}
		page := strings.ReplaceAll(format, ".", "-")
		if !strings.Contains(zones[page], "format: ["+format+"]") && !strings.Contains(zones[page], "evidence: {all: ["+format+"]}") {
			t.Errorf("docs/evidence/%s.md has no zone that takes %s", page, format)
		}
	}
}
