package ekcert_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	encoding_asn1 "encoding/asn1"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// header is what TPM 1.2 era firmware writes before a certificate of n bytes.
func header(n int, tail ...byte) []byte {
	n += len(tail)
	return append([]byte{0x10, 0x01, 0x00, byte(n >> 8), byte(n)}, tail...)
}

func TestVerifyEnvelope(t *testing.T) {
	m := newMaker(t)
	fill := func(c byte, n int) func([]byte) []byte {
		return func(der []byte) []byte { return append(der, bytes.Repeat([]byte{c}, n)...) }
	}
	for _, c := range []struct {
		name   string
		rewrap func(der []byte) []byte
		code   reason.Code
	}{
		{"tpm-62 one zero behind", fill(0, 1), ""},
		{"tpm-62 zeros to the end of the index", fill(0, 900), ""},
		{"tpm-62 0xff to the end of the index", fill(0xff, 900), ""},
		{"tpm-62 another byte to the end of the index", fill(0x11, 192), ""},
		{"tpm-62 header of 5 bytes", func(d []byte) []byte { return append(header(len(d)), d...) }, ""},
		{"tpm-62 header of 7 bytes", func(d []byte) []byte { return append(header(len(d), 0x10, 0x02), d...) }, ""},
		{"tpm-62 header and fill", func(d []byte) []byte { return fill(0xff, 100)(append(header(len(d)), d...)) }, ""},
		{"tpm-62 fill inside the header's length", func(d []byte) []byte { return append(header(len(d)+4), append(d, 0, 0, 0, 0)...) }, ""},
		{"tpm-62 junk behind", func(d []byte) []byte { return append(d, 1, 2, 3) }, reason.EKCertEncoding},
		{"tpm-62 one byte behind", fill(0x30, 1), reason.EKCertEncoding},
		{"tpm-62 fill that changes", func(d []byte) []byte { return append(d, 0, 0, 0xff) }, reason.EKCertEncoding},
		{"tpm-62 a second certificate behind", func(d []byte) []byte { return append(d, d...) }, reason.EKCertEncoding},
		{"tpm-62 header longer than the index", func(d []byte) []byte { return append(header(len(d)+1), d...) }, reason.EKCertEncoding},
		{"tpm-62 header shorter than the certificate", func(d []byte) []byte { return append(header(len(d)-1), d...) }, reason.EKCertEncoding},
		{"tpm-62 junk behind the header's length", func(d []byte) []byte { return append(append(header(len(d)), d...), 1, 2, 3) }, reason.EKCertEncoding},
		{"tpm-62 header of a partial certificate", func(d []byte) []byte {
			h := header(len(d))
			h[2] = 1
			return append(h, d...)
		}, reason.EKCertEncoding},
		{"tpm-62 junk before", func(d []byte) []byte { return append([]byte{0}, d...) }, reason.EKCertEncoding},
		{"cut short", func(d []byte) []byte { return d[:len(d)-1] }, reason.EKCertEncoding},
		{"empty", func([]byte) []byte { return nil }, reason.EKCertEncoding},
		{"only a header", func([]byte) []byte { return header(0) }, reason.EKCertEncoding},
		{"only fill", func([]byte) []byte { return make([]byte, 900) }, reason.EKCertEncoding},
		{"tpm-65 an attribute certificate", attributeCertificate, reason.EKCertEncoding},
		{"PEM", func([]byte) []byte { return m.root.pem() }, reason.EKCertEncoding},
		{"tpm-66 longer than 4096 bytes", fill(0, 4096), reason.RequestTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			r.rewrap = c.rewrap
			_, err := r.verify(t)
			wantCode(t, err, c.code)
		})
	}
}

// attributeCertificate is the head of an RFC 5755 certificate: version 2, a
// holder where a public-key certificate has its signature algorithm.
func attributeCertificate([]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1Int64(1)
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.Tag(0).ContextSpecific().Constructed(), func(*cryptobyte.Builder) {})
			})
		})
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11})
		})
		b.AddASN1BitString(make([]byte, 256))
	})
	return b.BytesOrPanic()
}

