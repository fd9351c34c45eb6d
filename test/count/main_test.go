package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCount: what failed is never lost between the lines.
func TestCount(t *testing.T) {
	for _, tt := range []struct {
		name, lines            string
		passed, failed, topics int
		ended                  bool
	}{
		{"a pass", `{"Action":"pass","Package":"p","Test":"A"}`, 1, 0, 0, false},
		{"a test inside one", `{"Action":"fail","Package":"p","Test":"A/b"}
			{"Action":"fail","Package":"p","Test":"A"}
			{"Action":"fail","Package":"p"}
			{"Action":"exit","Output":"1"}`, 0, 2, 1, false},
		{"a package that died", `{"Action":"fail","Package":"p"}`, 0, 1, 0, true},
		{"a run that named nothing", `{"Action":"exit","Output":"2"}`, 0, 1, 0, true},
		{"a run after one that failed", `{"Action":"fail","Package":"p","Test":"A"}
			{"Action":"exit","Output":"1"}
			{"Action":"exit","Output":"1"}`, 0, 2, 1, true},
		{"two runs that passed", `{"Action":"exit","Output":"0"}
			{"Action":"exit","Output":"0"}`, 0, 0, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			c := newTally(&out)
			for line := range strings.Lines(tt.lines) {
				c.take([]byte(strings.TrimSpace(line)))
			}
			if c.passed != tt.passed || c.failed != tt.failed || len(c.failures) != tt.topics || c.ended != tt.ended {
				t.Errorf("passed %d, failed %d, %d tests to try again, ended %v", c.passed, c.failed, len(c.failures), c.ended)
			}
		})
	}
}

// TestRetryLimit: many failures, or a package that died, are not tried again.
func TestRetryLimit(t *testing.T) {
	var out bytes.Buffer
	c := newTally(&out)
	c.failed, c.failures = 2, []failure{{pkg: "p", test: "A", count: 1}, {pkg: "p", test: "B", count: 1}}
	c.retry(1, []string{"false"})
	c.ended = true
	c.retry(5, []string{"false"})
	if c.failed != 2 || out.Len() != 0 {
		t.Errorf("failed %d: %s", c.failed, &out)
	}
}

// TestRetryInAnotherModule: a test is tried again in the module whose run named it,
// where alone go finds its package. One that fails there again has failed.
func TestRetryInAnotherModule(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.test/nested\n\ngo 1.26\n",
		"a_test.go": "package nested\n\nimport \"testing\"\n\n" +
			"func TestSteady(*testing.T) {}\n\nfunc TestBroken(t *testing.T) { t.Fail() }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fail := func(pkg, test string) string {
		return `{"Action":"fail","Package":"` + pkg + `","Test":"` + test + `"}`
	}
	var out bytes.Buffer
	c := newTally(&out)
	for _, line := range []string{
		`{"Action":"exit","Output":"0","Dir":"."}`,
		fail("example.test/nested", "TestSteady"), fail("example.test/nested", "TestBroken"),
		`{"Action":"exit","Output":"1","Dir":"` + dir + `"}`,
	} {
		c.take([]byte(line))
	}
	c.retry(2, []string{"go", "test"})
	if c.passed != 1 || c.failed != 1 || !strings.Contains(out.String(), "UNSTEADY: TestSteady") {
		t.Errorf("passed %d, failed %d: %s", c.passed, c.failed, &out)
	}
}
