package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestDemo runs the main command of the README to the end of its story, and
// looks that nothing stays behind.
func TestDemo(t *testing.T) {
	r := getRig(t)
	before := demoFolders(t)
	out := r.run(t, r.programs.Environ(), "zonebroker", "demo", "--once", "--yes")
	for _, want := range []string{"zone payments, tier 2", "renewed with a fresh quote", "denied: policy.pcr_mismatch", "history verified"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not say %q:\n%s", want, out)
		}
	}
	if after := demoFolders(t); len(after) > len(before) {
		t.Errorf("the demo left %v", after)
	}
}

func demoFolders(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), "zonebroker-demo-*"))
	must(t, err)
	return found
}

var fence = regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```")

// blocks returns the fenced blocks of a document in one language.
func blocks(t *testing.T, name, language string) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", name))
	must(t, err)
	var out []string
	for _, m := range fence.FindAllStringSubmatch(string(raw), -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no %s block", name, language)
	}
	return out
}

// TestDocumentedZonesLint: the zone that the page shows is one that loads.
func TestDocumentedZonesLint(t *testing.T) {
	var files []policy.File
	for i, b := range blocks(t, "docs/zones.md", "yaml") {
		files = append(files, policy.File{Name: "block" + string(rune('0'+i)) + ".yaml", Bytes: []byte(b)})
	}
	files = append(files, policy.File{Name: "debian-12.yaml", Bytes: []byte("apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: debian-12\nbank: sha256\npcrs: {0: [" + strings.Repeat("00", 32) + "]}\n")})
	if _, problems := policy.Load(files); len(problems) > 0 {
		t.Errorf("docs/zones.md: %v", problems)
	}
}

// TestDocumentedCommandsExist runs --help of every command that the documents
// show, with the flags they show.
func TestDocumentedCommandsExist(t *testing.T) {
	r := getRig(t)
	n := 0
	for _, name := range []string{"README.md", "docs/zones.md"} {
		for _, block := range blocks(t, name, "sh") {
			for line := range strings.Lines(block) {
				f := strings.Fields(line)
				if len(f) == 0 || f[0] != "zonebroker" && f[0] != "zoneagent" {
					continue
				}
				n++
				out, stderr, code := r.try(t, nil, f[0], append(f[1:], "--help")...)
				if code != 0 {
					t.Errorf("%s: %s: exit %d\n%s%s", name, strings.TrimSpace(line), code, out, stderr)
				}
				for _, word := range f[1:] {
					if flag, ok := strings.CutPrefix(word, "--"); ok && !strings.Contains(out, "--"+flag) {
						t.Errorf("%s: %s has no flag --%s", name, strings.Join(f[:3], " "), flag)
					}
				}
			}
		}
	}
	if n == 0 {
		t.Fatal("no command found in the documents")
	}
	t.Logf("%d documented commands looked up", n)
}
