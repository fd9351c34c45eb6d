package snp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// This file holds one case for each check of certificates, products and
// configured keys that the cases beside it would not miss.

func ia5(s string) []byte {
	der, _ := asn1.MarshalWithParams(s, "ia5")
	return der
}

// own changes an extension of the VCEK or VLEK.
func own(id asn1.ObjectIdentifier, value []byte) func(s *scene) {
	return func(s *scene) { s.cert = func(c *x509.Certificate) { replace(c, id, value) } }
}

func vlekWith(change func(*x509.Certificate)) func(s *scene) {
	return func(s *scene) { s.vlek, s.report.KeyInfo, s.cert = true, 1<<2, change }
}

func provider(value []byte) func(s *scene) {
	return vlekWith(func(c *x509.Certificate) { replace(c, oid(5), value) })
}

func model(family, model byte) func(s *scene) {
	return func(s *scene) { s.report.CPUID[0], s.report.CPUID[1] = family, model }
}

// padded makes the certificate n bytes of DER long by an extension that says
// nothing.
func padded(n int) func(s *scene) {
	return func(s *scene) {
		length := func(pad int) int {
			s.cert = func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, pad)})
			}
			e, err := s.amd.VCEK(s.report.ChipID, s.report.Reported, s.cert)
			if err != nil {
				panic(err)
			}
			return len(e.Certificate)
		}
		length(2000 + n - length(2000))
	}
}

func TestChecks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		product string
		change  func(s *scene)
		code    reason.Code
	}{
		{"a PEM that ends early", "Milan", func(s *scene) { s.send = func([]byte) []byte { return []byte("-----BEGIN CERTIFICATE-----\nMII") } }, reason.SNPUntrusted},
		{"a certificate of 4096 bytes", "Milan", padded(4096), ""},
		{"a certificate of 4097 bytes", "Milan", padded(4097), reason.SNPUntrusted},
		{"16 KiB of PEM", "Milan", func(s *scene) {
			s.send = func(der []byte) []byte {
				p := pemOf(der)
				return append(p, bytes.Repeat([]byte("\n"), snp.MaxCertificate-len(p))...)
			}
		}, ""},
		{"64 KiB of report", "Milan", func(s *scene) { s.resign = func([]byte) []byte { return make([]byte, 64<<10) } }, reason.SNPMalformed},

		{"a level that is no INTEGER and would read as zero", "Milan", own(oid(3, 2), []byte{5, 0}), reason.SNPUntrusted},
		{"the highest level", "Milan", func(s *scene) { s.report.Reported = 0xff18000000000004 }, ""},
		{"another's extension that ends like a level", "Milan", func(s *scene) {
			s.cert = func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 9999, 1, 3, 8}, Value: []byte{2, 1, 1}})
			}
		}, ""},
		{"a VLEK that names a chip", "Milan", vlekWith(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oid(4), Value: make([]byte, 64)})
		}), reason.SNPUntrusted},
		{"a provider in UTF-8", "Milan", provider([]byte{0x0c, 1, 'x'}), reason.SNPUntrusted},
		{"a provider with more behind", "Milan", provider([]byte{0x16, 1, 'x', 0}), reason.SNPUntrusted},
		{"a provider of 128 letters", "Milan", provider(ia5(string(bytes.Repeat([]byte("a"), 128)))), ""},
		{"a provider of 129 letters", "Milan", provider(ia5(string(bytes.Repeat([]byte("a"), 129)))), reason.SNPUntrusted},
		{"a provider with the first and the last letter", "Milan", provider(ia5(" ~")), ""},
		{"a provider with a line break", "Milan", provider(ia5("x\n")), reason.SNPUntrusted},
		{"a provider with a control character", "Milan", provider([]byte{0x16, 1, 0x7f}), reason.SNPUntrusted},

		{"a bare chip that begins like an OCTET STRING", "Milan", func(s *scene) { s.report.ChipID[0], s.report.ChipID[1] = 4, 62 }, ""},
		{"a chip as UTF8String", "Milan", func(s *scene) { own(oid(4), append([]byte{0x0c, 64}, s.report.ChipID[:]...))(s) }, reason.SNPUntrusted},
		{"a chip with more behind", "Turin", func(s *scene) {
			own(oid(4), slices.Concat([]byte{4, 8}, s.report.ChipID[:8], make([]byte, 56)))(s)
		}, reason.SNPUntrusted},
		{"a chip of eight bytes as OCTET STRING", "Turin", func(s *scene) { own(oid(4), append([]byte{4, 8}, s.report.ChipID[:8]...))(s) }, ""},

		{"the last model of Milan", "Milan", model(0x19, 0x0f), ""},
		{"a model between Genoa and Bergamo", "Genoa", model(0x19, 0x50), reason.SNPTCBMismatch},
		{"a model of Genoa's in another family", "Genoa", model(0x17, 0x11), reason.SNPTCBMismatch},
		{"a model of Turin's in another family", "Turin", model(0x17, 0x02), reason.SNPTCBMismatch},
		{"the last model of Turin", "Turin", model(0x1a, 0x1f), ""},
		{"a model behind Turin", "Turin", model(0x1a, 0x20), reason.SNPTCBMismatch},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScene(tc.product)
			tc.change(s)
			_, err := s.verify(t)
			wantCode(t, err, tc.code)
		})
	}
}

