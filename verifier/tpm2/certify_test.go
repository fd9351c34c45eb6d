package tpm2_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// certificate is one good TPM2_Certify.
type certificate struct {
	by         signer
	key        signer
	attest     attestation
	qualifying []byte
	public     func(b []byte) []byte
	rewrite    func(c *tpm2.CertifyEvidence)
}

func newCertificate(t testing.TB, by signer) *certificate {
	key := eccSigner(newECC(t), svidAttributes)
	qualifying := sha256.Sum256([]byte("binding"))
	return &certificate{
		by: by, key: key, qualifying: qualifying[:],
		attest: attestation{
			magic: 0xff544347, kind: 0x8017, signer: by.qualifiedName(), extra: qualifying[:],
			millis: 1, reset: 1, safe: 1, qualifiedName: key.qualifiedName(),
		},
	}
}

func (c *certificate) verify(t testing.TB, ak tpm2.AK) (tpm2.ResidentKey, error) {
	t.Helper()
	ev := tpm2.CertifyEvidence{Public: c.key.public.marshal()}
	if c.public != nil {
		ev.Public = c.public(ev.Public)
	}
	if c.attest.name == nil {
		sum := sha256.Sum256(ev.Public)
		c.attest.name = append([]byte{0, sha256Alg}, sum[:]...)
	}
	ev.Attest = c.attest.marshal()
	ev.Signature = c.by.sign(t, ev.Attest)
	if c.rewrite != nil {
		c.rewrite(&ev)
	}
	return tpm2.VerifyCertify(ak, ev, c.qualifying)
}

func TestCertifyAccepted(t *testing.T) {
	for kind, by := range akKinds(t) {
		t.Run(kind, func(t *testing.T) {
			c := newCertificate(t, by)
			got, err := c.verify(t, by.ak(t))
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(c.key.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.SPKI(), spki) || !bytes.Equal(got.Name(), c.key.name()) {
				t.Error("SPKI or Name is not the key's")
			}
			clear(got.SPKI())
			if !bytes.Equal(got.SPKI(), spki) {
				t.Error("the verified key changed under the caller's hand")
			}
		})
	}
}

func TestCertifyRefused(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	attr := func(set, clear uint32) func(*certificate) {
		return func(c *certificate) { c.key.public.attributes = c.key.public.attributes&^clear | set }
	}
	other := eccSigner(newECC(t), akAttributes)
	for _, c := range []struct {
		name   string
		change func(c *certificate)
		code   reason.Code
	}{
		{"tpm-94 another key was certified", func(c *certificate) { c.attest.name = other.name() }, reason.TPM2CertifyMismatch},
		{"tpm-94 another public area was sent", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Public = other.public.marshal() }
		}, reason.TPM2CertifyMismatch},
		{"tpm-94 name empty", func(c *certificate) { c.attest.name = []byte{} }, reason.TPM2CertifyMismatch},
		{"tpm-94 signed by another AK", func(c *certificate) { c.by, c.attest.signer = other, other.qualifiedName() }, reason.TPM2CertifyMismatch},
		{"tpm-94 signer names another AK", func(c *certificate) { c.attest.signer = other.qualifiedName() }, reason.TPM2CertifyMismatch},
		{"tpm-94 T12 trailing byte behind the public area", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Public = append(e.Public, 0) }
		}, reason.TPM2CertifyMismatch},
		{"tpm-95 T12 trailing byte in the certified public area", func(c *certificate) {
			c.public = func(b []byte) []byte { return append(b, 0) }
		}, reason.TPM2CertifyKeyAttributes},
		{"tpm-95 without fixedTPM", attr(0, 1<<1), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 without fixedParent", attr(0, 1<<4), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 without sensitiveDataOrigin", attr(0, 1<<5), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 without sign", attr(0, 1<<18), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 restricted", attr(1<<16, 0), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 decrypt", attr(1<<17, 0), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 encryptedDuplication", attr(1<<11, 0), reason.TPM2CertifyKeyAttributes},
		{"tpm-95 reserved bit", attr(1<<3, 0), reason.TPM2CertifyKeyAttributes},
		{"RSA key", func(c *certificate) { c.key = rsaSigner(rsaKeys()[1], svidAttributes) }, reason.TPM2CertifyKeyAttributes},
		{"P-384 key", func(c *certificate) {
			c.key = eccSigner(p384, svidAttributes)
			c.key.public.curve = 0x0004
		}, reason.TPM2CertifyKeyAttributes},
		{"nameAlg SHA-384", func(c *certificate) { c.key.public.nameAlg = sha384Alg }, reason.TPM2CertifyKeyAttributes},
		{"scheme NULL", func(c *certificate) { c.key.public.scheme = []uint16{nullAlg} }, reason.TPM2CertifyKeyAttributes},
		{"off the curve", func(c *certificate) { c.key.public.y = flip(c.key.public.y, 0) }, reason.TPM2CertifyKeyAttributes},
		{"tpm-96 extraData of another quote", func(c *certificate) { c.attest.extra = flip(c.attest.extra, 0) }, reason.TPM2CertifyNonceMismatch},
		{"tpm-96 extraData empty", func(c *certificate) { c.attest.extra = nil }, reason.TPM2CertifyNonceMismatch},
		{"tpm-96 nothing expected", func(c *certificate) { c.attest.extra, c.qualifying = nil, nil }, reason.TPM2CertifyNonceMismatch},
		{"T1 magic", func(c *certificate) { c.attest.magic = 0 }, reason.TPM2AttestMagic},
		{"T2 quote sent as certify", func(c *certificate) { c.attest.kind, c.attest.digest = 0x8018, make([]byte, 32) }, reason.TPM2AttestType},
		{"T2 creation sent as certify", func(c *certificate) { c.attest.kind, c.attest.body = 0x801a, make([]byte, 68) }, reason.TPM2AttestType},
		{"T12 trailing byte", func(c *certificate) { c.attest.tail = []byte{0} }, reason.TPM2AttestTrailing},
		{"safe is 2", func(c *certificate) { c.attest.safe = 2 }, reason.TPM2AttestSafe},
		{"attest flipped after signing", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Attest = flip(e.Attest, 60) }
		}, reason.TPM2SignatureInvalid},
		{"T12 signature with a trailing byte", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Signature = append(e.Signature, 0) }
		}, reason.TPM2SignatureEncoding},
		{"attest empty", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Attest = nil }
		}, reason.TPM2SignatureInvalid},
		{"tpm-6 attest too long", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Attest = make([]byte, 1025) }
		}, reason.RequestTooLarge},
		{"public area too long", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Public = make([]byte, 1025) }
		}, reason.RequestTooLarge},
		{"tpm-6 signature too long", func(c *certificate) {
			c.rewrite = func(e *tpm2.CertifyEvidence) { e.Signature = make([]byte, 601) }
		}, reason.RequestTooLarge},
	} {
		for kind, by := range akKinds(t) {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				cert := newCertificate(t, by)
				c.change(cert)
				_, err := cert.verify(t, by.ak(t))
				wantCode(t, err, c.code)
			})
		}
	}
}