func TestVerifySizes(t *testing.T) {
	m := newMaker(t)
	huge := func(bits int, e []byte) []byte {
		modulus := bytes.Repeat([]byte{0xff}, bits/8)
		return spkiRSA("1.2.840.113549.1.1.1", modulus, e)
	}
	small := m.issuer.cert.Raw
	for _, c := range []struct {
		name   string
		change func(r *request)
	}{
		{"tpm-66 10000 issuer certificates", func(r *request) { r.chain = make([][]byte, 10000) }},
		{"tpm-66 five issuer certificates", func(r *request) { r.chain = [][]byte{small, small, small, small, small} }},
		{"tpm-66 issuer certificate above 4096 bytes", func(r *request) { r.chain = [][]byte{make([]byte, 4097)} }},
		{"tpm-66 issuer with RSA-16384", func(r *request) {
			r.chain = [][]byte{m.root.reissue(t, small, huge(16384, []byte{1, 0, 1}))}
		}},
		{"tpm-66 issuer with a huge exponent", func(r *request) {
			r.chain = [][]byte{m.root.reissue(t, small, huge(2048, bytes.Repeat([]byte{0xff}, 256)))}
		}},
		{"tpm-66 EK with RSA-16384", func(r *request) {
			r.rewrap = func(der []byte) []byte { return m.issuer.reissue(t, der, huge(16384, []byte{1, 0, 1})) }
		}},
		{"tpm-66 EK with a huge exponent", func(r *request) {
			r.rewrap = func(der []byte) []byte { return m.issuer.reissue(t, der, huge(2048, bytes.Repeat([]byte{0xff}, 16))) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			c.change(r)
			_, err := r.verify(t)
			wantCode(t, err, reason.RequestTooLarge)
		})
	}
}

// spkiRSA writes an RSA key under any algorithm, e big-endian.
func spkiRSA(oid string, modulus, e []byte) []byte {
	id, err := x509.ParseOID(oid)
	if err != nil {
		panic(err)
	}
	der, err := id.MarshalBinary()
	if err != nil {
		panic(err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(der) })
			b.AddASN1NULL()
		})
		var key cryptobyte.Builder
		key.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1BigInt(new(big.Int).SetBytes(modulus))
			b.AddASN1BigInt(new(big.Int).SetBytes(e))
		})
		b.AddASN1BitString(key.BytesOrPanic())
	})
	return b.BytesOrPanic()
}

// respki returns a rewrap that puts another key into the certificate.
func respki(t *testing.T, r *request, spki string) func([]byte) []byte {
	raw, err := hex.DecodeString(spki)
	if err != nil {
		t.Fatal(err)
	}
	return func(der []byte) []byte { return r.issuer.reissue(t, der, raw) }
}

// TestVerifyForeignKeys: keys that crypto/x509 leaves out are nil there; here
// they are decoded, or refused by name.
func TestVerifyForeignKeys(t *testing.T) {
	m := newMaker(t)
	n, e := rsaKey().N.Bytes(), []byte{1, 0, 1}
	for _, c := range []struct {
		name string
		spki []byte
		code reason.Code
	}{
		{"tpm-63 RSAES-OAEP", spkiRSA("1.2.840.113549.1.1.7", n, e), ""},
		{"tpm-63 RSASSA-PSS", spkiRSA("1.2.840.113549.1.1.10", n, e), reason.EKCertKeyType},
		{"tpm-63 unknown algorithm", spkiRSA("1.2.3.4", n, e), reason.EKCertKeyType},
		{"tpm-63 RSAES-OAEP around junk", junkOAEP(), reason.EKCertEncoding},
		{"tpm-63 RSAES-OAEP, bytes behind the key", trailingOAEP(n, e), reason.EKCertEncoding},
		{"tpm-55 RSAES-OAEP of another key", spkiRSA("1.2.840.113549.1.1.7", n, []byte{3}), reason.EKCertKeyMismatch},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := m.request(rsaKey().Public())
			r.rewrap = func(der []byte) []byte { return m.issuer.reissue(t, der, c.spki) }
			_, err := r.verify(t)
			wantCode(t, err, c.code)
		})
	}
}

