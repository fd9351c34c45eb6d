package broker_test

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/zonebroker/zonebroker/broker"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// FuzzCSR: no request panics, and what is taken asks for nothing but a key.
func FuzzCSR(f *testing.F) {
	const id = "spiffe://example.org/zone/lab/workload/web"
	own, err := url.Parse(id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csrOf(f, x509.CertificateRequest{}))
	f.Add(csrOf(f, x509.CertificateRequest{URIs: []*url.URL{own}}))
	f.Add(csrOf(f, x509.CertificateRequest{DNSNames: []string{"bank.example"}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := broker.ParseCSR(der, id)
		if err != nil {
			if reason.Of(err) != reason.RequestMalformed {
				t.Errorf("%v", err)
			}
			return
		}
		if len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses) > 0 || len(csr.URIs) > 1 || csr.Subject.String() != "" {
			t.Errorf("names are taken: %v %v", csr.DNSNames, csr.Subject)
		}
	})
}
