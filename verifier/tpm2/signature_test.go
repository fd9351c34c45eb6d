package tpm2_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

type signatureCase struct {
	name   string
	change func(sig []byte) []byte
	code   reason.Code
}

func runSignatureCases(t *testing.T, by signer, cases []signatureCase) {
	ak := by.ak(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := newEvidence(by)
			e.resign = c.change
			_, err := e.verify(t, ak)
			wantCode(t, err, c.code)
		})
	}
}

func TestSignatureRSA(t *testing.T) {
	by := rsaSigner(rsaKeys()[0], akAttributes)
	modulus := by.public.x
	runSignatureCases(t, by, []signatureCase{
		{"tpm-36 one bit flipped", func(b []byte) []byte { return flip(b, len(b)-1) }, reason.TPM2SignatureInvalid},
		{"tpm-37 T10 scheme says RSAPSS", func(b []byte) []byte { b[1] = 0x16; return b }, reason.TPM2SignatureScheme},
		{"tpm-37 scheme says ECDSA", func(b []byte) []byte { b[1] = 0x18; return b }, reason.TPM2SignatureScheme},
		{"tpm-38 T10 hash says SHA-1", func(b []byte) []byte { b[3] = sha1Alg; return b }, reason.TPM2SignatureHash},
		{"tpm-38 hash says SHA-384", func(b []byte) []byte { b[3] = sha384Alg; return b }, reason.TPM2SignatureHash},
		{"tpm-38 T10 hash says SHA-512", func(b []byte) []byte { b[3] = sha512Alg; return b }, reason.TPM2SignatureHash},
		{"tpm-39 null signature", func([]byte) []byte { return []byte{0, nullAlg} }, reason.TPM2SignatureScheme},
		{"tpm-39 HMAC", func([]byte) []byte { return append([]byte{0, hmacAlg, 0, sha256Alg}, make([]byte, 32)...) }, reason.TPM2SignatureScheme},
		{"tpm-42 leading zero", func(b []byte) []byte { return rsaSignature(rsassa, sha256Alg, append([]byte{0}, b[6:]...)) }, reason.TPM2SignatureEncoding},
		{"tpm-42 one byte short", func(b []byte) []byte { return rsaSignature(rsassa, sha256Alg, b[7:]) }, reason.TPM2SignatureEncoding},
		{"tpm-42 empty", func([]byte) []byte { return rsaSignature(rsassa, sha256Alg, nil) }, reason.TPM2SignatureEncoding},
		{"tpm-42 T12 trailing byte", func(b []byte) []byte { return append(b, 0) }, reason.TPM2SignatureEncoding},
		{"tpm-42 size past the end", func(b []byte) []byte { b[4] = 0xff; return b }, reason.TPM2SignatureEncoding},
		{"tpm-36 number is the modulus", func([]byte) []byte { return rsaSignature(rsassa, sha256Alg, modulus) }, reason.TPM2SignatureInvalid},
		{"tpm-36 number above the modulus", func([]byte) []byte {
			return rsaSignature(rsassa, sha256Alg, bytes.Repeat([]byte{0xff}, 256))
		}, reason.TPM2SignatureInvalid},
		{"empty signature", func([]byte) []byte { return nil }, reason.TPM2SignatureEncoding},
		{"only a scheme", func([]byte) []byte { return []byte{0, rsassa} }, reason.TPM2SignatureEncoding},
		{"raw bytes without a TPMT header", func(b []byte) []byte { copy(b[6:], []byte{0x91, 0x90}); return b[6:] }, reason.TPM2SignatureScheme},
	})
}

