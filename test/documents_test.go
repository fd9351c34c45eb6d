package test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/broker/policy"
)

// TestDemo runs the main command of the README to the end of its story, and
// looks that nothing stays behind.
func TestDemo(t *testing.T) {
	r := getRig(t)
	before := demoFolders(t)
	out := r.run(t, r.programs.Environ(), "zonebroker", "demo", "--once", "--yes")
	if diff := cmp.Diff(shape(blocks(t, "README.md", "text")[0]), shape(out)); diff != "" {
		t.Errorf("the README shows another demo (-README +demo):\n%s", diff)
	}
	if after := demoFolders(t); len(after) > len(before) {
		t.Errorf("the demo left %v", after)
	}
}

// shape is an output without what differs from run to run. A document may cut a
// long value with an ellipsis.
func shape(text string) string {
	for _, v := range []struct{ pattern, as string }{
		{`\S+/pg,`, "DIR/pg,"},
		{`/node/[a-z2-7]+…?`, "/node/NODE"},
		{`[0-9a-f]{8}(-[0-9a-f]{4,})+…?`, "ID"},
		{`\b[0-9a-f]{12,}…?`, "HASH"},
		{` *[0-9]+\.[0-9]s`, "TIME"},
		{`\d\d:\d\d:\d\dZ`, "CLOCK"},
		{`127\.0\.0\.1:\d+`, "ADDRESS"},
		{`p50 \d+ ms, p99 \d+ ms`, "LATENCY"},
		{`(?m)^.*TIME    … .*\n`, ""}, // of a slow machine
	} {
		text = regexp.MustCompile(v.pattern).ReplaceAllString(text, v.as)
	}
	return text
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

// TestDocumentedZonesLint: the zones and file sets that the pages show load.
func TestDocumentedZonesLint(t *testing.T) {
	reference := policy.File{Name: "debian-12.yaml", Bytes: []byte("apiVersion: zonebroker/v1\nkind: ReferenceSet\nname: debian-12\nbank: sha256\npcrs: {0: [" + strings.Repeat("00", 32) + "]}\n")}
	learnt := policy.File{Name: "files.yaml", Bytes: []byte("apiVersion: zonebroker/v1\nkind: FileSet\nname: debian-12-files\npaths: ['/usr/.*']\n")}
	measured := []policy.File{reference, learnt}
	for i, b := range blocks(t, "docs/evidence/ima.md", "yaml") {
		measured = append(measured, policy.File{Name: "ima" + string(rune('0'+i)) + ".yaml", Bytes: []byte(b)})
	}
	if _, problems := policy.Load(measured); len(problems) > 0 {
		t.Errorf("docs/evidence/ima.md: %v", problems)
	}
	var booted []policy.File
	for i, b := range blocks(t, "docs/evidence/eventlog.md", "yaml") {
		booted = append(booted, policy.File{Name: "boot" + string(rune('0'+i)) + ".yaml", Bytes: []byte(b)})
	}
	if _, problems := policy.Load(booted); len(problems) > 0 {
		t.Errorf("docs/evidence/eventlog.md: %v", problems)
	}
	var files []policy.File
	for i, b := range blocks(t, "docs/zones.md", "yaml") {
		files = append(files, policy.File{Name: "block" + string(rune('0'+i)) + ".yaml", Bytes: []byte(b)})
	}
	files = append(files, reference)
	if _, problems := policy.Load(files); len(problems) > 0 {
		t.Errorf("docs/zones.md: %v", problems)
	}
}

var testName = regexp.MustCompile("`(Test\\w+)`")

// TestDocumentedTestsExist: the page that says what proves an invariant names
// tests that are there.
func TestDocumentedTestsExist(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "ARCHITECTURE.md"))
	must(t, err)
	var code strings.Builder
	must(t, filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		raw, err := os.ReadFile(path)
		code.Write(raw)
		return err
	}))
	named := testName.FindAllStringSubmatch(string(page), -1)
	if len(named) < 12 {
		t.Errorf("the page names %d tests", len(named))
	}
	for _, m := range named {
		if !strings.Contains(code.String(), "\nfunc "+m[1]+"(t *testing.T)") {
			t.Errorf("ARCHITECTURE.md names %s, which does not exist", m[1])
		}
	}
}

var span = regexp.MustCompile("`(zonebroker [^`]+)`")

// commandsIn returns the command lines of a document: of docs/questions.md those
// that stand in its text.
func commandsIn(t *testing.T, name string) []string {
	t.Helper()
	if name != "docs/questions.md" {
		return blocks(t, name, "sh")
	}
	text, err := os.ReadFile(filepath.Join("..", name))
	must(t, err)
	var out []string
	for _, m := range span.FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestDocumentedCommandsExist runs --help of every command that the documents
// show, with the flags they show.
func TestDocumentedCommandsExist(t *testing.T) {
	r := getRig(t)
	n := 0
	for _, name := range []string{"README.md", "docs/zones.md", "docs/questions.md", "docs/trust.md", "docs/evidence/ima.md", "docs/evidence/eventlog.md", "docs/evidence/ekcert.md", "docs/evidence/collecting.md"} {
		for _, block := range commandsIn(t, name) {
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
