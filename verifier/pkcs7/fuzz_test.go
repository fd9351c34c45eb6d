package pkcs7_test

import (
	"bytes"
	"crypto/elliptic"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
)

func curve() elliptic.Curve { return elliptic.P256() }

// FuzzParse: whatever comes in, nothing but what was signed comes out, and what a
// message claims of its lengths reserves nothing.
func FuzzParse(f *testing.F) {
	s := signer(0, 5)
	for _, open := range []bool{false, true} {
		f.Add(documenttest.PKCS7(documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}, Indefinite: open}), open, false)
	}
	f.Add(documenttest.PKCS7(documenttest.Message{
		Content: content, Signers: []documenttest.RSASigner{s}, NoAttributes: true, Digest: documenttest.OIDSHA256WithRSA,
	}), false, true)
	f.Add([]byte("-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----"), false, false)
	f.Fuzz(func(t *testing.T, raw []byte, open, plain bool) {
		evidencetest.Bounded(t, len(raw), 64, func() {
			if der, err := pkcs7.Decode(raw); err == nil {
				raw = der
			}
			c, err := pkcs7.Parse(raw, pkcs7.Profile{BER: open, NoAttributes: plain, DigestWithRSA: plain})
			if err != nil {
				return
			}
			if got, err := c.VerifiedBy(s.Certificate); err == nil && !bytes.Equal(got.Content(), content) {
				t.Errorf("%q passed", got.Content())
			}
		})
	})
}

func BenchmarkVerify(b *testing.B) {
	s := signer(0, 5)
	raw := documenttest.PKCS7(documenttest.Message{Content: bytes.Repeat(content, 45), Signers: []documenttest.RSASigner{s}, Indefinite: true})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyRaw(raw, ber, s.Certificate); err != nil {
			b.Fatal(err)
		}
	}
}
