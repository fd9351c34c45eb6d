package tpm2_test

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// The cases of the manifest are judged in verifier/conformance.

// TestVectorsInEndorsementHierarchy: the AKs of Azure's vTPMs are endorsement
// primaries with the attributes of tpm.md 1.1, so those captures pass without
// any adapter for the hierarchy: Name and qualified name are what a real TPM
// computes.
func TestVectorsInEndorsementHierarchy(t *testing.T) {
	dir := os.Getenv("ZONEBROKER_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "vectors")
	}
	dir = filepath.Join(dir, "tpm")
	raw, err := os.ReadFile(filepath.Join(dir, "MANIFEST.tsv"))
	if err != nil {
		t.Skipf("no vectors: %s is absent; set ZONEBROKER_VECTORS to run these cases", dir)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	n := 0
	for line := range strings.Lines(string(raw)) {
		f := strings.Split(line, "\t")
		if f[1] != "quote" || f[2] != "accept" || !strings.Contains(f[4], "sigformat=raw") {
			continue
		}
		context := map[string]string{}
		for pair := range strings.SplitSeq(f[4], ";") {
			key, value, _ := strings.Cut(pair, "=")
			context[key] = value
		}
		block, _ := pem.Decode(read(context["ak"]))
		ak, err := tpm2.ParseAK(akFromSPKI(t, block.Bytes))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tpm2.AuthenticateQuote(ak, read(f[0]), tpm2.RawRSASSA(read(context["sig"])), unhex(context["qualifying"])); err != nil {
			t.Errorf("%s: %v", f[0], err)
		}
		n++
	}
	t.Logf("%d quotes ran", n)
}

// akFromSPKI writes the public area that Azure's AKs have.
func akFromSPKI(t *testing.T, der []byte) []byte {
	t.Helper()
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		t.Fatal(err)
	}
	pub := key.(*rsa.PublicKey)
	return public{
		kind: 0x0001, nameAlg: sha256Alg, attributes: akAttributes,
		sym: []uint16{nullAlg}, scheme: []uint16{rsassa, sha256Alg}, bits: uint16(pub.N.BitLen()), x: pub.N.Bytes(),
	}.marshal()
}
