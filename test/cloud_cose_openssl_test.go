package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/deploy/hostdeps"
	"github.com/zonebroker/zonebroker/deploy/hostdeps/hostdepstest"
	"github.com/zonebroker/zonebroker/verifier/cose"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
)

// nitroDocument is a document with what a foreign reader needs of it.
type nitroDocument struct {
	raw, root []byte // root in PEM
	at        time.Time
}

// TestOpenSSLOnNitro lets OpenSSL judge what Zonebroker judges: the chain at its
// time, and the signature over the bytes that COSE says are signed, which another
// encoder writes here. One document is of a test PKI, and one of AWS where the
// vectors are at hand.
func TestOpenSSLOnNitro(t *testing.T) {
	openssl := hostdepstest.Program(t, hostdeps.OpenSSL, "openssl")
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pki, err := documenttest.NewNitroPKI(at)
	must(t, err)
	raw, err := pki.Document(documenttest.NitroFields{Nonce: bytes.Repeat([]byte{1}, 32)})
	must(t, err)
	documents := map[string]nitroDocument{"test PKI": {raw, pki.RootPEM(), at}}
	folder := os.Getenv("ZONEBROKER_VECTORS")
	if folder == "" {
		folder = filepath.Join("..", "..", "shared", "vectors")
	}
	folder = filepath.Join(folder, "cloud", "aws-nitro")
	if real, err := os.ReadFile(filepath.Join(folder, "ev-beta-valid.cose")); err == nil {
		root, err := os.ReadFile(filepath.Join(folder, "root-g1.pem"))
		must(t, err)
		documents["AWS"] = nitroDocument{real, root, time.Date(2022, 10, 13, 8, 58, 2, 0, time.UTC)}
	}
	for name, d := range documents {
		t.Run(name, func(t *testing.T) { d.compare(t, openssl) })
	}
}

func (d nitroDocument) compare(t *testing.T, openssl string) {
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, b, 0o600))
		return path
	}
	run := func(args ...string) bool { return exec.Command(openssl, args...).Run() == nil }
	parts, err := cose.Elements(d.raw)
	must(t, err)
	protected, err := cose.String(parts[0])
	must(t, err)
	signature, err := cose.String(parts[3])
	must(t, err)
	message, err := cose.Parse(d.raw, cose.ES384)
	must(t, err)
	content, err := cose.Decode(message.Payload())
	must(t, err)
	leafDER, err := content.Bytes("certificate")
	must(t, err)
	leaf, err := x509.ParseCertificate(leafDER)
	must(t, err)
	spki, err := x509.MarshalPKIXPublicKey(leaf.PublicKey)
	must(t, err)
	key := write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))

	// The signature, and each of a few bytes of what is signed changed.
	der := write("signature", asn1Signature(t, signature))
	for _, change := range []int{-1, 0, 10, len(message.Payload()) / 2, len(message.Payload()) - 1} {
		payload := bytes.Clone(message.Payload())
		if change >= 0 {
			payload[change] ^= 4
		}
		signed := write("signed", documenttest.SigStructure(protected, payload))
		theirs := run("dgst", "-sha384", "-verify", key, "-signature", der, signed)
		changed, err := cose.Parse(documenttest.Sign1{Payload: payload, Signature: signature, Protected: map[any]any{1: -35}}.Bytes(), cose.ES384)
		must(t, err)
		ours := changed.Verify(leaf.PublicKey.(*ecdsa.PublicKey)) == nil
		if theirs != ours || ours != (change < 0) {
			t.Errorf("byte %d changed: OpenSSL says %t, Zonebroker %t", change, theirs, ours)
		}
	}

	// The chain, at its time and three hours later.
	var bundle []byte
	issuers, err := content.Array("cabundle")
	must(t, err)
	for _, v := range issuers[1:] {
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.([]byte)})...)
	}
	roots, chain := write("root.pem", d.root), write("chain.pem", bundle)
	file := write("leaf.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leafDER}))
	trust, err := nitro.NewTrust(d.root)
	must(t, err)
	for _, late := range []time.Duration{0, 4 * time.Hour} {
		at := d.at.Add(late)
		theirs := run("verify", "-no-CApath", "-no-CAfile", "-no-CAstore", "-attime", strconv.FormatInt(at.Unix(), 10), "-CAfile", roots, "-untrusted", chain, file)
		_, err := nitro.Verify(d.raw, nitro.Expectation{}, trust, at)
		if theirs != (late == 0) || theirs != (err == nil) {
			t.Errorf("%s late: OpenSSL says %t, Zonebroker %v", late, theirs, err)
		}
	}
}

// asn1Signature writes r and s as OpenSSL reads them.
func asn1Signature(t *testing.T, raw []byte) []byte {
	t.Helper()
	half := len(raw) / 2
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
	must(t, err)
	return der
}