// TestSignatureRSAPadding: signatures by the AK's own key, but made in another
// way than the AK may sign.
func TestSignatureRSAPadding(t *testing.T) {
	by := rsaSigner(rsaKeys()[0], akAttributes)
	key := rsaKeys()[0]
	e := newEvidence(by)
	attest := e.attest.marshal()
	digest := sha256.Sum256(attest)
	pss, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := rsa.SignPKCS1v15(rand.Reader, key, 0, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		sig  []byte
		code reason.Code
	}{
		{"tpm-37 T10 PSS named PSS", rsaSignature(rsapss, sha256Alg, pss), reason.TPM2SignatureScheme},
		{"tpm-37 T10 PSS named RSASSA", rsaSignature(rsassa, sha256Alg, pss), reason.TPM2SignatureInvalid},
		{"PKCS1 without DigestInfo", rsaSignature(rsassa, sha256Alg, bare), reason.TPM2SignatureInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := tpm2.AuthenticateQuote(by.ak(t), attest, c.sig, e.qualifying)
			wantCode(t, err, c.code)
		})
	}
}

func TestSignatureECDSA(t *testing.T) {
	by := eccSigner(newECC(t), akAttributes)
	order := elliptic.P256().Params().N
	zero := make([]byte, 32)
	// with writes r and s in the given lengths.
	with := func(f func(r, s *big.Int) ([]byte, []byte)) func([]byte) []byte {
		return func(b []byte) []byte { return eccSignature(f(rs(b))) }
	}
	full := func(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }
	runSignatureCases(t, by, []signatureCase{
		{"tpm-36 one bit flipped", func(b []byte) []byte { return flip(b, len(b)-1) }, reason.TPM2SignatureInvalid},
		{"tpm-37 scheme says RSASSA", func(b []byte) []byte { b[1] = rsassa; return b }, reason.TPM2SignatureScheme},
		{"tpm-37 scheme says ECSchnorr", func(b []byte) []byte { b[1] = 0x1c; return b }, reason.TPM2SignatureScheme},
		{"tpm-38 T10 hash says SHA-1", func(b []byte) []byte { b[3] = sha1Alg; return b }, reason.TPM2SignatureHash},
		{"tpm-38 T10 hash says SHA-512", func(b []byte) []byte { b[3] = sha512Alg; return b }, reason.TPM2SignatureHash},
		{"tpm-39 null signature", func([]byte) []byte { return []byte{0, nullAlg} }, reason.TPM2SignatureScheme},
		{"tpm-39 HMAC", func([]byte) []byte { return append([]byte{0, hmacAlg, 0, sha256Alg}, zero...) }, reason.TPM2SignatureScheme},
		{"tpm-40 T10 r is 0", with(func(_, s *big.Int) ([]byte, []byte) { return zero, full(s) }), reason.TPM2SignatureEncoding},
		{"tpm-40 T10 s is 0", with(func(r, _ *big.Int) ([]byte, []byte) { return full(r), zero }), reason.TPM2SignatureEncoding},
		{"tpm-40 r is empty", with(func(_, s *big.Int) ([]byte, []byte) { return nil, full(s) }), reason.TPM2SignatureEncoding},
		{"tpm-40 s is one zero byte", with(func(r, _ *big.Int) ([]byte, []byte) { return full(r), []byte{0} }), reason.TPM2SignatureEncoding},
		{"tpm-40 r is the order", with(func(_, s *big.Int) ([]byte, []byte) { return order.Bytes(), full(s) }), reason.TPM2SignatureEncoding},
		{"tpm-40 s is the order", with(func(r, _ *big.Int) ([]byte, []byte) { return full(r), order.Bytes() }), reason.TPM2SignatureEncoding},
		{"tpm-40 s above the order", with(func(r, _ *big.Int) ([]byte, []byte) { return full(r), bytes.Repeat([]byte{0xff}, 32) }), reason.TPM2SignatureEncoding},
		{"tpm-40 padded to 66 bytes", with(func(r, s *big.Int) ([]byte, []byte) {
			return r.FillBytes(make([]byte, 66)), s.FillBytes(make([]byte, 66))
		}), reason.TPM2SignatureEncoding},
		{"tpm-40 r plus the order", with(func(r, s *big.Int) ([]byte, []byte) {
			return new(big.Int).Add(r, order).FillBytes(make([]byte, 33)), full(s)
		}), reason.TPM2SignatureEncoding},
		{"tpm-40 short number with a leading zero", with(func(_, s *big.Int) ([]byte, []byte) { return []byte{0, 1}, full(s) }), reason.TPM2SignatureEncoding},
		{"tpm-40 one leading zero", with(func(r, s *big.Int) ([]byte, []byte) { return full(r), s.FillBytes(make([]byte, 33)) }), reason.TPM2SignatureEncoding},
		{"tpm-41 T10 high s is accepted", with(func(r, s *big.Int) ([]byte, []byte) {
			return full(r), full(new(big.Int).Sub(order, s))
		}), ""},
		{"tpm-42 T12 trailing byte", func(b []byte) []byte { return append(b, 0) }, reason.TPM2SignatureEncoding},
		{"T10 DER in the place of TPMT_SIGNATURE", func(b []byte) []byte {
			return append([]byte{0x30, 0x44, 0x02, 0x20}, b[6:]...)
		}, reason.TPM2SignatureScheme},
		{"size of r past the end", func(b []byte) []byte { b[4] = 0xff; return b }, reason.TPM2SignatureEncoding},
		{"ends after r", func(b []byte) []byte { return b[:38] }, reason.TPM2SignatureEncoding},
	})
}

