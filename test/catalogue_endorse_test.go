package test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// catalogueOfEndorsements: rows 50, 51, 53 and 54 to 67, EK, certificate and
// admission.
func catalogueOfEndorsements() []row {
	notLearnt := func(t *testing.T, s *specimen) {
		s.ev.TPM2.Quote, s.ev.TPM2.Signature = s.tpm.Quote(t, s.want.Selection, make([]byte, 32))
	}
	ekAttr := func(set, clear uint32) change {
		return evidence(func(e *verifier.TPM2Evidence) {
			b := bytes.Clone(e.EKPublic)
			e.EKPublic = changeAttributes(b, set, clear)
		})
	}
	return append([]row{
		{number: 50, name: "credential of another AK", good: newEnrolment, cases: []forgery{
			{"secret not learnt", notLearnt, reason.TPM2AKActivationFailed, refused},
		}, broker: []brokerForgery{{"blob for another Name", opensForeignCredential, reason.TPM2AKActivationFailed}}},
		{number: 51, name: "secret of another enrolment", broker: []brokerForgery{
			{"replayed secret", sendsOldSecret, reason.TPM2AKActivationFailed},
			{"token of another AK", sendsEnrolmentOfAnother, reason.ChallengeWrongNode},
			{"token spent", sendsEnrolmentTwice, reason.ChallengeSpent},
			{"token expired", sendsLateEnrolment, reason.ChallengeExpired},
		}},
		{number: 53, name: "identity of another", broker: []brokerForgery{
			{"AK bound to another EK", enrolsForeignAK, reason.NodeIdentityConflict},
		}},
		{number: 54, name: "EK of no template", good: newEnrolment, cases: []forgery{
			{"not restricted", ekAttr(0, restrictedKey), reason.TPM2EKTemplate, refused},
			{"signs", ekAttr(signKey, decryptKey), reason.TPM2EKTemplate, refused},
		}},
		{number: 67, name: "EK revoked after it was admitted", broker: []brokerForgery{
			{"enrolment", enrolsRevokedEK, reason.TPM2EKRevoked},
			{"renewal", renewsRevokedEK, reason.TPM2EKRevoked},
		}},
	}, catalogueOfCertificates()...)
}

func changeAttributes(b []byte, set, clear uint32) []byte {
	r := wireReader(b[4:8])
	v := r.u32()&^clear | set
	b[4], b[5], b[6], b[7] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	return b
}

// forged has the maker sign a certificate in which one thing is changed.
func forged(f func(c *x509.Certificate)) change {
	return func(t *testing.T, s *specimen) { s.ev.TPM2.EKCertificate = s.maker.Forge(t, s.tpm.EK, f) }
}

func certificateBytes(f func(der []byte) []byte) change {
	return evidence(func(e *verifier.TPM2Evidence) { e.EKCertificate = f(bytes.Clone(e.EKCertificate)) })
}

func withSAN(value []byte) change {
	return forged(func(c *x509.Certificate) { c.ExtraExtensions[0].Value = value })
}

// nvHeader is what lies before the certificate in some NV indexes.
func nvHeader(der []byte, more int) []byte {
	n := len(der) + more
	return append([]byte{0x10, 0x01, 0x00, byte(n >> 8), byte(n)}, der...)
}

