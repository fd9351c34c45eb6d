package verifier_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/akcert"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// akScene is an AK with its certificate.
type akScene struct {
	google   *documenttest.GCEAK
	key      []byte // SPKI
	cert     []byte
	chain    []byte
	trust    verifier.Documents
	now      time.Time
	template func(*x509.Certificate)
	instance documenttest.AKInstance
	revoked  bool
}

func newAKScene(t *testing.T, change func(*akScene)) *akScene {
	t.Helper()
	s := &akScene{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	var err error
	if s.google, err = documenttest.NewGCEAK(s.now); err != nil {
		t.Fatal(err)
	}
	s.chain, s.instance = s.google.Chain(), s.google.Instance()
	change(s)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if s.key, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	if s.cert, err = s.google.Certificate(key.Public(), s.instance, s.template); err != nil {
		t.Fatal(err)
	}
	crl, err := s.google.CRL(s.revoked)
	if err != nil {
		t.Fatal(err)
	}
	if s.trust.GCEAK, err = akcert.NewTrust(akcert.Objects{Roots: [][]byte{s.google.Roots()}, CRLs: [][]byte{crl}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *akScene) judge() (document.Facts, error) {
	item := verifier.Item{Format: verifier.FormatGCEAKCert, Document: s.cert, Parts: map[string][]byte{"chain": s.chain}}
	return verifier.JudgeItem(&item, [32]byte{1}, s.key, &s.trust, s.now)
}

func TestAKCertificateItem(t *testing.T) {
	s := newAKScene(t, func(*akScene) {})
	f, err := s.judge()
	if err != nil {
		t.Fatal(err)
	}
	if f.Class != document.ClassA || !f.NonceBound || !f.KeyBound || !bytes.Equal(f.AK, s.key) {
		t.Errorf("class %s, bound %t %t, AK %x", f.Class, f.NonceBound, f.KeyBound, f.AK)
	}
	if f.Machine != (document.Machine{Kind: document.MachineGCE, Name: "4711/9223372036854775807"}) {
		t.Errorf("%+v", f.Machine)
	}
	if diff := cmp.Diff([]document.Owner{{Kind: document.OwnerGCPProject, Value: "acme-prod"}}, f.Owners); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]document.Selector{
		{Name: "gce.instance_id", Value: "9223372036854775807"},
		{Name: "gce.instance_name", Value: "db-1"},
		{Name: "gce.project", Value: "acme-prod"},
		{Name: "gce.project_number", Value: "4711"},
		{Name: "gce.security_version", Value: "2"},
		{Name: "gce.zone", Value: "europe-west3-b"},
	}, f.Selectors); diff != "" {
		t.Error(diff)
	}
}

func TestAKCertificateItemRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		make   func(*akScene)
		change func(*akScene)
		want   reason.Code
	}{
		"no quote":               {nil, func(s *akScene) { s.key = nil }, reason.RequestMalformed},
		"a quote by another key": {nil, func(s *akScene) { s.key = []byte("x") }, reason.TPM2AKCertKeyMismatch},
		"no chain":               {nil, func(s *akScene) { s.chain = nil }, reason.TPM2AKCertUntrusted},
		"a chain that is none":   {nil, func(s *akScene) { s.chain = append(s.chain, 1) }, reason.TPM2AKCertEncoding},
		"five issuers":           {nil, func(s *akScene) { s.chain = bytes.Repeat(s.chain, 5) }, reason.RequestTooLarge},
		"a long chain":           {nil, func(s *akScene) { s.chain = make([]byte, akcert.MaxIssuers+1) }, reason.RequestTooLarge},
		"no roots":               {nil, func(s *akScene) { s.trust = verifier.Documents{} }, reason.TPM2AKCertUntrusted},
		"expired":                {nil, func(s *akScene) { s.now = s.now.AddDate(9, 0, 1) }, reason.TPM2AKCertValidity},
		"not in production":      {func(s *akScene) { s.instance.Production = false }, nil, reason.GCEAKCertInstance},
		"no instance": {func(s *akScene) {
			s.template = func(c *x509.Certificate) { c.ExtraExtensions = nil }
		}, nil, reason.GCEAKCertInstance},
		"an instance of Azure": {func(s *akScene) {
			s.template = func(c *x509.Certificate) {
				c.ExtraExtensions, c.Subject.CommonName = nil, "a1.TrustedVM.Azure.windows.net"
			}
		}, nil, reason.GCEAKCertInstance},
		"revoked": {func(s *akScene) { s.revoked = true }, nil, reason.TPM2AKCertUntrusted},
		"the EK": {func(s *akScene) {
			s.template = func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }
		}, nil, reason.TPM2AKCertUsage},
		"two security versions": {func(s *akScene) {
			s.template = func(c *x509.Certificate) {
				ext := &c.ExtraExtensions[0]
				version := []byte{0xa0, 3, 2, 1, 2}
				i := bytes.Index(ext.Value, version)
				ext.Value = slices.Concat(ext.Value[:i], version, ext.Value[i:])
				for _, length := range []int{1, i - 1, i - 3} { // of the sequence, of the properties, of their tag
					ext.Value[length] += byte(len(version))
				}
			}
		}, nil, reason.TPM2AKCertEncoding},
		"a second extension": {func(s *akScene) {
			s.template = func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			}
		}, nil, reason.TPM2AKCertUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.make == nil {
				tc.make = func(*akScene) {}
			}
			s := newAKScene(t, tc.make)
			if tc.change != nil {
				tc.change(s)
			}
			f, err := s.judge()
			if got := reason.Of(err); got != tc.want || len(f.Selectors) > 0 {
				t.Errorf("%q, want %q (%v), selectors %v", got, tc.want, err, f.Selectors)
			}
		})
	}
}

// TestAKCertificateFacts: the zero value vouches for nothing, and a certificate of
// another cloud for its key alone.
func TestAKCertificateFacts(t *testing.T) {
	if diff := cmp.Diff(document.Facts{}, akcert.Certificate{}.Facts()); diff != "" {
		t.Error(diff)
	}
	s := newAKScene(t, func(s *akScene) {
		s.template = func(c *x509.Certificate) {
			c.ExtraExtensions, c.Subject.CommonName = nil, "a1.TrustedVM.Azure.windows.net"
		}
	})
	roots, err := x509chain.NewRoots(s.google.Roots(), s.chain)
	if err != nil {
		t.Fatal(err)
	}
	c, err := akcert.Verify(s.cert, nil, s.key, roots, akcert.Options{}, s.now)
	if err != nil {
		t.Fatal(err)
	}
	if f := c.Facts(); f.Class != document.ClassC || !bytes.Equal(f.AK, s.key) || len(f.Selectors) > 0 || f.Machine != (document.Machine{}) {
		t.Errorf("%+v", f)
	}
	if _, err := akcert.NewTrust(akcert.Objects{Roots: [][]byte{s.chain}}); err == nil {
		t.Error("an intermediate alone is no trust")
	}
	if _, err := akcert.NewTrust(akcert.Objects{CRLs: [][]byte{{1}}}); err == nil {
		t.Error("a byte is no revocation list")
	}
}