// TestNoMigrationAgent: zeros are what a guest without an agent has.
func TestNoMigrationAgent(t *testing.T) {
	s := newScene("Milan")
	clear(s.report.AgentID[:])
	a, err := s.verify(t)
	f := a.Facts()
	if err != nil || f.Values("snp.migration_agent") != nil {
		t.Errorf("%v, %v", f.Values("snp.migration_agent"), err)
	}
}

// caPair is a root and an issuer of a test PKI with any names and keys.
type caPair struct {
	root, issuer       *x509.Certificate
	rootKey, issuerKey *ecdsa.PrivateKey
}

func newKey(t *testing.T, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issued(t *testing.T, template, parent *x509.Certificate, pub *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func authority(name, organization string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{organization}},
		NotBefore: noon.AddDate(-1, 0, 0), NotAfter: noon.AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
}

func newPair(t *testing.T, root, issuer string) caPair {
	t.Helper()
	p := caPair{rootKey: newKey(t, elliptic.P256()), issuerKey: newKey(t, elliptic.P256())}
	template := authority(root, "a")
	p.root = issued(t, template, template, &p.rootKey.PublicKey, p.rootKey)
	p.issuer = issued(t, authority(issuer, "a"), p.root, &p.issuerKey.PublicKey, p.rootKey)
	return p
}

// under sends the certificate of a scene as another issuer signed it, for a fresh
// key.
func (p caPair) under(t *testing.T, curve elliptic.Curve) func([]byte) []byte {
	return func(der []byte) []byte {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		c.SignatureAlgorithm, c.AuthorityKeyId = x509.UnknownSignatureAlgorithm, nil
		c.ExtraExtensions = slices.DeleteFunc(c.Extensions, func(e pkix.Extension) bool { return len(e.Id) < 8 })
		return issued(t, c, p.issuer, &newKey(t, curve).PublicKey, p.issuerKey).Raw
	}
}

// TestCertifiedKeyOfAnotherCurve: AMD's keys are of P-384. One of a weaker curve is
// none, though the right issuer signed its certificate.
func TestCertifiedKeyOfAnotherCurve(t *testing.T) {
	pair := newPair(t, "ARK-Milan", "SEV-Milan")
	for curve, want := range map[elliptic.Curve]reason.Code{elliptic.P384(): reason.SNPSignature, elliptic.P256(): reason.SNPUntrusted} {
		s := newScene("Milan")
		s.objects.Roots, s.send = [][]byte{pair.root.Raw, pair.issuer.Raw}, pair.under(t, curve)
		_, err := s.verify(t)
		wantCode(t, err, want)
	}
}

// TestIssuerOfAnotherName: the certificate names its issuer, whatever key a
// configured one shares with it.
func TestIssuerOfAnotherName(t *testing.T) {
	pair := newPair(t, "ARK-Milan", "SEV-Milan")
	renamed := issued(t, authority("SEV-Milan", "b"), pair.root, &pair.issuerKey.PublicKey, pair.rootKey)
	s := newScene("Milan")
	s.objects.Roots, s.send = [][]byte{pair.root.Raw, renamed.Raw}, pair.under(t, elliptic.P384())
	_, err := s.verify(t)
	wantCode(t, err, reason.SNPUntrusted)
}

// TestIssuersRefused: names and signature make an issuer, all of them.
func TestIssuersRefused(t *testing.T) {
	good, twin := newPair(t, "ARK-Milan", "SEV-Milan"), newPair(t, "ARK-Milan", "SEV-Milan")
	template := authority("ARK-Milan", "b")
	renamed := issued(t, template, template, &good.rootKey.PublicKey, good.rootKey)
	genoa := newPair(t, "ARK-Genoa", "SEV-Milan")
	bare, rome, root := newPair(t, "ARK-Milan", "Milan"), newPair(t, "ARK-Rome", "SEV-Rome"), newPair(t, "Milan", "SEV-Milan")
	for name, tc := range map[string]struct {
		certs []*x509.Certificate
		want  error
	}{
		"good":                                          {[]*x509.Certificate{good.root, good.issuer}, nil},
		"an issuer that is not called SEV":              {[]*x509.Certificate{bare.root, bare.issuer}, snp.ErrNoIssuer},
		"a product that there is not":                   {[]*x509.Certificate{rome.root, rome.issuer}, snp.ErrNoIssuer},
		"a root of another product":                     {[]*x509.Certificate{genoa.root, genoa.issuer}, snp.ErrNoIssuer},
		"a root that is not called ARK":                 {[]*x509.Certificate{root.root, root.issuer}, snp.ErrNoIssuer},
		"a root of the same name that did not sign":     {[]*x509.Certificate{twin.root, good.issuer}, snp.ErrNoIssuer},
		"a root of the same key that is not its issuer": {[]*x509.Certificate{renamed, good.issuer}, snp.ErrNoIssuer},
	} {
		var o snp.Objects
		for _, c := range tc.certs {
			o.Roots = append(o.Roots, c.Raw)
		}
		if _, err := snp.NewTrust(o); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := snp.NewTrust(snp.Objects{Roots: [][]byte{good.root.Raw, good.issuer.Raw, []byte("x")}}); err == nil {
		t.Error("a file that is no certificate is passed over")
	}
	mislabelled := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: good.issuer.Raw})
	if _, err := snp.NewTrust(snp.Objects{Roots: [][]byte{good.root.Raw, pemOf(good.issuer.Raw), mislabelled}}); err == nil {
		t.Error("a PEM block that is labelled as a key is read as a certificate")
	}
}

