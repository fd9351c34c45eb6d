package client_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/client"
)

func anchor(t testing.TB, text []byte) client.Trust {
	t.Helper()
	trust, err := client.Anchor(text)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func pin(t testing.TB, a authority) client.Trust {
	t.Helper()
	trust, err := client.Pin(client.PinOf(a.cert))
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

func bundle(t testing.TB, a authority) client.Trust {
	t.Helper()
	trust, err := client.Bundle(a.bundle(t))
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// TestBrokerIsAuthenticated: each row is a broker, or somebody who would like
// to be taken for one. Not one byte of a request may reach the latter.
func TestBrokerIsAuthenticated(t *testing.T) {
	good := newAuthority(t, nil)
	other := newAuthority(t, nil) // same names, other key
	publicCA := newAuthority(t, nil)
	ends := time.Now().Add(-time.Minute)
	expired := newAuthority(t, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = ends.Add(-time.Hour), ends })
	notCA := newAuthority(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	noSign := newAuthority(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })

	for _, test := range []struct {
		name  string
		cert  tls.Certificate
		trust client.Trust
		td    string
		max   uint16
		want  string // "" accepts; else part of the reason
	}{
		{name: "anchor", cert: good.server(t, nil), trust: anchor(t, good.pem())},
		{name: "anchor_of_a_chain_without_it", cert: withoutAnchor(good.server(t, nil)), trust: anchor(t, good.pem())},
		{name: "pin", cert: good.server(t, nil), trust: pin(t, good)},
		{name: "bundle", cert: good.server(t, nil), trust: bundle(t, good)},
		{name: "bundle_ended_anchor_helps", cert: good.server(t, nil), trust: bundle(t, other).And(anchor(t, good.pem()))},
		{name: "trust_domain_as_configured", cert: good.server(t, nil), trust: pin(t, good), td: "example.org"},

		{name: "other_trust_domain", cert: good.server(t, nil), trust: pin(t, good), td: "other.org", want: "trust domain"},
		{name: "other_anchor", cert: other.server(t, nil), trust: anchor(t, good.pem()), want: "anchor"},
		{name: "other_pin", cert: other.server(t, nil), trust: pin(t, good), want: "pinned key"},
		{name: "pin_but_anchor_not_sent", cert: withoutAnchor(good.server(t, nil)), trust: pin(t, good), want: "pinned key"},
		{name: "pinned_anchor_sent_behind_another_signer", cert: append2(other.server(t, nil), good.cert), trust: pin(t, good), want: "pin"},
		{name: "other_bundle", cert: other.server(t, nil), trust: bundle(t, good), want: "bundle"},
		{name: "public_ca", cert: publicCA.server(t, func(c *x509.Certificate) {
			c.URIs, c.DNSNames = nil, []string{"127.0.0.1", "example.org"}
		}), trust: pin(t, good), want: "URI"},
		{name: "anchor_expired", cert: expired.server(t, nil), trust: pin(t, expired), want: "expired"},
		{name: "anchor_not_a_ca", cert: notCA.server(t, nil), trust: pin(t, notCA), want: "CA"},
		{name: "anchor_may_not_sign", cert: noSign.server(t, nil), trust: pin(t, noSign), want: "sign"},
		{name: "expired", cert: good.server(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = ends.Add(-time.Hour), ends
		}), trust: pin(t, good), want: "expired"},
		{name: "not_yet_valid", cert: good.server(t, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
		}), trust: pin(t, good), want: "not yet valid"},
		{name: "node_of_the_same_trust_domain", cert: good.server(t, func(c *x509.Certificate) {
			c.URIs = uri("spiffe://example.org/zone/a/node/b")
		}), trust: pin(t, good), want: "not a broker"},
		{name: "path_below_broker", cert: good.server(t, func(c *x509.Certificate) {
			c.URIs = uri("spiffe://example.org/broker/1")
		}), trust: pin(t, good), want: "not a broker"},
		{name: "two_names", cert: good.server(t, func(c *x509.Certificate) {
			c.URIs = uri("spiffe://example.org/broker", "spiffe://example.org/zone/a/node/b")
		}), trust: pin(t, good), want: "2 URI"},
		{name: "no_spiffe_id", cert: good.server(t, func(c *x509.Certificate) {
			c.URIs = uri("https://example.org/broker")
		}), trust: pin(t, good), want: "SPIFFE ID"},
		{name: "client_certificate", cert: good.server(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), trust: pin(t, good), want: "usage"},
		{name: "leaf_is_a_ca", cert: good.server(t, func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid = true, true
		}), trust: pin(t, good), want: "CA"},
		{name: "tls_1_2", cert: good.server(t, nil), trust: pin(t, good), max: tls.VersionTLS12, want: "protocol version"},
	} {
		t.Run(test.name, func(t *testing.T) {
			reached := false
			server := serve(t, &tls.Config{Certificates: []tls.Certificate{test.cert}, MaxVersion: test.max}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				reached = true
				answer(w, http.StatusOK, "application/json", `{"token":"t","select":"010000"}`)
			}))
			c, err := client.New(client.Config{Server: server, Trust: test.trust, TrustDomain: test.td})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Challenge(t.Context(), api.ChallengeRequest{Format: api.FormatTPM2})
			found, inspectErr := client.Inspect(t.Context(), client.Config{Server: server, Trust: test.trust, TrustDomain: test.td})
			if inspectErr != nil {
				t.Fatal(inspectErr)
			}
			if (found.Err == nil) != (test.want == "") {
				t.Errorf("inspection disagrees: %v", found.Err)
			}
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got := c.Peer().ID().String(); got != "spiffe://example.org/broker" || found.Peer != c.Peer() {
					t.Errorf("peer %s, inspected %v", got, found.Peer)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a refusal with %q", err, test.want)
			}
			if _, ok := errors.AsType[*client.UntrustedError](err); !ok && test.max == 0 {
				t.Errorf("got %T", err)
			}
			if reached {
				t.Error("a request reached the stranger")
			}
		})
	}
}

