package claim_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/claim"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestVerifiedClaim(t *testing.T) {
	authority := newCA(t)
	for _, path := range []string{"/zone/payments/node/" + node, "/zone/payments/workload/checkout"} {
		v, err := claim.Verify([]*x509.Certificate{authority.leaf(t, path, encode(t, good()))}, authority.bundle(), now)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if v.ID().Path() != path || v.Zone() != "payments" || v.Tier() != 2 || v.Node() != node || v.Stale() {
			t.Errorf("verified = %+v", v)
		}
		if !v.AttestedAt().Equal(now.Add(-time.Second)) || !v.FreshUntil().Equal(now.Add(5*time.Minute)) || !v.NotAfter().Equal(now.Add(time.Hour)) {
			t.Errorf("times = %s %s %s", v.AttestedAt(), v.FreshUntil(), v.NotAfter())
		}
		v.Claims().Submods[claim.SubmodTPM].PolicyIDs[0] = "changed"
		delete(v.Claims().Submods, claim.SubmodTPM)
		if v.Claims().Submods[claim.SubmodTPM].PolicyIDs[0] == "changed" {
			t.Error("a caller can change a verified claim")
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	authority, stranger := newCA(t), newCA(t)
	ext := encode(t, good())
	path := "/zone/payments/node/" + node
	leaf := authority.leaf(t, path, ext)
	with := func(edit func(*claim.Claims)) *x509.Certificate {
		c := good()
		edit(&c)
		return authority.leaf(t, path, encode(t, c))
	}
	otherTD := x509bundle.FromX509Authorities(spiffeid.RequireTrustDomainFromString("other.example"), []*x509.Certificate{authority.cert})
	rows := []struct {
		name   string
		chain  []*x509.Certificate
		bundle x509bundle.Source
		at     time.Time
		code   reason.Code
	}{
		{"no chain", nil, authority.bundle(), now, reason.AuthInvalid},
		{"gap in the chain", []*x509.Certificate{leaf, nil}, authority.bundle(), now, reason.AuthInvalid},
		{"no bundle", []*x509.Certificate{leaf}, nil, now, reason.AuthInvalid},
		{"no time", []*x509.Certificate{leaf}, authority.bundle(), time.Time{}, reason.AuthInvalid},
		{"T52_other CA", []*x509.Certificate{leaf}, stranger.bundle(), now, reason.AuthInvalid},
		{"T52_other trust domain", []*x509.Certificate{leaf}, otherTD, now, reason.AuthInvalid},
		{"T53_certificate ended", []*x509.Certificate{leaf}, authority.bundle(), now.Add(time.Hour + time.Second), reason.AuthInvalid},
		{"certificate not valid yet", []*x509.Certificate{leaf}, authority.bundle(), now.Add(-2 * time.Minute), reason.AuthInvalid},
		{"no claim", []*x509.Certificate{authority.leaf(t, path)}, authority.bundle(), now, reason.AuthInvalid},
		{"CA as leaf", []*x509.Certificate{authority.cert}, authority.bundle(), now, reason.AuthInvalid},
		{"zone of another path", []*x509.Certificate{authority.leaf(t, "/zone/billing/node/"+node, ext)}, authority.bundle(), now, reason.AuthInvalid},
		{"node of another path", []*x509.Certificate{authority.leaf(t, "/zone/payments/node/"+node[1:]+"b", ext)}, authority.bundle(), now, reason.AuthInvalid},
		{"trial is not the zone", []*x509.Certificate{authority.leaf(t, "/trial/payments/node/"+node, ext)}, authority.bundle(), now, reason.AuthInvalid},
		{"deeper path", []*x509.Certificate{authority.leaf(t, path+"/x", ext)}, authority.bundle(), now, reason.AuthInvalid},
		{"zone prefix only", []*x509.Certificate{authority.leaf(t, "/zone/payments", ext)}, authority.bundle(), now, reason.AuthInvalid},
		{"other kind", []*x509.Certificate{authority.leaf(t, "/zone/payments/agent/"+node, ext)}, authority.bundle(), now, reason.AuthInvalid},
		{"T53_certificate outlives exp", []*x509.Certificate{with(func(c *claim.Claims) { c.Expires-- })}, authority.bundle(), now, reason.AuthInvalid},
		{"T53_fresh_until reached", []*x509.Certificate{leaf}, authority.bundle(), now.Add(5 * time.Minute), reason.PolicyEvidenceAge},
		{"T53_long stale", []*x509.Certificate{leaf}, authority.bundle(), now.Add(59 * time.Minute), reason.PolicyEvidenceAge},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			v, err := claim.Verify(r.chain, r.bundle, r.at)
			if reason.Of(err) != r.code {
				t.Errorf("err = %v, want %s", err, r.code)
			}
			if v.Zone() != "" {
				t.Error("a refused claim says something")
			}
		})
	}
}

