package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

var codeName = regexp.MustCompile(`\breason\.([A-Z][A-Za-z0-9]+)\b`)

// TestArchitectureEveryCodeHasATest: a code that shipped code can give stands in
// at least one test too, by its constant or its spelling. That the test would
// fail without the check is what mutations show; that there is none at all shows
// here.
func TestArchitectureEveryCodeHasATest(t *testing.T) {
	byName := constants(t)
	shipped, tested := map[string]string{}, map[string]bool{}
	var tests strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "bin") {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" && filepath.Ext(path) != ".txtar" || strings.Contains(path, "verifier/reason/") {
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		isTest := strings.HasSuffix(path, "_test.go") || filepath.Ext(path) == ".txtar"
		if isTest {
			tests.Write(source)
		}
		for _, m := range codeName.FindAllSubmatch(source, -1) {
			if name := string(m[1]); byName[name] != "" {
				if isTest {
					tested[name] = true
				} else if !strings.HasSuffix(path, "remedy.go") {
					shipped[name] = path
				}
			}
		}
		return nil
	})
	must(t, err)
	var missing []string
	for name, path := range shipped {
		if !tested[name] && !strings.Contains(tests.String(), byName[name]) {
			missing = append(missing, byName[name]+" (given in "+path+")")
		}
	}
	slices.Sort(missing)
	for _, m := range missing {
		t.Errorf("no test names %s", m)
	}
	if len(shipped) < 50 {
		t.Errorf("only %d codes found in shipped code: the search is broken", len(shipped))
	}
	t.Logf("%d codes can be given by shipped code", len(shipped))
}

// constants maps the Go names of the codes to their spelling.
func constants(t *testing.T) map[string]string {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("..", "verifier", "reason", "codes.go"))
	must(t, err)
	out := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\t([A-Z][A-Za-z0-9]+) +Code = "([^"]+)"`).FindAllSubmatch(source, -1) {
		out[string(m[1])] = string(m[2])
		if !reason.Known(reason.Code(m[2])) {
			t.Fatalf("%s is not registered", m[2])
		}
	}
	return out
}
