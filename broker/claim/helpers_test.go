package claim_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/claim"
)

var (
	now  = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	node = strings.Repeat("a", 26)
	td   = spiffeid.RequireTrustDomainFromString("zb.example")
)

func good() claim.Claims {
	return claim.Claims{
		VerifierID: claim.VerifierID{Developer: "https://zonebroker.example", Build: "zonebroker 0.1.0"},
		Status:     claim.StatusAffirming,
		Submods: map[string]claim.Submod{claim.SubmodTPM: claim.Measured{
			SecureBoot: "on", References: true, Genuine: true,
			PolicyID: claim.PolicyID("payments", 41, "sha256:"+strings.Repeat("0c", 32)),
		}.Submod()},
		IssuedAt: now.Unix(),
		Expires:  now.Add(time.Hour).Unix(),
		Zone: claim.Zone{
			Name: "payments", Tier: 2, Epoch: 1, Node: node,
			AttestationID: "0197b3c2-0000-7000-8000-000000000001",
			AttestedAt:    now.Add(-time.Second).Unix(), FreshUntil: now.Add(5 * time.Minute).Unix(),
			Evidence: "sha256:" + strings.Repeat("0e", 32),
			Policy:   claim.Policy{Version: 41, Hash: "sha256:" + strings.Repeat("0c", 32), Mode: claim.ModeEnforce},
			Key:      claim.KeyTPM,
		},
	}
}

// ca is a certificate authority of the trust domain.
type ca struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCA(t testing.TB) *ca {
	t.Helper()
	c := &ca{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(23 * time.Hour),
		URIs: []*url.URL{td.ID().URL()}, KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	c.cert = c.sign(t, template, template, c.key)
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *ca) sign(t testing.TB, template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// leaf signs an SVID for path with the given extensions.
func (c *ca) leaf(t testing.TB, path string, ext ...pkix.Extension) *x509.Certificate {
	t.Helper()
	return c.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: node},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(time.Hour),
		URIs: []*url.URL{{Scheme: "spiffe", Host: td.Name(), Path: path}}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: ext,
	}, c.cert, newKey(t))
}

func (c *ca) bundle() *x509bundle.Bundle {
	return x509bundle.FromX509Authorities(td, []*x509.Certificate{c.cert})
}

func encode(t testing.TB, c claim.Claims) pkix.Extension {
	t.Helper()
	ext, err := claim.EncodeCMW(c)
	if err != nil {
		t.Fatal(err)
	}
	return ext
}