// TestConfiguredEndorsementOfNoProduct: no report would ever find it, and the
// operator is told.
func TestConfiguredEndorsementOfNoProduct(t *testing.T) {
	s := newScene("Milan")
	own(oid(2), ia5("Rome"))(s)
	s.objects.Endorsements = [][]byte{s.endorser(t).Certificate}
	if _, err := snp.NewTrust(s.objects); err == nil {
		t.Error("taken")
	}
}

func TestEndorses(t *testing.T) {
	s := newScene("Milan")
	ev := s.evidence(t)
	if s.trust(t).Endorses(ev.Report) {
		t.Error("of a chip for which nothing is configured")
	}
	s.objects.Endorsements = [][]byte{ev.Certificate}
	if trust := s.trust(t); !trust.Endorses(ev.Report) || trust.Endorses(ev.Report[:100]) || trust.Endorses(nil) {
		t.Error("not of the chip that is configured, or of a report that is none")
	}
}

// TestFindingsNamed: each check that held is told, and none that was not made.
func TestFindingsNamed(t *testing.T) {
	for bound, want := range map[bool][]string{
		true:  {"snp.form", "snp.chain", "snp.signature", "snp.certificate", "snp.report_data"},
		false: {"snp.form", "snp.chain", "snp.signature", "snp.certificate"},
	} {
		s := newScene("Milan")
		if !bound {
			s.want = nil
		}
		a, err := s.verify(t)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range a.Facts().Findings {
			got = append(got, f.Check)
		}
		if !slices.Equal(got, want) {
			t.Errorf("bound %t: %v, want %v", bound, got, want)
		}
	}
}
