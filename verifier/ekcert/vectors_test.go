package ekcert_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
)

// vectorDir returns the folder of the TPM vectors, or skips with a sentence.
func vectorDir(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	if _, err := os.Stat(filepath.Join(dir, "MANIFEST.tsv")); err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	return dir
}

func readFile(t testing.TB, path ...string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fromPEM returns the DER of a file that may be PEM.
func fromPEM(b []byte) []byte {
	if block, _ := pem.Decode(b); block != nil {
		return block.Bytes
	}
	return b
}

// judge verifies one capture by the context of its row.
func judge(t *testing.T, dir, path, context string) (ekcert.Certificate, error) {
	t.Helper()
	raw := fromPEM(readFile(t, dir, path))
	now := time.Time{}
	var bundles [][]byte
	for _, pair := range strings.Split(context, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "time":
			at, err := time.Parse(time.RFC3339, value)
			if err != nil {
				t.Fatal(err)
			}
			now = at
		case "roots":
			for _, name := range strings.Split(value, ",") {
				bundles = append(bundles, readFile(t, dir, name))
			}
		}
	}
	roots, err := ekcert.NewRoots(bundles...)
	if err != nil {
		t.Fatal(err)
	}
	return ekcert.Verify(raw, nil, ownKey(raw), roots, ekcert.Options{}, now)
}

// ownKey returns the subject key of a certificate, nil where there is none.
func ownKey(raw []byte) []byte {
	spki, err := ekcert.SubjectKey(raw)
	if err != nil {
		return nil
	}
	return spki
}

// TestVectorsFacts: what comes out of accepted captures.
func TestVectorsFacts(t *testing.T) {
	dir := vectorDir(t)
	at := "time=2023-06-01T00:00:00Z;roots="
	loic := "loicsikidi+tpm-ca-certificates/MIRROR.tpm-ca-certificates.pem,loicsikidi+tpm-ca-certificates/MIRROR.tpm-intermediate-ca-certificates.pem"
	for _, c := range []struct{ path, context, manufacturer, model, version string }{
		{"google+go-tpm-tools/uca_tpm_rsa_enc_cert.pem", at + "google+go-tpm-tools/tpm_ek_root_1.cer,google+go-tpm-tools/tpm_ek_intermediate_3.crt", "GOOG", "vTPM", "id:20160511"},
		{"keylime+keylime/malformed-nuvoton.der", at + loic, "NTC", "NPCT75x", "id:00070002"},
		{"keylime+keylime/st_sha256_with_rsa.der", at + loic, "STM", "ST33HTPHAHB4", "id:00490004"},
	} {
		cert, err := judge(t, dir, c.path, c.context)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		if cert.Manufacturer() != c.manufacturer || cert.Model() != c.model || cert.FirmwareVersion() != c.version {
			t.Errorf("%s: %s %s %s", c.path, cert.Manufacturer(), cert.Model(), cert.FirmwareVersion())
		}
		if _, err := x509.ParseCertificate(cert.Raw()); err != nil {
			t.Errorf("%s: Raw() does not parse: %v", c.path, err)
		}
	}
}

// TestVectorsRoots: the published bundles of manufacturer CAs load as they are.
func TestVectorsRoots(t *testing.T) {
	dir := vectorDir(t)
	var bundles [][]byte
	for line := range strings.Lines(string(readFile(t, dir, "MANIFEST.tsv"))) {
		if f := strings.Split(line, "\t"); len(f) > 2 && f[1] == "trust" {
			bundles = append(bundles, readFile(t, dir, f[0]))
		}
	}
	roots, err := ekcert.NewRoots(bundles...)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d files, %d trust anchors", len(bundles), roots.Len())
}
