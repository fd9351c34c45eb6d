package platform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
)

// vectorsDir returns the folder of the cloud vectors, or skips with a sentence.
func vectorsDir(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "cloud")
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST.tsv")); err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	return dir
}

// TestVectorsTable: every fingerprint of the table is that of a genuine
// certificate.
func TestVectorsTable(t *testing.T) {
	dir := vectorsDir(t)
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	f := opened(t, filepath.Join(t.TempDir(), "trust"), rows...)
	for _, from := range []string{
		"aws-nitro/root-g1.pem", "aws-iid/awsrsa2048-certs.json", "amd-snp", "intel-tdx/intel-sgx-root.pem", "gcp-ak-cert", "nvidia/device-root.pem", "azure-imds/roots.pem",
	} {
		if _, err := f.Import(filepath.Join(dir, filepath.FromSlash(from)), Importing{Now: noon}); err != nil {
			t.Fatalf("%s: %v", from, err)
		}
	}
	fixed := 0
	for _, r := range rows {
		if len(r.SHA256) == 0 {
			continue
		}
		fixed++
		if o := f.held[r.ID]; o == nil || !f.lists(r.ID, o.content) || o.subject != r.Subject || !o.begins.Equal(r.NotBefore) || !o.content.ends.Equal(r.NotAfter) {
			t.Errorf("%s is not that of the vectors", r.ID)
		}
	}
	t.Logf("%d rows with fingerprints, %d objects taken", fixed, f.Held())
}

// TestVectorsVCEK: genuine VCEKs are known by their extensions, and believed under
// AMD's intermediate; forged ones of the vectors are not.
func TestVectorsVCEK(t *testing.T) {
	dir := filepath.Join(vectorsDir(t), "amd-snp")
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	f := opened(t, filepath.Join(t.TempDir(), "trust"), rows...)
	files, err := filepath.Glob(filepath.Join(dir, "ask_ark_*.pem"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, err := f.Import(file, Importing{Now: noon}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"gosev-milan-vcek.der", "virtee-milan-vcek.der"} {
		got, err := f.Import(filepath.Join(dir, name), Importing{Now: noon})
		if err != nil || len(got) != 1 || got[0].Kind != verifier.TrustVCEK || got[0].Outcome != ImportAdded || !strings.HasPrefix(got[0].Name, "milan-") {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestVectorsCollateral: Intel's own collateral is believed at its time under its
// root, and what was changed in it is not.
func TestVectorsCollateral(t *testing.T) {
	dir := filepath.Join(vectorsDir(t), "intel-tdx")
	rows, err := Table()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2025, 6, 25, 0, 0, 0, 0, time.UTC)
	f := opened(t, filepath.Join(t.TempDir(), "trust"), rows...)
	if _, err := f.Import(filepath.Join(dir, "intel-sgx-root.pem"), Importing{Now: at}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		file string
		at   time.Time
		want string
	}{
		{"neg-collateral-crl-missing.json", at, ""},
		{"neg-collateral-sgx-tcbinfo.json", at, ""},
		{"phala-tdx_quote_collateral.json", at.AddDate(0, 2, 0), "intel.collateral/b0c06f000000=refused"},
		{"phala-tdx_quote_collateral.json", at, "intel.collateral/b0c06f000000=added"},
	} {
		got, err := f.Import(filepath.Join(dir, tc.file), Importing{Now: tc.at})
		if err != nil || imported(got) != tc.want {
			t.Errorf("%s at %s: %+v, %v", tc.file, tc.at.Format(time.DateOnly), got, err)
		}
	}
}
