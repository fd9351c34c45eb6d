package test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// catalogueOfSignatures: rows 35 to 42.
func catalogueOfSignatures() []row {
	resigned := func(scheme, hash uint16) change {
		return signatureBytes(func(b []byte) []byte { return signatureOf(scheme, hash, partsOf(b)...) })
	}
	parts := func(f func(p [][]byte)) change {
		return signatureBytes(func(b []byte) []byte {
			p := partsOf(b)
			f(p)
			return signatureOf(algECDSA, algSHA256, p...)
		})
	}
	rsaPart := func(f func(sig []byte) []byte) change {
		return signatureBytes(func(b []byte) []byte { return signatureOf(algRSASSA, algSHA256, f(partsOf(b)[0])) })
	}
	order := elliptic.P256().Params().N.Bytes()
	padded := func(b []byte, n int) []byte { return append(make([]byte, n-len(b)), b...) }
	rowsOfRSA := []row{
		{number: 37, name: "RSAPSS under an RSASSA key", good: newRSARenewal, cases: []forgery{
			{"scheme", resigned(algRSAPSS, algSHA256), reason.TPM2SignatureScheme, refused},
		}},
		{number: 42, name: "length of an RSA signature", good: newRSARenewal, cases: []forgery{
			{"leading zero", rsaPart(func(s []byte) []byte { return append([]byte{0}, s...) }), reason.TPM2SignatureEncoding, refused},
			{"one byte short", rsaPart(func(s []byte) []byte { return s[1:] }), reason.TPM2SignatureEncoding, refused},
			{"trailing byte", signatureBytes(func(b []byte) []byte { return append(b, 0) }), reason.TPM2SignatureEncoding, refused},
		}},
	}
	return append(rowsOfRSA, []row{
		{number: 35, name: "signed by another TPM", cases: []forgery{
			{"its AK", func(t *testing.T, s *specimen) {
				s.ev.TPM2.Signature = evidencetest.NewAK(t).Sign(t, s.ev.TPM2.Quote)
			}, reason.TPM2SignatureInvalid, refused},
		}},
		{number: 36, name: "signature altered", cases: []forgery{
			{"one bit", signatureBytes(func(b []byte) []byte { b[len(b)-1] ^= 1; return b }), reason.TPM2SignatureInvalid, refused},
			{"of another message", func(t *testing.T, s *specimen) {
				s.ev.TPM2.Signature = s.tpm.AK.Sign(t, append(bytes.Clone(s.ev.TPM2.Quote), 0))
			}, reason.TPM2SignatureInvalid, refused},
		}},
		{number: 38, name: "hash of the signature", cases: []forgery{
			{"SHA-1", resigned(algECDSA, algSHA1), reason.TPM2SignatureHash, refused},
			{"SHA-512", resigned(algECDSA, algSHA512), reason.TPM2SignatureHash, refused},
		}},
		{number: 39, name: "no signature", cases: []forgery{
			{"NULL", signatureBytes(func([]byte) []byte { return []byte{0, algNull} }), reason.TPM2SignatureScheme, refused},
			{"HMAC", resigned(algHMAC, algSHA256), reason.TPM2SignatureScheme, refused},
		}},
		{number: 40, name: "numbers of an ECDSA signature", cases: []forgery{
			{"r zero", parts(func(p [][]byte) { p[0] = make([]byte, 32) }), reason.TPM2SignatureEncoding, refused},
			{"s zero", parts(func(p [][]byte) { p[1] = []byte{0} }), reason.TPM2SignatureEncoding, refused},
			{"r the order", parts(func(p [][]byte) { p[0] = order }), reason.TPM2SignatureEncoding, refused},
			{"s above the order", parts(func(p [][]byte) { p[1] = bytes.Repeat([]byte{0xff}, 32) }), reason.TPM2SignatureEncoding, refused},
			{"r of 66 bytes", parts(func(p [][]byte) { p[0] = padded(p[0], 66) }), reason.TPM2SignatureEncoding, refused},
			{"s with a leading zero", parts(func(p [][]byte) { p[1] = padded(p[1], 33) }), reason.TPM2SignatureEncoding, refused},
		}},
		{number: 41, name: "twin of an ECDSA signature", cases: []forgery{
			{"accepted", parts(func(p [][]byte) { p[1] = twin(p[1]) }), "", refused},
		}, broker: []brokerForgery{{"once", sendsTwin, reason.ChallengeSpent}}},
	}...)
}

// twin is n-s, which verifies where s does.
func twin(s []byte) []byte {
	return new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(s)).FillBytes(make([]byte, 32))
}

// Attributes (TPM 2.0 Part 2, 8.3).
const (
	fixedTPM            = 1 << 1
	fixedParent         = 1 << 4
	sensitiveDataOrigin = 1 << 5
	restrictedKey       = 1 << 16
	decryptKey          = 1 << 17
	signKey             = 1 << 18
)