// catalogueOfCertificates: rows 55 to 66.
func catalogueOfCertificates() []row {
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		panic(err)
	}
	return []row{
		{number: 55, name: "certificate for another key", good: newEnrolment, cases: []forgery{
			{"another EK", func(t *testing.T, s *specimen) {
				s.ev.TPM2.EKCertificate = s.maker.Certificate(t, evidencetest.NewEK(t))
			}, reason.EKCertKeyMismatch, refused},
			{"RSA for an ECC EK", func(t *testing.T, s *specimen) {
				s.ev.TPM2.EKCertificate = s.maker.Certificate(t, evidencetest.RSAEK(t))
			}, reason.EKCertKeyMismatch, refused},
		}},
		{number: 56, name: "certificate of nobody's", good: newEnrolment, cases: []forgery{
			{"another maker of the same name", func(t *testing.T, s *specimen) { evidencetest.NewMaker(t).Endorse(t, s.tpm); s.answer(t) }, reason.EKCertUntrusted, refused},
			{"without its issuer", evidence(func(e *verifier.TPM2Evidence) { e.EKChain = nil }), reason.EKCertUntrusted, refused},
			{"self-signed", selfSignedEK, reason.EKCertUntrusted, refused},
		}},
		{number: 57, name: "certificate out of its time", good: newEnrolment, cases: []forgery{
			{"expired", forged(func(c *x509.Certificate) { c.NotAfter = evidencetest.Noon.Add(-time.Second) }), reason.EKCertValidity, refused},
			{"not yet valid", forged(func(c *x509.Certificate) { c.NotBefore = evidencetest.Noon.Add(time.Hour) }), reason.EKCertValidity, refused},
		}},
		{number: 58, name: "unknown critical extension", good: newEnrolment, cases: []forgery{
			{"1.2.3.4", forged(func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
			}), reason.EKCertCriticalExtension, refused},
		}},
		{number: 59, name: "alternative name", good: newEnrolment, cases: []forgery{
			{"none", forged(func(c *x509.Certificate) { c.ExtraExtensions = nil }), reason.EKCertSAN, refused},
			{"no TPM attributes", withSAN([]byte{0x30, 0x04, 0xa4, 0x02, 0x30, 0x00}), reason.EKCertSAN, refused},
			{"two manufacturers", withSAN(evidencetest.TPMNames("id:53544D20", "id:49465800")), reason.EKCertSAN, refused},
		}},
		{number: 60, name: "software TPM in production", good: newEnrolment, cases: []forgery{
			{"id:00001014", withSAN(evidencetest.TPMNames("id:00001014")), reason.EKCertVendorDenied, refused},
		}},
		{number: 61, name: "certificate for another use", good: newEnrolment, cases: []forgery{
			{"TLS server", forged(func(c *x509.Certificate) {
				c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}), reason.EKCertUsage, refused},
			{"digitalSignature", forged(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), reason.EKCertUsage, refused},
			{"CA", forged(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), reason.EKCertIsCA, refused},
		}},
		{number: 62, name: "bytes around the certificate", good: newEnrolment, cases: []forgery{
			{"fill of zeros", certificateBytes(func(b []byte) []byte { return append(b, make([]byte, 500)...) }), "", refused},
			{"fill of ff", certificateBytes(func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xff}, 500)...) }), "", refused},
			{"NV header", certificateBytes(func(b []byte) []byte { return nvHeader(b, 0) }), "", refused},
			{"junk behind", certificateBytes(func(b []byte) []byte { return append(b, 1, 2, 3) }), reason.EKCertEncoding, refused},
			{"header that claims more", certificateBytes(func(b []byte) []byte { return nvHeader(b, 1) }), reason.EKCertEncoding, refused},
		}},
		{number: 63, name: "key that crypto/x509 does not read", good: newRSAEnrolment, cases: []forgery{
			{"RSAES-OAEP", reissued(spkiOAEP), "", refused},
			{"RSAES-OAEP around junk", reissued(func(t *testing.T, ek *evidencetest.EK) []byte {
				b := spkiOAEP(t, ek)
				b[len(b)-266] ^= 0x10 // the tag of the modulus
				return b
			}), reason.EKCertEncoding, refused},
			{"Ed25519", forged(func(c *x509.Certificate) { c.PublicKey = ed }), reason.EKCertKeyType, refused},
		}},
		{number: 64, name: "weak modulus", good: newRSAEnrolment, cases: []forgery{
			{"ROCA", func(t *testing.T, s *specimen) {
				s.tpm.EK = evidencetest.EKOfModulus(t, rocaModulus())
				s.maker.Endorse(t, s.tpm)
				s.answer(t)
			}, reason.EKCertWeakKey, refused},
		}},
		{number: 65, name: "attribute certificate", good: newEnrolment, cases: []forgery{
			{"platform certificate", certificateBytes(func([]byte) []byte { return attributeCertificate() }), reason.EKCertEncoding, refused},
		}},
		{number: 66, name: "certificates without end", good: newEnrolment, cases: []forgery{
			{"chain of 10000", evidence(func(e *verifier.TPM2Evidence) {
				chain := make([][]byte, 10_000)
				for i := range chain {
					chain[i] = e.EKChain[0]
				}
				e.EKChain = chain
			}), reason.RequestTooLarge, refused},
			{"RSA-16384", hugeRSA(16384, 65537), reason.RequestTooLarge, refused},
			{"huge exponent", hugeRSA(2048, 1<<40+1), reason.RequestTooLarge, refused},
			{"issuer of RSA-16384", func(t *testing.T, s *specimen) {
				leaf := bytes.Clone(s.ev.TPM2.EKCertificate)
				hugeRSA(16384, 65537)(t, s)
				s.ev.TPM2.EKChain, s.ev.TPM2.EKCertificate = [][]byte{s.ev.TPM2.EKCertificate}, leaf
			}, reason.RequestTooLarge, refused},
		}},
	}
}

