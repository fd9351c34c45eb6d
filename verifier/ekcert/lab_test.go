package ekcert_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/pem"
	"math/big"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// This file is a manufacturer: a root, an intermediate and EK certificates in
// which a test changes one thing.

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func wantCode(t testing.TB, err error, want reason.Code) {
	t.Helper()
	if got := reason.Of(err); got != want {
		t.Errorf("code %q, want %q (%v)", got, want, err)
	}
}

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// authority is a CA.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func caTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.AddDate(-10, 0, 0), NotAfter: noon.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// newCA makes a CA under parent, or a root for nil.
func newCA(t testing.TB, template *x509.Certificate, parent *authority, key crypto.Signer) *authority {
	t.Helper()
	issuer := &authority{cert: template, key: key}
	if parent != nil {
		issuer = parent
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.cert, key.Public(), issuer.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// maker has a root and an intermediate that signs EK certificates.
type maker struct {
	root, issuer *authority
	roots        ekcert.Roots
}

func newMaker(t testing.TB) *maker {
	t.Helper()
	m := &maker{root: newCA(t, caTemplate("Maker TPM Root CA"), nil, newKey(t, elliptic.P256()))}
	m.issuer = newCA(t, caTemplate("Maker TPM EK CA 1"), m.root, newKey(t, elliptic.P256()))
	m.roots = roots(t, m.root.pem())
	return m
}

func roots(t testing.TB, bundles ...[]byte) ekcert.Roots {
	t.Helper()
	r, err := ekcert.NewRoots(bundles...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tpmAttribute is one attribute of the alternative name.
type tpmAttribute struct {
	last  int // 2.23.133.2.last
	value string
}

var stm = []tpmAttribute{{1, "id:53544D20"}, {2, "ST33"}, {3, "id:00490004"}}

// altName is a GeneralNames with one directoryName; all attributes stand in one
// RDN if joined.
func altName(joined bool, attrs ...tpmAttribute) []byte {
	b := cryptobyte.NewBuilder(nil)
	pair := func(b *cryptobyte.Builder, a tpmAttribute) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 23, 133, 2, a.last})
			b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(a.value)) })
		})
	}
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				if joined {
					b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
						for _, a := range attrs {
							pair(b, a)
						}
					})
					return
				}
				for _, a := range attrs {
					b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) { pair(b, a) })
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// oneAttribute is an alternative name with one manufacturer, written by f.
func oneAttribute(f func(b *cryptobyte.Builder)) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 23, 133, 2, 1})
						f(b)
					})
				})
			})
		})
	})
	return b.BytesOrPanic()
}

func withStringType(tag asn1.Tag) []byte {
	return oneAttribute(func(b *cryptobyte.Builder) {
		b.AddASN1(tag, func(b *cryptobyte.Builder) { b.AddBytes([]byte(stm[0].value)) })
	})
}

func withTrailingValue() []byte {
	return oneAttribute(func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(stm[0].value)) })
		b.AddASN1NULL()
	})
}

var (
	oidSAN = encoding_asn1.ObjectIdentifier{2, 5, 29, 17}
	oidSDA = encoding_asn1.ObjectIdentifier{2, 5, 29, 9}
	oidEKU = encoding_asn1.ObjectIdentifier{2, 5, 29, 37}
	oidEK  = encoding_asn1.ObjectIdentifier{2, 23, 133, 8, 1}
)

// ekTemplate is an EK certificate as the profile wants it.
func ekTemplate(usage x509.KeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(77),
		NotBefore:    noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(9, 0, 0),
		BasicConstraintsValid: true, KeyUsage: usage,
		UnknownExtKeyUsage: []encoding_asn1.ObjectIdentifier{oidEK},
		ExtraExtensions: []pkix.Extension{
			{Id: oidSAN, Critical: true, Value: altName(false, stm...)},
			{Id: oidSDA, Critical: true, Value: []byte{0x30, 0}},
		},
	}
}

func setSAN(c *x509.Certificate, value []byte) { c.ExtraExtensions[0].Value = value }

// issue signs template for pub.
func (a *authority) issue(t testing.TB, template *x509.Certificate, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, pub, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// reissue replaces the SubjectPublicKeyInfo of a certificate and signs again,
// with a P-256 CA key: for keys that crypto/x509 does not write.
func (a *authority) reissue(t testing.TB, der, spki []byte) []byte {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	whole := cryptobyte.String(c.RawTBSCertificate)
	var content cryptobyte.String
	if !whole.ReadASN1(&content, asn1.SEQUENCE) {
		t.Fatal("no TBS")
	}
	before, after, ok := bytes.Cut(content, c.RawSubjectPublicKeyInfo)
	if !ok {
		t.Fatal("no SPKI in the TBS")
	}
	var tbs cryptobyte.Builder
	tbs.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(before)
		b.AddBytes(spki)
		b.AddBytes(after)
	})
	signed := tbs.BytesOrPanic()
	digest := sha256.Sum256(signed)
	sig, err := a.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var out cryptobyte.Builder
	out.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(signed)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2})
		})
		b.AddASN1BitString(sig)
	})
	return out.BytesOrPanic()
}
