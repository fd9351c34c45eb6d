package azure_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// TestIMDSSignersWithoutNames: a signer that has no alternative name is a stranger
// unless its common name is the service's, and then it needs a root before all else
// (rows 35 and 63; test PKI).
func TestIMDSSignersWithoutNames(t *testing.T) {
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	p := documenttest.NewAzureIMDS(now, "eastus.metadata.azure.com")
	roots, err := x509chain.NewRoots(p.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		common string
		issuer *documenttest.RSASigner
		code   reason.Code
	}{
		"nobody, self-signed":           {"", nil, reason.AzureSAN},
		"a stranger, self-signed":       {"attacker", nil, reason.AzureSAN},
		"a stranger, under a root":      {"attacker", &p.Intermediate, reason.AzureSAN},
		"a look-alike, self-signed":     {"evilmetadata.azure.com", nil, reason.AzureSAN},
		"the service, self-signed":      {"testsubdomain.metadata.azure.com", nil, reason.AzureUntrusted},
		"the service, under the root":   {"testsubdomain.metadata.azure.com", &p.Intermediate, reason.AzureSAN},
		"its subdomain of two, by none": {"a.b.metadata.azure.com", nil, reason.AzureSAN},
	} {
		leaf := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: c.common}, KeyUsage: x509.KeyUsageDigitalSignature}
		signer := documenttest.Certify(leaf, documenttest.RSAKey(3), c.issuer, now)
		m := p.Message(documenttest.NewAzureVM("n", now).JSON())
		m.Signers = []documenttest.RSASigner{signer}
		// The genuine certificate beside it changes nothing, wherever it lies.
		for _, bag := range [][]*x509.Certificate{{signer.Certificate}, {p.Signer.Certificate, signer.Certificate}, {signer.Certificate, p.Signer.Certificate}} {
			m.Bag = bag
			if _, err := azure.VerifyIMDS(documenttest.PKCS7(m), "n", roots, now); reason.Of(err) != c.code {
				t.Errorf("%s, %d certificates: %v, want %q", name, len(bag), err, c.code)
			}
		}
	}
}