// catalogueOfKeys: rows 43 to 49, and 52, the AK.
func catalogueOfKeys() []row {
	attr := func(set, clear uint32) change {
		return akField(func(p *publicFields) { p.attributes = p.attributes&^clear | set })
	}
	rsa := func(change func(t *testing.T, s *specimen)) change {
		return func(t *testing.T, s *specimen) {
			s.ev.TPM2.AKPublic = evidencetest.RSAAK(t).Public
			change(t, s)
		}
	}
	return []row{
		{number: 43, name: "AK unrestricted", cases: []forgery{{"unrestricted", attr(0, restrictedKey), reason.TPM2AKNotRestricted, refused}}},
		{number: 44, name: "AK duplicable", cases: []forgery{
			{"without fixedTPM", attr(0, fixedTPM), reason.TPM2AKAttributes, refused},
			{"without fixedParent", attr(0, fixedParent), reason.TPM2AKAttributes, refused},
		}},
		{number: 45, name: "AK imported", cases: []forgery{{"without sensitiveDataOrigin", attr(0, sensitiveDataOrigin), reason.TPM2AKAttributes, refused}}},
		{number: 46, name: "AK for another use", cases: []forgery{
			{"decrypt", attr(decryptKey, 0), reason.TPM2AKAttributes, refused},
			{"sign clear", attr(0, signKey), reason.TPM2AKAttributes, refused},
		}},
		{number: 47, name: "AK with reserved bits", cases: []forgery{
			{"bit 0", attr(1, 0), reason.TPM2AKAttributes, refused},
			{"bit 31", attr(1<<31, 0), reason.TPM2AKAttributes, refused},
		}},
		{number: 48, name: "AK parameters", cases: []forgery{
			{"scheme NULL", akField(func(p *publicFields) {
				p.words = []uint16{algNull, algNull, p.words[wordCurve], algNull}
			}), reason.TPM2AKParameters, refused},
			{"P-192", akField(func(p *publicFields) {
				p.words[wordCurve], p.keys = 0x0001, [][]byte{make([]byte, 24), make([]byte, 24)}
			}), reason.TPM2AKParameters, refused},
			{"off the curve", akField(func(p *publicFields) { p.keys[1] = bytes.Repeat([]byte{1}, 32) }), reason.TPM2AKParameters, refused},
			{"exponent 3", rsa(akField(func(p *publicFields) { p.exponent = 3 })), reason.TPM2AKParameters, refused},
			{"RSA-1024", rsa(akField(func(p *publicFields) {
				p.words[wordCurve], p.keys[0] = 1024, p.keys[0][:128]
			})), reason.TPM2AKParameters, refused},
		}},
		{number: 49, name: "AK encoding", cases: []forgery{
			{"trailing byte", evidence(func(e *verifier.TPM2Evidence) { e.AKPublic = append(bytes.Clone(e.AKPublic), 0) }), reason.TPM2AKEncoding, refused},
			{"coordinate with a leading zero more", akField(func(p *publicFields) {
				p.keys[0] = append([]byte{0}, p.keys[0]...)
			}), reason.TPM2AKEncoding, refused},
		}},
		{number: 52, name: "another qualified signer", cases: []forgery{
			{"of another hierarchy", quoteField(func(a *attestFields) { a.signer[10] ^= 1 }), reason.TPM2QuoteSignerMismatch, refused},
		}},
	}
}

// catalogueOfCertified: rows 94 to 96, the SVID key.
func catalogueOfCertified() []row {
	certified := func(f func(a *attestFields)) change {
		return func(t *testing.T, s *specimen) {
			c := s.ev.TPM2.Certify
			a := readAttest(c.Attest)
			f(&a)
			c.Attest = a.marshal()
			c.Signature = s.tpm.AK.Sign(t, c.Attest)
		}
	}
	// attr certifies a key with other attributes: Name and binding are its own.
	attr := func(set, clear uint32) change {
		return func(t *testing.T, s *specimen) {
			key := *s.key
			key.Public = changePublic(key.Public, func(p *publicFields) { p.attributes = p.attributes&^clear | set })
			s.ev.TPM2.Certify = s.tpm.Certify(t, &key, s.bound())
		}
	}
	return []row{
		{number: 94, name: "certify of another key", cases: []forgery{
			{"another key of the TPM", func(t *testing.T, s *specimen) {
				s.ev.TPM2.Certify = s.tpm.Certify(t, evidencetest.NewSVIDKey(t), s.bound())
			}, reason.TPM2CertifyMismatch, refused},
			{"name", certified(func(a *attestFields) { a.name[5] ^= 1 }), reason.TPM2CertifyMismatch, refused},
			{"signer another AK", func(t *testing.T, s *specimen) {
				s.ev.TPM2.Certify = evidencetest.New(t).Certify(t, s.key, s.bound())
			}, reason.TPM2CertifyMismatch, refused},
		}},
		{number: 95, name: "SVID key attributes", cases: []forgery{
			{"without fixedTPM", attr(0, fixedTPM), reason.TPM2CertifyKeyAttributes, refused},
			{"restricted", attr(restrictedKey, 0), reason.TPM2CertifyKeyAttributes, refused},
			{"decrypt", attr(decryptKey, 0), reason.TPM2CertifyKeyAttributes, refused},
		}},
		{number: 96, name: "certify over other extraData", cases: []forgery{
			{"other nonce", certified(func(a *attestFields) { h := sha256.Sum256(a.extra); a.extra = h[:] }), reason.TPM2CertifyNonceMismatch, refused},
			{"empty", certified(func(a *attestFields) { a.extra = nil }), reason.TPM2CertifyNonceMismatch, refused},
		}},
	}
}
