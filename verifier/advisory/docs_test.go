package advisory

import (
	"os"
	"strings"
	"testing"
)

// TestDocumented: what costs a machine its zone stands where zones point to.
func TestDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/evidence/advisories.md")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := table()
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range rows {
		for _, r := range list {
			if !strings.Contains(string(doc), r.ID) || !strings.Contains(string(doc), r.Source) {
				t.Errorf("%s or its source is not in the documentation", r.ID)
			}
		}
	}
}
