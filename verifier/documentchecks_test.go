package verifier_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestTrustObjectForms: an object that is taken in part, or passed over, is trust
// that an operator believes in and a broker does not have.
func TestTrustObjectForms(t *testing.T) {
	many := func(n int) []verifier.TrustObject {
		out := make([]verifier.TrustObject, n)
		for i := range out {
			out[i] = verifier.TrustObject{Kind: verifier.TrustX509PoP, Name: fmt.Sprint(i)}
		}
		return out
	}
	one := func(kind, name string, raw []byte) []verifier.TrustObject {
		return []verifier.TrustObject{{Kind: kind, Name: name, Raw: raw}}
	}
	root := documenttest.NewX509CA(itemNow).RootPEM()
	padded := func(n int) []byte { return append(root[:len(root):len(root)], strings.Repeat("\n", n-len(root))...) }
	const largest = 4 << 20
	for name, c := range map[string]struct {
		objects []verifier.TrustObject
		says    string
	}{
		"none":                      {nil, ""},
		"ten thousand of no use":    {many(10_000), "x509pop.ca"},
		"one more":                  {many(10_001), "more than 10000"},
		"an unknown kind":           {one("x509pop.cas", "a", root), "is unknown"},
		"no name":                   {one(verifier.TrustX509PoP, "", root), "name"},
		"a name that leads away":    {one(verifier.TrustX509PoP, "../a", root), "name"},
		"as large as may be":        {one(verifier.TrustX509PoP, "a", padded(largest)), ""},
		"a byte larger":             {one(verifier.TrustX509PoP, "a", padded(largest+1)), "larger than"},
		"one twice":                 {append(one(verifier.TrustX509PoP, "a", root), one(verifier.TrustX509PoP, "a", root)...), "stands twice"},
		"one name in two kinds":     {append(one(verifier.TrustX509PoP, "a", root), one(verifier.TrustAzureIMDS, "a", root)...), ""},
		"an issuer that is none":    {one(verifier.TrustJWKS, "a", []byte("x")), "jwks/a"},
		"a GPU's issuer of no keys": {one(verifier.TrustJWKS, "a", []byte(`{"format":"nvidia","issuer":"https://nras.attestation.nvidia.com","jwks":{"keys":[]}}`)), "jwks/a"},
		"an issuer of no format":    {one(verifier.TrustJWKS, "a", documenttest.JWTObject("gce.identitiy", documenttest.GoogleIssuer, nil, documenttest.NewJWTKey("k", "RS256").JWK())), "which has no issuers"},
		"a region that is none":     {one(verifier.TrustEC2, "nowhere", root), "not the name of a region"},
		"no CA of Azure":            {one(verifier.TrustAzureIMDS, "a", []byte("x")), "azure.imds"},
		"no CA of a PKI":            {one(verifier.TrustX509PoP, "a", []byte("x")), "x509pop.ca"},
		"no list of a PKI":          {one(verifier.TrustX509CRL, "a", []byte("x")), "x509pop.crl"},
	} {
		_, err := verifier.NewDocuments(c.objects)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
	region := documenttest.NewEC2("eu-west-1", itemNow)
	d, err := verifier.NewDocuments(one(verifier.TrustEC2, "eu-west-1", region.CertificatePEM()))
	if err != nil || d.EC2.Len() != 1 {
		t.Errorf("a region: %d certificates, %v", d.EC2.Len(), err)
	}
}

// TestTrustNames are file names everywhere.
func TestTrustNames(t *testing.T) {
	for _, name := range []string{"a", "z", "A", "Z", "0", "9", "a.b", "-", "_", "Milan_1-2.der", strings.Repeat("a", 192)} {
		if !verifier.ValidTrustName(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", ".", ".a", "a/b", "a:b", "a@b", "a[b", "a`b", "a{b", "a b", "a\x00", "ä", strings.Repeat("a", 193)} {
		if verifier.ValidTrustName(name) {
			t.Errorf("%q is taken", name)
		}
	}
}
