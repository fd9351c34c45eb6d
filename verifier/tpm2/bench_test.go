package tpm2_test

import (
	"crypto/rand"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

func BenchmarkParseAttest(b *testing.B) {
	attest := newEvidence(eccSigner(newECC(b), akAttributes)).attest.marshal()
	b.ReportAllocs()
	for b.Loop() {
		if err := tpm2.ParseOnly(attest); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAK(b *testing.B) {
	for kind, by := range akKinds(b) {
		raw := by.public.marshal()
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := tpm2.ParseAK(raw); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// benchmarkQuote is all checks of a renewal's quote: signature, structure,
// binding, selection, PCR digest.
func benchmarkQuote(b *testing.B, by signer) {
	e, ak := newEvidence(by), by.ak(b)
	attest, sig := e.signed(b)
	b.ReportAllocs()
	for b.Loop() {
		attested, err := tpm2.AuthenticateQuote(ak, attest, sig, e.qualifying)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := attested.Quote(e.want, e.pcrs); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyQuoteRSA(b *testing.B) {
	benchmarkQuote(b, rsaSigner(rsaKeys()[0], akAttributes))
}

func BenchmarkVerifyQuoteECC(b *testing.B) {
	benchmarkQuote(b, eccSigner(newECC(b), akAttributes))
}

func BenchmarkVerifyCertify(b *testing.B) {
	by := eccSigner(newECC(b), akAttributes)
	c, ak := newCertificate(b, by), by.ak(b)
	var ev tpm2.CertifyEvidence
	c.rewrite = func(e *tpm2.CertifyEvidence) { ev = *e }
	if _, err := c.verify(b, ak); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tpm2.VerifyCertify(ak, ev, c.qualifying); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMakeCredential(b *testing.B) {
	name := eccSigner(newECC(b), akAttributes).name()
	secret := make([]byte, 32)
	for kind, e := range ekKinds(b) {
		ek, err := tpm2.ParseEK(e.public.marshal())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(kind, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := ek.MakeCredential(rand.Reader, name, secret); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
