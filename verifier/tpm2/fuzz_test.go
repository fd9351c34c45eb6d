package tpm2_test

import (
	"bytes"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// FuzzAttest: what decodes is written back to the same bytes, and no other bytes
// than the signed ones pass as the quote.
func FuzzAttest(f *testing.F) {
	by := eccSigner(newECC(f), akAttributes)
	ak, e := by.ak(f), newEvidence(by)
	good, sig := e.signed(f)
	certify := newCertificate(f, by).attest
	certify.name = by.name()
	f.Add(good)
	f.Add(good[:60])
	f.Add(certify.marshal())
	f.Add(append(good, 0))
	f.Add([]byte("\x01\x01\x00\x00QUOT"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := tpm2.DecodeAttest(b); err == nil && d.Count <= 4 && (d.Kind == 0x8018 || d.Kind == 0x8017) {
			if got := rewriteAttest(d); !bytes.Equal(got, b) {
				t.Errorf("decoded %x\nwritten %x", b, got)
			}
		}
		var err error
		evidencetest.Bounded(t, len(b), 4, func() { _, err = tpm2.AuthenticateQuote(ak, b, sig, e.qualifying) })
		if (err == nil) != bytes.Equal(b, good) {
			t.Errorf("verdict %v for %x", err, b)
		}
	})
}

func rewriteAttest(d tpm2.DecodedAttest) []byte {
	a := attestation{
		magic: d.Magic, kind: d.Kind, signer: d.Signer, extra: d.Extra,
		millis: d.Clock.Millis, reset: d.Clock.ResetCount, restart: d.Clock.RestartCount,
		firmware: d.Firmware, digest: d.Digest, name: d.Name, qualifiedName: d.QualifiedName,
	}
	if d.Clock.Safe {
		a.safe = 1
	}
	for _, s := range d.Selections {
		a.banks = append(a.banks, bank{s.Hash, s.Mask})
	}
	return a.marshal()
}

// FuzzSignature: an RSASSA signature has one encoding; no other bytes pass.
func FuzzSignature(f *testing.F) {
	by := rsaSigner(rsaKeys()[0], akAttributes)
	ak, e := by.ak(f), newEvidence(by)
	attest, good := e.signed(f)
	f.Add(good, uint16(rsassa))
	f.Add(append(good, 0), uint16(rsassa))
	f.Add(eccSignature(make([]byte, 32), make([]byte, 32)), uint16(ecdsaAlg))
	f.Add([]byte{0, nullAlg}, uint16(nullAlg))
	f.Fuzz(func(t *testing.T, b []byte, scheme uint16) {
		if scheme == rsassa || scheme == ecdsaAlg {
			if first, second, err := tpm2.DecodeSignature(b, scheme); err == nil {
				var w wire
				w.u16(scheme)
				w.u16(sha256Alg)
				w.sized(first)
				if scheme == ecdsaAlg {
					w.sized(second)
				}
				if !bytes.Equal(w.b, b) {
					t.Errorf("decoded %x\nwritten %x", b, w.b)
				}
			}
		}
		var err error
		evidencetest.Bounded(t, len(b), 4, func() { _, err = tpm2.AuthenticateQuote(ak, attest, b, e.qualifying) })
		if (err == nil) != bytes.Equal(b, good) {
			t.Errorf("verdict %v for %x", err, b)
		}
	})
}

// FuzzPublic: what decodes is written back to the same bytes, so two public
// areas of one Name are one key.
func FuzzPublic(f *testing.F) {
	for _, by := range akKinds(f) {
		f.Add(by.public.marshal())
	}
	for _, e := range ekKinds(f) {
		f.Add(e.public.marshal())
	}
	f.Add(eccSigner(newECC(f), svidAttributes).public.marshal())
	f.Add([]byte{0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		evidencetest.Bounded(t, len(b), 8, func() {
			_, _ = tpm2.ParseAK(b)
			_, _ = tpm2.ParseEK(b)
		})
		if d, err := tpm2.Decode(b); err == nil {
			if got := rewritePublic(d); !bytes.Equal(got, b) {
				t.Errorf("decoded %x\nwritten %x", b, got)
			}
		}
		if ak, err := tpm2.ParseAK(b); err == nil && !bytes.Equal(ak.Public(), b) {
			t.Error("an AK whose public area is not what was sent")
		}
		if ek, err := tpm2.ParseEK(b); err == nil && (!bytes.Equal(ek.Public(), b) || len(ek.SPKI()) == 0) {
			t.Error("an EK whose public area is not what was sent")
		}
	})
}

// rewritePublic writes the fields that the algorithms of d have.
func rewritePublic(d tpm2.Decoded) []byte {
	symmetric := d.Sym[:]
	if d.Sym[0] == nullAlg {
		symmetric = d.Sym[:1]
	}
	withHash := func(s [3]uint16) []uint16 {
		switch s[0] {
		case nullAlg, 0x0015:
			return s[:1]
		case 0x001a:
			return s[:]
		}
		return s[:2]
	}
	return public{
		kind: d.Kind, nameAlg: d.NameAlg, attributes: d.Attributes, policy: d.Policy,
		sym: symmetric, scheme: withHash(d.Scheme), kdf: withKDF(d.KDF),
		bits: d.Bits, curve: d.Curve, exponent: d.Exponent, x: d.X, y: d.Y,
	}.marshal()
}

func withKDF(s [3]uint16) []uint16 {
	if s[0] == nullAlg {
		return s[:1]
	}
	return s[:2]
}