// selfSignedEK is the maker's certificate once more, signed by the EK itself: no
// TPM would, and the names are right.
func selfSignedEK(t *testing.T, s *specimen) {
	t.Helper()
	c, err := x509.ParseCertificate(s.ev.TPM2.EKCertificate)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: c.SerialNumber, NotBefore: c.NotBefore, NotAfter: c.NotAfter, KeyUsage: c.KeyUsage,
		BasicConstraintsValid: true, UnknownExtKeyUsage: c.UnknownExtKeyUsage,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: evidencetest.TPMNames("id:53544D20")}},
	}
	s.ev.TPM2.EKCertificate, err = x509.CreateCertificate(rand.Reader, template, template, s.tpm.EK.Signer().Public(), s.tpm.EK.Signer())
	must(t, err)
}

// reissued replaces the SubjectPublicKeyInfo and has the maker sign again.
func reissued(spki func(t *testing.T, ek *evidencetest.EK) []byte) change {
	return func(t *testing.T, s *specimen) {
		s.ev.TPM2.EKCertificate = s.maker.Reissue(t, s.ev.TPM2.EKCertificate, spki(t, s.tpm.EK))
	}
}

// keyInfo is a SubjectPublicKeyInfo of RSA.
type keyInfo struct {
	Algorithm struct{ OID asn1.ObjectIdentifier }
	Key       asn1.BitString
}

type rsaNumbers struct {
	N *big.Int
	E *big.Int
}

// spkiOAEP names the algorithm as old chips do: for decryption with OAEP alone.
func spkiOAEP(t *testing.T, ek *evidencetest.EK) []byte {
	t.Helper()
	pub := ek.Signer().Public().(*rsa.PublicKey)
	return rsaKeyInfo(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}, pub.N, big.NewInt(int64(pub.E)))
}

func rsaKeyInfo(t *testing.T, algorithm asn1.ObjectIdentifier, n, e *big.Int) []byte {
	t.Helper()
	key, err := asn1.Marshal(rsaNumbers{n, e})
	must(t, err)
	info := keyInfo{Key: asn1.BitString{Bytes: key, BitLength: 8 * len(key)}}
	info.Algorithm.OID = algorithm
	der, err := asn1.Marshal(info)
	must(t, err)
	return der
}

func hugeRSA(bits int, e int64) change {
	return reissued(func(t *testing.T, _ *evidencetest.EK) []byte {
		n := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits)), big.NewInt(1))
		return rsaKeyInfo(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, n, big.NewInt(e))
	})
}

// attributeCertificate is the head of an RFC 5755 certificate.
func attributeCertificate() []byte {
	type tbs struct {
		Version int
		Holder  struct{ Entity asn1.RawValue }
	}
	var body tbs
	body.Version = 1
	body.Holder.Entity = asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true}
	der, err := asn1.Marshal(struct {
		TBS       tbs
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{body, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}}, asn1.BitString{Bytes: make([]byte, 256), BitLength: 2048}})
	if err != nil {
		panic(err)
	}
	return der
}

// rocaModulus has the structure of CVE-2017-15361: a power of 65537 modulo the
// product of the primes to 701.
func rocaModulus() *big.Int {
	product := big.NewInt(1)
	for p := int64(2); p <= 701; p++ {
		if big.NewInt(p).ProbablyPrime(0) {
			product.Mul(product, big.NewInt(p))
		}
	}
	power := new(big.Int).Exp(big.NewInt(65537), big.NewInt(1_000_003), product)
	factor := new(big.Int).Lsh(big.NewInt(1), uint(2047-product.BitLen()))
	n := new(big.Int).Add(new(big.Int).Mul(product, factor), power)
	for n.BitLen() < 2048 {
		n.Add(n, new(big.Int).Mul(product, factor))
	}
	return n
}
