package server_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/zonebroker/zonebroker/broker/server"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func TestClientCertificates(t *testing.T) {
	h := start(t, nil)
	other := newAuthority(t, "other.zonebroker")
	id := func(path string) string { return "spiffe://" + trustDomain + path }
	intermediate := &authority{}
	intermediate.key, intermediate.cert = selfMade(t, &x509.Certificate{
		SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "sub"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, h.ca)
	long := h.ca.node(t, nodeID)
	for range 4 {
		long.Certificate = append(long.Certificate, intermediate.cert.Raw)
	}
	under := intermediate.node(t, nodeID)
	under.Certificate = append(under.Certificate, intermediate.cert.Raw)

	tests := []struct {
		name string
		cert *tls.Certificate
		node string // "" wants auth.invalid
	}{
		{"zone", h.ca.node(t, nodeID), nodeID},
		{"trial", h.ca.svid(t, id("/trial/z/node/"+nodeID), nil), nodeID},
		{"exception", h.ca.svid(t, id("/exception/z/node/"+nodeID), nil), nodeID},
		{"quarantine", h.ca.svid(t, id("/quarantine/node/"+nodeID), nil), nodeID},
		{"under_an_intermediate", under, nodeID},
		{"T56_expired", h.ca.svid(t, id("/zone/z/node/"+nodeID), func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) }), ""},
		{"T56_not_yet_valid", h.ca.svid(t, id("/zone/z/node/"+nodeID), func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), ""},
		{"T56_foreign_CA", newAuthority(t, trustDomain).node(t, nodeID), ""},
		{"T56_other_trust_domain", other.svid(t, "spiffe://other.zonebroker/zone/z/node/"+nodeID, nil), ""},
		{"T56_other_trust_domain_under_our_CA", h.ca.svid(t, "spiffe://other.zonebroker/zone/z/node/"+nodeID, nil), ""},
		{"T56_CA_as_leaf", h.ca.svid(t, id("/zone/z/node/"+nodeID), func(c *x509.Certificate) {
			c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
		}), ""},
		{"T56_workload", h.ca.svid(t, id("/zone/z/workload/"+nodeID), nil), ""},
		{"T56_broker", h.ca.svid(t, id("/broker"), nil), ""},
		{"T56_no_URI", h.ca.svid(t, id("/"), func(c *x509.Certificate) { c.URIs = nil }), ""},
		{"T56_two_URIs", h.ca.svid(t, id("/zone/z/node/"+nodeID), func(c *x509.Certificate) {
			c.URIs = []*url.URL{mustURL(id("/zone/z/node/" + nodeID)), mustURL(id("/zone/z/node/" + otherNode))}
		}), ""},
		{"T49_node_of_another_form", h.ca.svid(t, id("/zone/z/node/NODE"), nil), ""},
		{"T49_more_segments", h.ca.svid(t, id("/zone/z/x/node/"+nodeID), nil), ""},
		{"T49_fewer_segments", h.ca.svid(t, id("/zone/node/"+nodeID), nil), ""},
		{"T49_unknown_first_segment", h.ca.svid(t, id("/ns/z/node/"+nodeID), nil), ""},
		{"T56_five_certificates", long, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h.pipeline.note1(server.Caller{NodeID: "nobody asked"})
			got := h.do(h.client(tt.cert), "POST", "/v1/challenge", renewal)
			if tt.node == "" {
				if got.problem.Code != string(reason.AuthInvalid) || got.StatusCode != 401 {
					t.Errorf("%d %q", got.StatusCode, got.problem.Code)
				}
				return
			}
			if got.StatusCode != 200 || h.pipeline.last().NodeID != tt.node || h.pipeline.last().SPIFFEID == "" {
				t.Errorf("%d, caller %+v\n%s", got.StatusCode, h.pipeline.last(), got.text)
			}
		})
	}
}

// TestForeignTrustDomainsHaveNoLane: a source that knows federated domains must
// not let their nodes in.
func TestForeignTrustDomainsHaveNoLane(t *testing.T) {
	other := newAuthority(t, "other.zonebroker")
	h := start(t, func(c *server.Config) {
		c.Bundles = x509bundle.NewSet(x509bundle.FromX509Authorities(spiffeid.RequireTrustDomainFromString("other.zonebroker"), []*x509.Certificate{other.cert}))
	})
	cert := other.svid(t, "spiffe://other.zonebroker/zone/z/node/"+nodeID, nil)
	if got := h.do(h.client(cert), "POST", "/v1/challenge", renewal); got.problem.Code != "auth.invalid" {
		t.Errorf("%d %q", got.StatusCode, got.problem.Code)
	}
}

