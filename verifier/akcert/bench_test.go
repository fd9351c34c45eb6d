package akcert_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// BenchmarkVerifyAKCertificate measures the document gce.akcert with the
// intermediate that a machine sends along, for both keys of a virtual TPM: the
// certificate and its facts, without the quote. Beside them stand the two
// signatures alone.
func BenchmarkVerifyAKCertificate(b *testing.B) {
	google, err := documenttest.NewGCEAK(noon)
	if err != nil {
		b.Fatal(err)
	}
	trust, err := akcert.NewTrust(akcert.Objects{Roots: [][]byte{google.Roots()}})
	if err != nil {
		b.Fatal(err)
	}
	chain := google.Chain()
	for name, pub := range map[string]crypto.PublicKey{"RSA": rsaKey().Public(), "ECC": newKey(b).Public()} {
		b.Run(name, func(b *testing.B) {
			raw, err := google.Certificate(pub, google.Instance(), nil)
			if err != nil {
				b.Fatal(err)
			}
			spki := spkiOf(b, pub)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw) + len(chain)))
			for b.Loop() {
				c, err := akcert.VerifyInstance(raw, chain, spki, trust, noon)
				if err != nil {
					b.Fatal(err)
				}
				if f := c.Facts(); f.Machine.Name == "" {
					b.Fatal("the certificate names no machine")
				}
			}
		})
	}
	b.Run("signatures", func(b *testing.B) {
		leaf, err := google.Certificate(newKey(b).Public(), google.Instance(), nil)
		if err != nil {
			b.Fatal(err)
		}
		var certs [2]*x509.Certificate
		for i, der := range [][]byte{leaf, chain} {
			if certs[i], err = x509.ParseCertificate(der); err != nil {
				b.Fatal(err)
			}
		}
		root, _ := pem.Decode(google.Roots())
		ca, err := x509.ParseCertificate(root.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			for i, parent := range []*x509.Certificate{certs[1], ca} {
				c := certs[i]
				if err := parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}
