package verifier_test

import (
	"crypto/elliptic"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/x509chain"
	"github.com/zonebroker/zonebroker/verifier/x509pop"
)

// The documents of this file are judged as an attestation does, against the bound
// value of their format.
var (
	itemNow   = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	itemBound = [32]byte{7, 7, 7}
)

type parts = map[string][]byte

func judgeOne(t *testing.T, trust *verifier.Documents, format string, doc []byte, p parts) (document.Facts, reason.Code) {
	t.Helper()
	facts, err := verifier.JudgeItem(&verifier.Item{Format: format, Document: doc, Parts: p}, itemBound, nil, trust, itemNow)
	return facts, reason.Of(err)
}

func TestItemEC2IID(t *testing.T) {
	pki := documenttest.NewEC2("eu-west-1", itemNow)
	pinned, err := ec2.NewTrust(map[string][]byte{"eu-west-1": pki.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	instance := documenttest.NewEC2Instance("eu-west-1", itemNow)
	other := instance
	other.Instance = "i-0fedcba9876543210"
	live := []byte(`{"account_id":"123456789012","image_id":"ami-0123456789abcdef0","instance_id":"i-0123456789abcdef0","launch_time":"2026-11-20T08:58:00Z","region":"eu-west-1","state":"running","tags":{"Name":"web"}}`)
	for name, tc := range map[string]struct {
		parts parts
		code  reason.Code
	}{
		"alone":                         {nil, ""},
		"with its plain document":       {parts{"document": instance.JSON()}, ""},
		"with another":                  {parts{"document": other.JSON()}, reason.EC2DocumentMismatch},
		"with an empty one":             {parts{"document": nil}, reason.EC2DocumentMismatch},
		"row 53 with a weak signature":  {parts{"signature": make([]byte, 128)}, reason.EC2Variant},
		"with what the cloud says":      {parts{ec2.PartInstance: live}, ""},
		"row 55 the cloud says stopped": {parts{ec2.PartInstance: []byte(strings.Replace(string(live), "running", "stopped", 1))}, reason.EC2InstanceState},
		"the cloud says nothing":        {parts{ec2.PartInstance: nil}, reason.EC2InstanceState},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			facts, code := judgeOne(t, &verifier.Documents{EC2: pinned}, verifier.FormatEC2IID, pki.Document(instance), tc.parts)
			if code != tc.code {
				t.Fatalf("want %s, got %s", tc.code, code)
			}
			if code == "" && facts.Machine.Name != "123456789012/eu-west-1/i-0123456789abcdef0" {
				t.Errorf("%+v", facts)
			}
		})
	}
	if _, code := judgeOne(t, &verifier.Documents{}, verifier.FormatEC2IID, pki.Document(instance), nil); code != reason.PKCS7SignerUnknown {
		t.Errorf("without trust: %s", code)
	}
}

func TestItemEC2STS(t *testing.T) {
	request, err := json.Marshal(map[string]string{
		"region": "eu-west-1", "access_key_id": "ASIAEXAMPLEEXAMPLE12", "amz_date": "20261120T090000Z",
		"signature": strings.Repeat("ab", 32), "signed_headers": "content-type;host;x-amz-date;x-zonebroker-challenge",
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := json.Marshal(map[string]any{
		"status": 200, "content_type": "application/json",
		"body": `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws:iam::123456789012:user/x","UserId":"AIDAX"}}}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	facts, code := judgeOne(t, &verifier.Documents{}, verifier.FormatEC2STS, request, parts{ec2.PartAnswer: answer})
	if code != "" || facts.Machine != (document.Machine{Kind: document.MachineSTSRole, Name: "AIDAX"}) {
		t.Errorf("%s, %+v", code, facts)
	}
	if _, code := judgeOne(t, &verifier.Documents{}, verifier.FormatEC2STS, request, nil); code != reason.STSAnswer {
		t.Errorf("nobody asked AWS: %s", code)
	}
	if _, code := judgeOne(t, &verifier.Documents{}, verifier.FormatEC2STS, nil, parts{ec2.PartAnswer: answer}); code != reason.STSRequest {
		t.Errorf("no request: %s", code)
	}
}

func TestItemAzureIMDS(t *testing.T) {
	pki := documenttest.NewAzureIMDS(itemNow, "eastus.metadata.azure.com")
	roots, err := x509chain.NewRoots(pki.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	trust := &verifier.Documents{AzureIMDS: roots}
	vm := documenttest.NewAzureVM(document.Base62(itemBound), itemNow)
	facts, code := judgeOne(t, trust, verifier.FormatAzureIMDS, pki.Document(vm), nil)
	if code != "" || facts.Class != document.ClassB || facts.Machine.Name != vm.VM {
		t.Errorf("%s, %+v", code, facts)
	}
	if _, code := judgeOne(t, trust, verifier.FormatAzureIMDS, pki.Document(vm), parts{"azure_vm": []byte("{}")}); code != reason.AzureResource {
		t.Errorf("Azure knows nothing of it: %s", code)
	}
	vm.Nonce = document.Base62([32]byte{})
	if _, code := judgeOne(t, trust, verifier.FormatAzureIMDS, pki.Document(vm), nil); code != reason.AzureNonceMismatch {
		t.Errorf("another challenge: %s", code)
	}
}

func TestItemX509PoP(t *testing.T) {
	ca, key := documenttest.NewX509CA(itemNow), documenttest.ECKey(elliptic.P256())
	roots, err := x509chain.NewRoots(ca.RootPEM())
	if err != nil {
		t.Fatal(err)
	}
	cert := ca.Issue(ca.Template("db-1.example"), key.Public())
	sent := parts{"chain": ca.ChainPEM(), "signature": documenttest.Possess(key, itemBound)}
	if facts, code := judgeOne(t, &verifier.Documents{X509PoP: x509pop.Trust{Roots: roots}}, verifier.FormatX509PoP, cert, sent); code != "" || facts.Machine.Kind != document.MachineX509 {
		t.Errorf("%s, %+v", code, facts)
	}
	sent["signature"] = documenttest.Possess(key, [32]byte{})
	if _, code := judgeOne(t, &verifier.Documents{X509PoP: x509pop.Trust{Roots: roots}}, verifier.FormatX509PoP, cert, sent); code != reason.X509PoPSignature {
		t.Errorf("another challenge: %s", code)
	}
}
