package issuer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/broker/issuer"
	"github.com/zonebroker/zonebroker/broker/ledger"
)

const trustDomain = "zb.example"

var (
	start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	node  = strings.Repeat("a", 26)
	td    = spiffeid.RequireTrustDomainFromString(trustDomain)
)

// clock is the time of an issuer under test.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

// newIssuer returns an issuer with an active CA.
func newIssuer(t testing.TB, lifetime time.Duration) (*issuer.Issuer, *clock, ledger.Key) {
	t.Helper()
	c := &clock{start}
	i, err := issuer.New(issuer.Config{TrustDomain: trustDomain, Replica: "one", Now: c.now, CALifetime: lifetime})
	if err != nil {
		t.Fatal(err)
	}
	return i, c, activate(t, i, c)
}

func activate(t testing.TB, i *issuer.Issuer, c *clock) ledger.Key {
	t.Helper()
	ca, key, err := i.NewCA(c.now())
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Activate(ca); err != nil {
		t.Fatal(err)
	}
	return key
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func spki(t testing.TB, pub any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func extension(t testing.TB, freshUntil, exp time.Time) pkix.Extension {
	t.Helper()
	hash := "sha256:" + strings.Repeat("0c", 32)
	ext, err := claim.EncodeCMW(claim.Claims{
		VerifierID: claim.VerifierID{Developer: "https://zonebroker.example", Build: "zonebroker test"},
		Status:     claim.StatusAffirming,
		Submods:    map[string]claim.Submod{claim.SubmodTPM: claim.Measured{PolicyID: claim.PolicyID("payments", 1, hash)}.Submod()},
		IssuedAt:   start.Unix(), Expires: exp.Unix(),
		Zone: claim.Zone{
			Name: "payments", Tier: 2, Epoch: 1, Node: node, AttestationID: "0197b3c2-0000-7000-8000-000000000001",
			AttestedAt: start.Add(-time.Second).Unix(), FreshUntil: freshUntil.Unix(), Evidence: hash,
			Policy: claim.Policy{Version: 1, Hash: hash, Mode: claim.ModeEnforce}, Key: claim.KeyTPM,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return ext
}

// request is what a pipeline asks for: an hour, fresh for five minutes, with
// the grace of tier 2.
func request(t testing.TB, i *issuer.Issuer, now time.Time) issuer.Request {
	t.Helper()
	fresh, grace := now.Add(5*time.Minute), 55*time.Minute
	exp, err := i.Expiry(now, fresh, time.Hour, grace)
	if err != nil {
		t.Fatal(err)
	}
	return issuer.Request{
		SPIFFEID: "spiffe://" + trustDomain + "/zone/payments/node/" + node,
		SPKI:     spki(t, newKey(t).Public()), CommonName: node, Key: claim.KeyTPM,
		NotAfter: exp, FreshUntil: fresh, Grace: grace, ClaimExtension: extension(t, fresh, exp),
	}
}

func issue(t testing.TB, i *issuer.Issuer, req issuer.Request) (*x509.Certificate, ledger.IssuedSVID) {
	t.Helper()
	p, err := i.Prepare(req)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := i.Sign(p)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert, p.Record()
}

func bundle(t testing.TB, keys ...ledger.Key) *spiffebundle.Bundle {
	t.Helper()
	doc, err := issuer.Bundle(trustDomain, keys, 7, issuer.DefaultRefreshHint)
	if err != nil {
		t.Fatal(err)
	}
	b, err := spiffebundle.Parse(td, doc)
	if err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	return b
}
