package conformance_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/conformance"
)

// overrides lists the differences that are meant.
const overrides = "../../test/vectors/OVERRIDES.tsv"

// vectorsDir returns the folder of the TPM vectors, or skips with a sentence.
func vectorsDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	if _, err := os.Stat(filepath.Join(dir, conformance.Manifest)); err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	return dir
}

// TestVectors judges every case of the TPM vectors. What differs on purpose has
// a line in test/vectors/OVERRIDES.tsv.
func TestVectors(t *testing.T) {
	raw, err := os.ReadFile(overrides)
	if err != nil {
		t.Fatal(err)
	}
	meant, err := conformance.ParseOverrides(overrides, raw)
	if err != nil {
		t.Fatal(err)
	}
	report, err := conformance.Run(os.DirFS(vectorsDir(t)), meant)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range report.Differences() {
		t.Errorf("line %d %s %s [%s]: want %s, got %s %s %v", d.Line, d.Kind, d.Path, d.Context, d.Wanted, d.Got, d.Detail, d.Facts)
	}
	for _, total := range report.Totals() {
		t.Logf("%-9s %-7s %3d ran", total.Kind, total.Verdict, total.Cases)
	}
	for _, r := range report.Results {
		if r.Note != "" {
			t.Logf("%s: %s", r.Path, r.Note)
		}
	}
}

// TestCloudVectors judges every case of the cloud vectors. A kind without a
// verifier is an error too: a manifest that grew would else have cases that
// nobody runs.
func TestCloudVectors(t *testing.T) {
	dir := filepath.Join(filepath.Dir(vectorsDir(t)), "cloud")
	report, err := conformance.Run(os.DirFS(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Status != conformance.Same {
			t.Errorf("line %d %s %s [%s]: %s, want %s, got %s %s %v", r.Line, r.Kind, r.Path, r.Context, r.Status, r.Wanted, r.Got, r.Detail, r.Facts)
		}
		if r.Note != "" {
			t.Logf("%s: %s", r.Path, r.Note)
		}
	}
	t.Logf("%d cases ran", len(report.Results))
	if len(report.Results) == 0 {
		t.Error("no case ran")
	}
}
