package eventlog_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The cases of the manifest are judged in verifier/conformance; what stands here
// finds its logs.
type vector struct {
	path, verdict, code string
	context             map[string]string
}

func vectors(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			tb.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
				break
			}
			if root == filepath.Dir(root) {
				tb.Fatal("no go.mod above the test's folder")
			}
			root = filepath.Dir(root)
		}
		dir = filepath.Join(root, "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	if _, err := os.Stat(dir); err != nil {
		tb.Skip("no test vectors: set ZONEBROKER_VECTORS to the folder that holds them")
	}
	return dir
}

func manifest(tb testing.TB, dir, kind string) []vector {
	tb.Helper()
	f, err := os.Open(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var rows []vector
	for s := bufio.NewScanner(f); s.Scan(); {
		c := strings.Split(s.Text(), "\t")
		if c[1] != kind {
			continue
		}
		v := vector{path: c[0], verdict: c[2], code: c[3], context: map[string]string{}}
		for pair := range strings.SplitSeq(c[4], ";") {
			key, value, _ := strings.Cut(pair, "=")
			v.context[key] = value
		}
		rows = append(rows, v)
	}
	return rows
}