// trailingOAEP has a byte behind the RSAPublicKey, inside the BIT STRING.
func trailingOAEP(n, e []byte) []byte {
	in := cryptobyte.String(spkiRSA("1.2.840.113549.1.1.7", n, e))
	var body, alg, bits cryptobyte.String
	if !in.ReadASN1(&body, asn1.SEQUENCE) || !body.ReadASN1Element(&alg, asn1.SEQUENCE) || !body.ReadASN1(&bits, asn1.BIT_STRING) {
		panic("no SPKI")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(alg)
		b.AddASN1BitString(append(bytes.Clone(bits[1:]), 0))
	})
	return b.BytesOrPanic()
}

func junkOAEP() []byte {
	b := spkiRSA("1.2.840.113549.1.1.7", []byte{1}, []byte{1})
	b[len(b)-8] ^= 0x10 // the inner SEQUENCE becomes another tag
	return b
}

// rocaModulus is a 2048-bit number with the structure of CVE-2017-15361: a
// power of 65537 modulo the product of the primes to 701.
func rocaModulus() *big.Int {
	product := big.NewInt(1)
	for p := int64(2); p <= 701; p++ {
		if big.NewInt(p).ProbablyPrime(20) {
			product.Mul(product, big.NewInt(p))
		}
	}
	residue := new(big.Int).Exp(big.NewInt(65537), big.NewInt(123456789), product)
	top := new(big.Int).Lsh(big.NewInt(3), 2046)
	k := new(big.Int).Div(top, product)
	return residue.Add(residue, k.Mul(k, product))
}

func TestROCAFingerprint(t *testing.T) {
	n := rocaModulus()
	if n.BitLen() != 2048 || !ekcert.ROCA(n) {
		t.Errorf("%d bits; the fingerprint is not seen", n.BitLen())
	}
	if ekcert.ROCA(new(big.Int).Add(n, big.NewInt(2))) {
		t.Error("its neighbour has the fingerprint")
	}
	if ekcert.ROCA(rsaKey().N) {
		t.Error("an honest key has the fingerprint")
	}
	if ekcert.ROCA(new(big.Int).Mul(big.NewInt(11), rsaKey().N)) {
		t.Error("a multiple of 11 has the fingerprint")
	}
}

// TestCheckKey: the key alone, as an enrolment without a certificate shows it.
func TestCheckKey(t *testing.T) {
	short := new(big.Int).SetBit(big.NewInt(1), 2046, 1)
	for what, tt := range map[string]struct {
		spki []byte
		want reason.Code
	}{
		"weak":   {spkiOf(t, &rsa.PublicKey{N: rocaModulus(), E: 65537}), reason.EKCertWeakKey},
		"short":  {spkiOf(t, &rsa.PublicKey{N: short, E: 65537}), reason.EKCertWeakKey},
		"strong": {spkiOf(t, &rsaKey().PublicKey), ""},
		"no key": {[]byte{0x30, 0}, reason.EKCertEncoding},
	} {
		if err := ekcert.CheckKey(tt.spki); reason.Of(err) != tt.want {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
}

func TestNewRoots(t *testing.T) {
	m := newMaker(t)
	if r := roots(t); r.Len() != 0 {
		t.Errorf("no bundle: %d anchors", r.Len())
	}
	if r := roots(t, append(m.root.pem(), m.issuer.pem()...), newMaker(t).root.cert.Raw); r.Len() != 2 {
		t.Errorf("%d anchors, want 2", r.Len())
	}
	for name, b := range map[string][]byte{
		"empty file":                        {},
		"junk":                              []byte("junk"),
		"no anchor":                         m.issuer.pem(),
		"a private key":                     []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
		"a PEM of junk":                     []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"a certificate under another label": pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: m.root.cert.Raw}),
		"DER and more":                      append(bytes.Clone(m.root.cert.Raw), 0),
		"good, then a junk":                 append(m.root.pem(), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")...),
	} {
		if _, err := ekcert.NewRoots(b); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