// TestBadCertificateEndsItsConnection: the next try pays for a handshake again.
func TestBadCertificateEndsItsConnection(t *testing.T) {
	h := start(t, nil)
	c := h.client(newAuthority(t, trustDomain).node(t, nodeID))
	var reused bool
	trace := func(r *http.Request) {
		*r = *r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused },
		}))
	}
	try := func() {
		if got := h.do(c, "GET", "/healthz/live", "", trace); got.problem.Code != "auth.invalid" {
			t.Fatal(got.text)
		}
	}
	try()
	eventually(t, "a new connection is made once GOAWAY has arrived", func() bool {
		try()
		return !reused
	})
}

// TestCertificateIsJudgedOnEveryRequest: a connection outlives the certificate
// that it began with, and the CA that signed it.
func TestCertificateIsJudgedOnEveryRequest(t *testing.T) {
	t.Run("expires_on_a_kept_connection", func(t *testing.T) {
		h := start(t, nil)
		c := h.client(h.ca.node(t, nodeID))
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Fatal(got.text)
		}
		h.clock.forward(2 * time.Hour)
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.problem.Code != "auth.invalid" {
			t.Errorf("%d after its notAfter", got.StatusCode)
		}
	})
	t.Run("CA_ends_on_a_kept_connection", func(t *testing.T) {
		h := start(t, nil)
		brief := &authority{}
		brief.key, brief.cert = selfMade(t, &x509.Certificate{
			SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10 * time.Minute),
			URIs: []*url.URL{mustURL("spiffe://" + trustDomain)},
		}, nil)
		doc := bundleOf(t, brief)
		h.pipeline.bundle = func() ([]byte, error) { return doc, nil }
		c := h.client(brief.node(t, nodeID))
		for _, wait := range []time.Duration{0, 9 * time.Minute} {
			h.clock.forward(wait)
			if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
				t.Fatal(got.text)
			}
		}
		h.clock.forward(2 * time.Minute)
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.problem.Code != "auth.invalid" {
			t.Errorf("%d after the end of its CA", got.StatusCode)
		}
	})
	t.Run("CA_leaves_the_bundle_on_a_kept_connection", func(t *testing.T) {
		h := start(t, nil)
		c := h.client(h.ca.node(t, nodeID))
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Fatal(got.text)
		}
		without := bundleOf(t, newAuthority(t, trustDomain))
		h.pipeline.bundle = func() ([]byte, error) { return without, nil }
		if got := h.do(c, "POST", "/v1/challenge", renewal); got.problem.Code != "auth.invalid" {
			t.Errorf("%d after its CA was taken out", got.StatusCode)
		}
	})
	t.Run("is_remembered_within_bounds", func(t *testing.T) {
		h := start(t, func(c *server.Config) { c.Limits.Table = 1 })
		one, other := h.client(h.ca.node(t, nodeID)), h.client(h.ca.node(t, otherNode))
		for range 2 {
			for node, c := range map[string]*http.Client{nodeID: one, otherNode: other} {
				if got := h.do(c, "POST", "/v1/challenge", renewal); got.StatusCode != 200 || h.pipeline.last().NodeID != node {
					t.Fatalf("%d for %s", got.StatusCode, h.pipeline.last().NodeID)
				}
			}
		}
	})
	t.Run("chains_with_needless_certificates_are_not_remembered", func(t *testing.T) {
		h := start(t, nil)
		for i := range 3 {
			cert := *h.ca.node(t, nodeID)
			for range i {
				cert.Certificate = append(slices.Clone(cert.Certificate), newAuthority(t, trustDomain).cert.Raw)
			}
			if got := h.do(h.client(&cert), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
				t.Fatal(got.text)
			}
		}
		if n := h.RememberedChains(); n != 1 {
			t.Errorf("%d are remembered", n)
		}
	})
	t.Run("a_broker_without_bundle_is_no_verdict", func(t *testing.T) {
		h := start(t, nil)
		h.pipeline.bundle = func() ([]byte, error) { return nil, reason.New(reason.IssuerUnavailable, "no bundle yet") }
		got := h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal)
		if got.problem.Code != "issuer.unavailable" {
			t.Errorf("%d %q", got.StatusCode, got.problem.Code)
		}
		h.pipeline.bundle = func() ([]byte, error) { return []byte("{"), nil }
		got = h.do(h.client(h.ca.node(t, nodeID)), "POST", "/v1/challenge", renewal)
		if got.problem.Code != "internal" {
			t.Errorf("%d %q", got.StatusCode, got.problem.Code)
		}
		h.pipeline.bundle = func() ([]byte, error) { return nil, errors.New("x") }
		if got := h.do(h.client(nil), "POST", "/v1/challenge", renewal); got.StatusCode != 200 {
			t.Errorf("a stranger needs no bundle, got %d", got.StatusCode)
		}
	})
}
