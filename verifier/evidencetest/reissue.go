package evidencetest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	encoding_asn1 "encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Reissue replaces the SubjectPublicKeyInfo of a certificate and signs again: for
// keys that crypto/x509 does not write.
func (m *Maker) Reissue(t testing.TB, der, spki []byte) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	whole := cryptobyte.String(c.RawTBSCertificate)
	var content cryptobyte.String
	if !whole.ReadASN1(&content, asn1.SEQUENCE) {
		t.Fatal("no TBSCertificate")
	}
	before, after, ok := bytes.Cut(content, c.RawSubjectPublicKeyInfo)
	if !ok {
		t.Fatal("no SubjectPublicKeyInfo")
	}
	var tbs cryptobyte.Builder
	tbs.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(before)
		b.AddBytes(spki)
		b.AddBytes(after)
	})
	signed := tbs.BytesOrPanic()
	digest := sha256.Sum256(signed)
	sig, err := m.issuerKey.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var out cryptobyte.Builder
	out.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(signed)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}) // ecdsa-with-SHA256
		})
		b.AddASN1BitString(sig)
	})
	return out.BytesOrPanic()
}
