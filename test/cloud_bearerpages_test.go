package test

import (
	"crypto/elliptic"
	"encoding/json"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

// fullest are documents that say everything that their format can say.
func fullest(t *testing.T) map[string]document.Facts {
	t.Helper()
	now, bound := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC), [32]byte{1}
	aws := documenttest.NewEC2("eu-west-1", now)
	pinned, err := ec2.NewTrust(map[string][]byte{"eu-west-1": aws.CertificatePEM()})
	must(t, err)
	instance := documenttest.NewEC2Instance("eu-west-1", now)
	instance.Products = []string{"abcd"}
	content := strings.Replace(string(instance.JSON()), `"billingProducts" : null`, `"billingProducts" : ["bp-1"]`, 1)
	iid, err := ec2.Verify(documenttest.PKCS7(documenttest.Message{Content: []byte(content), Signers: []documenttest.RSASigner{aws.Signer}}), nil, pinned, now)
	must(t, err)
	iid, err = iid.Live([]byte(`{"account_id":"123456789012","image_id":"ami-0123456789abcdef0","instance_id":"i-0123456789abcdef0","launch_time":"2026-11-20T08:58:00Z","region":"eu-west-1","state":"running","tags":{"a":"b"}}`))
	must(t, err)

	request, err := json.Marshal(map[string]string{
		"region": "eu-west-1", "access_key_id": "ASIAEXAMPLEEXAMPLE12", "amz_date": "20261120T090000Z",
		"signature": strings.Repeat("ab", 32), "signed_headers": "content-type;host;x-amz-date;x-zonebroker-challenge",
	})
	must(t, err)
	sts, err := ec2.ParseRequest(request, bound, now)
	must(t, err)
	who, err := sts.Answered([]byte(`{"status":200,"content_type":"application/json","body":"{\"GetCallerIdentityResponse\":{\"GetCallerIdentityResult\":{\"Account\":\"123456789012\",\"Arn\":\"arn:aws:iam::123456789012:user/x\",\"UserId\":\"AIDAX\"}}}"}`))
	must(t, err)

	imds := documenttest.NewAzureIMDS(now, "eastus.metadata.azure.com")
	roots, err := x509chain.NewRoots(imds.RootPEM())
	must(t, err)
	said := strings.NewReplacer(`"licenseType":""`, `"licenseType":"x"`, `"name":""`, `"name":"x"`, `"product":""`, `"product":"x"`, `"publisher":""`, `"publisher":"x"`).
		Replace(string(documenttest.NewAzureVM("n", now).JSON()))
	attested, err := azure.VerifyIMDS(documenttest.PKCS7(imds.Message([]byte(said))), "n", roots, now)
	must(t, err)
	attested, err = attested.Live([]byte(`{"location":"eastus","power_state":"running","resource_id":"/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/p/providers/Microsoft.Compute/virtualMachines/w","tags":{"a":"b"},"tenant_id":"77777777-7777-7777-7777-777777777777","vm_id":"55555555-5555-5555-5555-555555555555"}`))
	must(t, err)

	ca, key := documenttest.NewX509CA(now), documenttest.ECKey(elliptic.P256())
	template := ca.Template("a")
	template.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}}
	roots, err = x509chain.NewRoots(ca.RootPEM())
	must(t, err)
	pop, err := x509pop.Verify(x509pop.Evidence{Certificate: ca.Issue(template, key.Public()), Issuers: ca.ChainPEM(), Signature: documenttest.Possess(key, bound)}, bound, x509pop.Trust{Roots: roots}, now)
	must(t, err)
	return map[string]document.Facts{
		"ec2-iid": iid.Facts(), "ec2-sts": who.Facts(), "azure-imds": attested.Facts(), "x509pop": pop.Facts(), "jointoken": {},
	}
}

// TestBearerPages: the zone of each page loads, and its selectors are those that
// the code gives, no more and no fewer.
func TestBearerPages(t *testing.T) {
	for page, facts := range fullest(t) {
		source, err := os.ReadFile("../docs/evidence/" + page + ".md")
		must(t, err)
		zone := pageZone.FindSubmatch(source)
		if zone == nil {
			t.Errorf("%s.md has no zone", page)
			continue
		}
		if _, problems := policy.Load([]policy.File{{Name: page, Bytes: zone[1]}}); len(problems) > 0 {
			t.Errorf("%s.md: %v", page, problems)
		}
		_, table, _ := strings.Cut(string(source), "\n## Selectors\n")
		for line := range strings.Lines(table) {
			if name, ok := strings.CutPrefix(line, "| `"); ok {
				if name, _, _ = strings.Cut(name, "`"); len(facts.Values(name)) == 0 {
					t.Errorf("%s.md has %s, which no document gives", page, name)
				}
			}
		}
		for _, s := range facts.Selectors {
			if !strings.Contains(table, "\n| `"+s.Name+"` |") {
				t.Errorf("%s.md does not have %s", page, s.Name)
			}
		}
	}
}