func withoutAnchor(c tls.Certificate) tls.Certificate {
	c.Certificate = c.Certificate[:1]
	return c
}

func append2(c tls.Certificate, more *x509.Certificate) tls.Certificate {
	c.Certificate = append(c.Certificate, more.Raw)
	return c
}

// TestTrustDomainIsPinned: what the first broker proved holds for the second.
func TestTrustDomainIsPinned(t *testing.T) {
	a := newAuthority(t, nil)
	current := a.server(t, nil)
	server := serve(t, &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{current}, NextProtos: []string{"h2"}}, nil
		},
	}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "application/json", `{}`)
	}))
	c, err := client.New(client.Config{Server: server, Trust: pin(t, a)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Challenge(t.Context(), api.ChallengeRequest{}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	current = a.server(t, func(c *x509.Certificate) { c.URIs = uri("spiffe://other.org/broker") })
	_, err = c.Challenge(t.Context(), api.ChallengeRequest{})
	if _, ok := errors.AsType[*client.UntrustedError](err); !ok {
		t.Errorf("got %v", err)
	}
}

func TestTrustIsReadStrictly(t *testing.T) {
	a := newAuthority(t, nil)
	leaf := newAuthority(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	noSign := newAuthority(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	hex64 := strings.Repeat("ab", 32)
	for name, make := range map[string]func() (client.Trust, error){
		"anchor_empty": func() (client.Trust, error) { return client.Anchor(nil) },
		"anchor_two":   func() (client.Trust, error) { return client.Anchor(append(a.pem(), a.pem()...)) },
		"anchor_key_block": func() (client.Trust, error) {
			return client.Anchor([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
		},
		"anchor_not_a_ca":        func() (client.Trust, error) { return client.Anchor(leaf.pem()) },
		"anchor_may_not_sign":    func() (client.Trust, error) { return client.Anchor(noSign.pem()) },
		"pin_without_algorithm":  func() (client.Trust, error) { return client.Pin(hex64) },
		"pin_of_other_algorithm": func() (client.Trust, error) { return client.Pin("sha1:" + hex64) },
		"pin_short":              func() (client.Trust, error) { return client.Pin("sha256:" + hex64[2:]) },
		"pin_not_hex":            func() (client.Trust, error) { return client.Pin("sha256:" + strings.Repeat("zz", 32)) },
		"bundle_empty":           func() (client.Trust, error) { return client.Bundle([]byte(`{"keys":[]}`)) },
		"bundle_not_json":        func() (client.Trust, error) { return client.Bundle([]byte(`x`)) },
	} {
		t.Run(name, func(t *testing.T) {
			if trust, err := make(); err == nil || !trust.Empty() {
				t.Errorf("accepted: %v", err)
			}
		})
	}
}

// TestClock: validity is judged at the client's own time, also where that is
// not the machine's.
func TestClock(t *testing.T) {
	a := newAuthority(t, nil)
	server := serve(t, &tls.Config{Certificates: []tls.Certificate{a.server(t, nil)}}, http.NotFoundHandler())
	for name, test := range map[string]struct {
		ahead time.Duration
		want  bool
	}{"now": {0, true}, "in_a_week": {7 * 24 * time.Hour, false}, "a_week_ago": {-7 * 24 * time.Hour, false}} {
		t.Run(name, func(t *testing.T) {
			found, err := client.Inspect(t.Context(), client.Config{
				Server: server, Trust: pin(t, a), Now: func() time.Time { return time.Now().Add(test.ahead) },
			})
			if err != nil {
				t.Fatal(err)
			}
			if (found.Err == nil) != test.want {
				t.Errorf("got %v", found.Err)
			}
		})
	}
}
