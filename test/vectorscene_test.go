package test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/eventlog/build"
)

// writeVectors makes what the examples of conformance judge: a log that is as
// its manifest says, a cut one that is not, and a line that calls that meant.
func writeVectors(t *testing.T, scene string) {
	t.Helper()
	dir := filepath.Join(scene, "vectors", "tpm")
	must(t, os.MkdirAll(dir, 0o755))
	log := build.Machine{}.Log().Bytes()
	for name, content := range map[string]string{
		"good.bin": string(log),
		"cut.bin":  string(log[:len(log)-1]),
		"MANIFEST.tsv": "path\tkind\tverdict\tcode\tcontext\n" +
			"good.bin\teventlog\taccept\t\tbank=sha256;check=replay\n" +
			"cut.bin\teventlog\taccept\t\tbank=sha256;check=replay\n",
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	meant := "path\tcontext\twanted\tours\treason\n" +
		"cut.bin\tbank=sha256;check=replay\taccept\teventlog.truncated\tthe manifest calls half a record fine\n"
	must(t, os.WriteFile(filepath.Join(scene, "meant.tsv"), []byte(meant), 0o600))
}
