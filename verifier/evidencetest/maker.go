package evidencetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// Maker is a TPM manufacturer ("STM"): a root and an issuer of EK certificates.
type Maker struct {
	root, issuer       *x509.Certificate
	rootKey, issuerKey crypto.Signer
}

// NewMaker makes a manufacturer whose certificates live around Noon.
func NewMaker(t testing.TB) *Maker {
	t.Helper()
	m := &Maker{rootKey: signingKey(t), issuerKey: signingKey(t)}
	m.root = sign(t, authority("Maker TPM Root CA"), nil, m.rootKey.Public(), m.rootKey)
	m.issuer = sign(t, authority("Maker TPM EK CA 1"), m.root, m.issuerKey.Public(), m.rootKey)
	return m
}

func signingKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func authority(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: Noon.AddDate(-10, 0, 0), NotAfter: Noon.AddDate(10, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

// sign issues template under parent, itself for nil.
func sign(t testing.TB, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// PEM returns the root.
func (m *Maker) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.root.Raw})
}

// Roots returns the root as configured trust.
func (m *Maker) Roots(t testing.TB) ekcert.Roots {
	t.Helper()
	roots, err := ekcert.NewRoots(m.PEM())
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

// Endorse gives the TPM an EK certificate.
func (m *Maker) Endorse(t testing.TB, p *TPM) {
	t.Helper()
	p.EKCertificate, p.EKChain = m.Certificate(t, p.EK), [][]byte{m.issuer.Raw}
}

// Certificate issues an EK certificate (TCG EK Credential Profile 2.5, 3.2).
func (m *Maker) Certificate(t testing.TB, ek *EK) []byte {
	t.Helper()
	return m.CertificateOf(t, ek, "id:53544D20")
}

// CertificateOf issues an EK certificate that names another manufacturer, in
// the form "id:" and eight hex digits.
func (m *Maker) CertificateOf(t testing.TB, ek *EK, manufacturer string) []byte {
	t.Helper()
	return m.Forge(t, ek, func(c *x509.Certificate) { c.ExtraExtensions[0].Value = TPMNames(manufacturer) })
}

// Forge issues an EK certificate after change did something to it. Its first
// extra extension is the alternative name; PublicKey is that of the EK.
func (m *Maker) Forge(t testing.TB, ek *EK, change func(c *x509.Certificate)) []byte {
	t.Helper()
	usage := x509.KeyUsageKeyAgreement
	if _, ok := ek.private.(*rsa.PrivateKey); ok {
		usage = x509.KeyUsageKeyEncipherment
	}
	template := &x509.Certificate{
		PublicKey: ek.private.Public(), SerialNumber: big.NewInt(77), KeyUsage: usage, BasicConstraintsValid: true,
		NotBefore: Noon.AddDate(-1, 0, 0), NotAfter: Noon.AddDate(9, 0, 0),
		UnknownExtKeyUsage: []encoding_asn1.ObjectIdentifier{{2, 23, 133, 8, 1}},
		ExtraExtensions: []pkix.Extension{
			{Id: encoding_asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: TPMNames("id:53544D20")},
		},
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, m.issuer, template.PublicKey, m.issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TPMNames is an alternative name with manufacturer, model and firmware version.
// More than one manufacturer is what no certificate has.
func TPMNames(manufacturer string, more ...string) []byte {
	type attribute struct {
		last  int // 2.23.133.2.last
		value string
	}
	names := []attribute{{1, manufacturer}, {2, "ST33"}, {3, "id:00490004"}}
	for _, m := range more {
		names = append(names, attribute{1, m})
	}
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.Tag(4).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, n := range names {
					b.AddASN1(asn1.SET, func(b *cryptobyte.Builder) {
						b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
							b.AddASN1ObjectIdentifier(encoding_asn1.ObjectIdentifier{2, 23, 133, 2, n.last})
							b.AddASN1(asn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(n.value)) })
						})
					})
				}
			})
		})
	})
	return b.BytesOrPanic()
}

// Revoking is a revocation list of the issuer that names one serial.
func (m *Maker) Revoking(t testing.TB, serial int64) x509chain.CRLs {
	t.Helper()
	lists, err := x509chain.NewCRLs(m.RevocationList(t, serial))
	if err != nil {
		t.Fatal(err)
	}
	return lists
}

// RevocationList is the same in DER, good for a month from Noon.
func (m *Maker) RevocationList(t testing.TB, serial int64) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(1), ThisUpdate: Noon.AddDate(0, 0, -1), NextUpdate: Noon.AddDate(0, 1, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(serial), RevocationTime: Noon.AddDate(0, 0, -1)}},
	}, m.issuer, m.issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
