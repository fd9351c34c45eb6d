package ekcert_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
)

// FuzzEKCertificate: whatever lies in the NV index or in the chain, nothing but
// the certificate that the maker signed passes.
func FuzzEKCertificate(f *testing.F) {
	ca := newCA(f, caTemplate("Maker RSA Root"), nil, rsaKey())
	key := newKey(f, elliptic.P256())
	der := ca.issue(f, ekTemplate(x509.KeyUsageKeyAgreement), key.Public())
	good, err := x509.ParseCertificate(der)
	if err != nil {
		f.Fatal(err)
	}
	spki, trusted := spkiOf(f, key.Public()), roots(f, ca.pem())
	f.Add(der, []byte{})
	f.Add(append(header(len(der)), der...), ca.cert.Raw)
	f.Add(append(header(len(der), 0x10, 0x02), der...), []byte{0x30, 0})
	f.Add(append(bytes.Clone(der), 0xff, 0xff), der)
	f.Add(attributeCertificate(nil), []byte{})
	f.Fuzz(func(t *testing.T, raw, issuer []byte) {
		var chain [][]byte
		if len(issuer) > 0 {
			chain = [][]byte{issuer}
		}
		var cert ekcert.Certificate
		var err error
		evidencetest.Bounded(t, len(raw)+len(issuer), 64, func() {
			cert, err = ekcert.Verify(raw, chain, spki, trusted, ekcert.Options{}, noon)
		})
		if err != nil {
			return
		}
		got, err := x509.ParseCertificate(cert.Raw())
		if err != nil || !bytes.Equal(got.RawTBSCertificate, good.RawTBSCertificate) {
			t.Errorf("another certificate passed: %x", raw)
		}
	})
}

// FuzzNewRoots: bundles come from operators, but a broken one must be an error.
func FuzzNewRoots(f *testing.F) {
	ca := newCA(f, caTemplate("Maker Root"), nil, newKey(f, elliptic.P256()))
	f.Add(ca.pem())
	f.Add(ca.cert.Raw)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var r ekcert.Roots
		var err error
		evidencetest.Bounded(t, len(b), 64, func() { r, err = ekcert.NewRoots(b) })
		if err == nil && r.Len() == 0 {
			t.Error("a bundle without an anchor was taken")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	m := newMaker(b)
	r := m.request(rsaKey().Public())
	raw := m.issuer.issue(b, r.template, r.pub)
	spki := spkiOf(b, r.pub)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ekcert.Verify(raw, r.chain, spki, r.roots, r.opts, r.now); err != nil {
			b.Fatal(err)
		}
	}
}