// The zero time makes crypto/x509 look at its own clock: a checker with a slip
// would call every claim fresh.
func TestVerifyNeedsATime(t *testing.T) {
	authority := newCA(t)
	authority.cert.NotBefore, authority.cert.NotAfter = time.Unix(0, 0), now.AddDate(50, 0, 0)
	authority.cert = authority.sign(t, authority.cert, authority.cert, authority.key)
	c := good()
	c.Expires = 0
	leaf := authority.sign(t, &x509.Certificate{
		SerialNumber: authority.cert.SerialNumber, NotBefore: time.Unix(0, 0), NotAfter: now.AddDate(50, 0, 0),
		URIs:            []*url.URL{{Scheme: "spiffe", Host: td.Name(), Path: "/zone/payments/node/" + node}},
		ExtraExtensions: []pkix.Extension{encode(t, c)},
	}, authority.cert, newKey(t))
	if _, err := claim.Verify([]*x509.Certificate{leaf}, authority.bundle(), now); err != nil {
		t.Fatalf("at a time: %v", err)
	}
	if _, err := claim.Verify([]*x509.Certificate{leaf}, authority.bundle(), time.Time{}); reason.Of(err) != reason.AuthInvalid {
		t.Errorf("without a time: %v", err)
	}
}

func TestGraceAndEpoch(t *testing.T) {
	authority := newCA(t)
	chain := []*x509.Certificate{authority.leaf(t, "/zone/payments/node/"+node, encode(t, good()))}
	stale := now.Add(6 * time.Minute)
	for _, r := range []struct {
		name string
		opts []claim.Option
		code reason.Code
	}{
		{"default", nil, reason.PolicyEvidenceAge},
		{"never", []claim.Option{claim.WithGrace(claim.GraceNever), claim.WithOutage(true)}, reason.PolicyEvidenceAge},
		{"outage without the mode", []claim.Option{claim.WithOutage(true)}, reason.PolicyEvidenceAge},
		{"outage_only while all is well", []claim.Option{claim.WithGrace(claim.GraceOutageOnly)}, reason.PolicyEvidenceAge},
		{"outage_only in an outage", []claim.Option{claim.WithGrace(claim.GraceOutageOnly), claim.WithOutage(true)}, ""},
		{"always", []claim.Option{claim.WithGrace(claim.GraceAlways)}, ""},
		{"unknown", []claim.Option{claim.WithGrace("sometimes")}, reason.PolicyEvidenceAge},
		{"epoch ended", []claim.Option{claim.WithGrace(claim.GraceAlways), claim.WithMinEpoch(2)}, reason.PolicyEvidenceAge},
		{"epoch current", []claim.Option{claim.WithGrace(claim.GraceAlways), claim.WithMinEpoch(1)}, ""},
	} {
		v, err := claim.Verify(chain, authority.bundle(), stale, r.opts...)
		if reason.Of(err) != r.code {
			t.Errorf("%s: %v", r.name, err)
		}
		if err == nil && !v.Stale() {
			t.Errorf("%s: a claim that counts by grace does not say so", r.name)
		}
	}
	if _, err := claim.Verify(chain, authority.bundle(), now.Add(time.Hour), claim.WithGrace(claim.GraceAlways)); reason.Of(err) != reason.AuthInvalid {
		t.Errorf("grace lengthens exp: %v", err)
	}
}
