package verifier_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/gce"
	"github.com/zonebroker/zonebroker/verifier/jwt"
	"github.com/zonebroker/zonebroker/verifier/k8s"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
)

// spoken is a document whose platform was asked, and what it said.
type spoken struct {
	trust    verifier.Documents
	document []byte
	part     string
	answer   string
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// spokenOf makes one of each format that a platform can be asked about, for
// itemBound at itemNow.
func spokenOf() map[string]spoken {
	region := documenttest.NewEC2("eu-west-1", itemNow)
	microsoft := documenttest.NewAzureIMDS(itemNow, "eastus.metadata.azure.com")
	vm := documenttest.NewAzureVM(document.Base62(itemBound), itemNow)
	key := documenttest.NewJWTKey("k", "RS256")
	tokens := must(verifier.NewTokens([]jwt.Object{
		{Name: "google", Raw: documenttest.JWTObject("gce.identity", documenttest.GoogleIssuer, nil, key.JWK())},
		{Name: "cluster", Raw: documenttest.JWTObject("k8s.psat", documenttest.ClusterIssuer, nil, key.JWK())},
	}))
	audience := document.Audience(itemBound)
	return map[string]spoken{
		verifier.FormatEC2IID: {
			verifier.Documents{EC2: must(ec2.NewTrust(map[string][]byte{"eu-west-1": region.CertificatePEM()}))},
			region.Document(documenttest.NewEC2Instance("eu-west-1", itemNow)), ec2.PartInstance,
			`{"account_id":"123456789012","image_id":"ami-0123456789abcdef0","instance_id":"i-0123456789abcdef0","launch_time":"2026-11-20T08:58:00Z","region":"eu-west-1","state":"running","tags":{}}`,
		},
		verifier.FormatEC2STS: {
			verifier.Documents{},
			must(json.Marshal(map[string]string{
				"region": "eu-west-1", "access_key_id": "ASIAEXAMPLEEXAMPLE12", "amz_date": "20261120T090000Z",
				"signature": strings.Repeat("ab", 32), "signed_headers": "content-type;host;x-amz-date;x-zonebroker-challenge",
			})), ec2.PartAnswer,
			`{"status":200,"content_type":"application/json","body":"{\"GetCallerIdentityResponse\":{\"GetCallerIdentityResult\":{\"Account\":\"123456789012\",\"Arn\":\"arn:aws:iam::123456789012:user/x\",\"UserId\":\"AIDAX\"}}}"}`,
		},
		verifier.FormatGCEIdentity: {
			verifier.Documents{Tokens: tokens},
			key.Token(documenttest.GCEClaims(audience, itemNow)), gce.PartInstance,
			`{"id":"3015378661047007286","labels":{},"status":"RUNNING","tags":[]}`,
		},
		verifier.FormatAzureIMDS: {
			verifier.Documents{AzureIMDS: must(x509chain.NewRoots(microsoft.RootPEM()))},
			microsoft.Document(vm), azure.PartVM,
			fmt.Sprintf(`{"location":"eastus","power_state":"running","resource_id":"/subscriptions/%s/resourceGroups/p/providers/Microsoft.Compute/virtualMachines/w","tags":{},"tenant_id":"77777777-7777-7777-7777-777777777777","vm_id":%q}`, vm.Subscription, vm.VM),
		},
		verifier.FormatK8sPSAT: {
			verifier.Documents{Tokens: tokens},
			key.Token(documenttest.PSATClaims(audience, itemNow)), k8s.PartTokenReview,
			fmt.Sprintf(`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":{"authenticated":true,"audiences":[%q],"user":{
				"username":"system:serviceaccount:payments:agent","uid":"6808b4c7-0b53-45f4-83f7-e8937756eeae","extra":{
				"authentication.kubernetes.io/pod-name":["agent-x7"],"authentication.kubernetes.io/pod-uid":["f9023702-f4ed-4ed9-ab40-bc69142aa9a6"]}}}}`, audience),
		},
	}
}

// TestPlatformConfirmsADocument: a document is confirmed by what its own platform
// answered in this attestation, and by nothing else.
func TestPlatformConfirmsADocument(t *testing.T) {
	all := spokenOf()
	if formats := slices.Sorted(maps.Keys(all)); !slices.Equal(formats, verifier.ConfirmableFormats()) {
		t.Fatalf("%v can be confirmed, tried are %v", verifier.ConfirmableFormats(), formats)
	}
	for format, s := range all {
		t.Run(format+" (test PKI)", func(t *testing.T) {
			if !verifier.RecordedPart(s.part) {
				t.Errorf("an agent may send %s", s.part)
			}
			facts, code := judgeOne(t, &s.trust, format, s.document, parts{s.part: []byte(s.answer)})
			if code != "" || !facts.Confirmed {
				t.Errorf("asked: confirmed %v, %s", facts.Confirmed, code)
			}
			facts, code = judgeOne(t, &s.trust, format, s.document, nil)
			if facts.Confirmed || code != "" && code != reason.STSAnswer {
				t.Errorf("not asked: confirmed %v, %s", facts.Confirmed, code)
			}
			for other, o := range all {
				if other == format {
					continue
				}
				if facts, _ := judgeOne(t, &s.trust, format, s.document, parts{o.part: []byte(o.answer)}); facts.Confirmed {
					t.Errorf("confirmed by what was said of %s", other)
				}
			}
			if facts, code := judgeOne(t, &s.trust, format, s.document, parts{s.part: []byte("{}")}); facts.Confirmed || code == "" {
				t.Errorf("an answer that is none: confirmed %v, %q", facts.Confirmed, code)
			}
		})
	}
}