// TestSignatureECDSAShort: the reference code writes r and s without leading
// zeros, other chips pad them; both are the same number.
func TestSignatureECDSAShort(t *testing.T) {
	key := newECC(t)
	by := eccSigner(key, akAttributes)
	e := newEvidence(by)
	attest := e.attest.marshal()
	digest := sha256.Sum256(attest)
	for range 20000 {
		r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if r.BitLen() > 248 {
			continue
		}
		short, padded := r.Bytes(), r.FillBytes(make([]byte, 32))
		for name, c := range map[string]struct {
			r    []byte
			code reason.Code
		}{"minimal": {short, ""}, "padded": {padded, ""}} {
			_, err := tpm2.AuthenticateQuote(by.ak(t), attest, eccSignature(c.r, s.FillBytes(make([]byte, 32))), e.qualifying)
			if reason.Of(err) != c.code {
				t.Errorf("%s: %v", name, err)
			}
		}
		return
	}
	t.Fatal("no short r in 20000 signatures")
}

func TestSignatureOfOthers(t *testing.T) {
	rsaAK, eccAK := rsaSigner(rsaKeys()[0], akAttributes), eccSigner(newECC(t), akAttributes)
	for _, c := range []struct {
		name     string
		ak, from signer
		code     reason.Code
	}{
		{"tpm-35 another RSA AK", rsaAK, rsaSigner(rsaKeys()[1], akAttributes), reason.TPM2SignatureInvalid},
		{"tpm-35 another P-256 AK", eccAK, eccSigner(newECC(t), akAttributes), reason.TPM2SignatureInvalid},
		{"tpm-35 RSA AK where P-256 is enrolled", eccAK, rsaAK, reason.TPM2SignatureScheme},
		{"tpm-35 P-256 AK where RSA is enrolled", rsaAK, eccAK, reason.TPM2SignatureScheme},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newEvidence(c.ak)
			e.by = c.from
			_, err := e.verify(t, c.ak.ak(t))
			wantCode(t, err, c.code)
		})
	}
	for kind, by := range akKinds(t) {
		t.Run("tpm-36 signature over another message/"+kind, func(t *testing.T) {
			e := newEvidence(by)
			attest, _ := e.signed(t)
			_, err := tpm2.AuthenticateQuote(by.ak(t), attest, by.sign(t, []byte("another message")), e.qualifying)
			wantCode(t, err, reason.TPM2SignatureInvalid)
		})
	}
}
