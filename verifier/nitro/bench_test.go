package nitro_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
)

// BenchmarkVerifyNitro measures a document with a chain of the real length, and
// the five signatures in it alone.
func BenchmarkVerifyNitro(b *testing.B) {
	l := newLab(b)
	b.Run("document", func(b *testing.B) {
		raw := l.document(b, documenttest.NitroFields{Nonce: nonce})
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		for b.Loop() {
			if _, err := nitro.Verify(raw, nitro.Expectation{Nonce: nonce}, l.trust, noon); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("signatures", func(b *testing.B) {
		leaf, err := l.Issuer[3].Issue(l.Leaf("x"), p384)
		must(b, err)
		chain := []*x509.Certificate{l.Issuer[0].Certificate, l.Issuer[1].Certificate, l.Issuer[2].Certificate, l.Issuer[3].Certificate, leaf.Certificate}
		digest := sha512.Sum384(nonce)
		sig, err := ecdsa.SignASN1(rand.Reader, leaf.Key, digest[:])
		must(b, err)
		b.ReportAllocs()
		for b.Loop() {
			for i, c := range chain[1:] {
				if err := chain[i].CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
					b.Fatal(err)
				}
			}
			if !ecdsa.VerifyASN1(&leaf.Key.PublicKey, digest[:], sig) {
				b.Fatal("the signature does not verify")
			}
		}
	})
}

// BenchmarkRefuseNitro measures what a stranger can make the verifier do with a
// document whose certificates are genuine and public.
func BenchmarkRefuseNitro(b *testing.B) {
	l := newLab(b)
	raw := l.document(b, documenttest.NitroFields{Message: func(m *documenttest.Sign1) { m.Signature = make([]byte, 96) }})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := nitro.Verify(raw, nitro.Expectation{}, l.trust, noon); err == nil {
			b.Fatal("accepted")
		}
	}
}
