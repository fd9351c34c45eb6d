package conformance_test

import (
	"crypto/elliptic"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/conformance"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
)

// TestDocumentsOfCloudsInRows: the kinds ec2.iid, ec2.sts, azure.imds and x509pop,
// with what a row can say of them (test PKI).
func TestDocumentsOfCloudsInRows(t *testing.T) {
	now := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	aws, azure, ca := documenttest.NewEC2("eu-west-1", now), documenttest.NewAzureIMDS(now, "eastus.metadata.azure.com"), documenttest.NewX509CA(now)
	instance, vm := documenttest.NewEC2Instance("eu-west-1", now), documenttest.NewAzureVM("nonce", now)
	old, sold := instance, instance
	old.Pending, sold.Products = now.Add(-301*time.Second), []string{"abcd1234"}
	bound, key := [32]byte{5}, documenttest.ECKey(elliptic.P256())
	request, err := json.Marshal(map[string]string{
		"region": "eu-west-1", "access_key_id": "ASIAEXAMPLEEXAMPLE12", "amz_date": "20261120T090000Z",
		"signature": strings.Repeat("ab", 32), "signed_headers": "content-type;host;x-amz-date;x-zonebroker-challenge",
	})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"iid": string(aws.Document(instance)), "old": string(aws.Document(old)), "sold": string(aws.Document(sold)),
		"plain": string(instance.JSON()), "other": string(old.JSON()), "region.pem": string(aws.CertificatePEM()),
		"vm": string(azure.Document(vm)), "azure.pem": string(azure.RootPEM()),
		"cert": string(ca.Issue(ca.Template("a"), key.Public())), "chain": string(ca.ChainPEM()), "ca.pem": string(ca.RootPEM()),
		"sig": string(documenttest.Possess(key, bound)), "request": string(request),
		"answer":  `{"status":200,"content_type":"application/json","body":"{\"GetCallerIdentityResponse\":{\"GetCallerIdentityResult\":{\"Account\":\"123456789012\",\"Arn\":\"arn:aws:iam::123456789012:root\",\"UserId\":\"123456789012\"}}}"}`,
		"refusal": `{"status":403,"content_type":"application/json","body":""}`,
	}
	at, region, nonce := "time=2026-11-20T09:00:00Z", ";region=eu-west-1;roots=region.pem", ";nonce="+hex.EncodeToString(bound[:])
	for _, c := range []struct{ kind, path, context, want string }{
		{"ec2.iid", "iid", at + region + ";account=123456789012;instance_id=i-0123456789abcdef0;zone=eu-west-1a", "accept"},
		{"ec2.iid", "iid", at + region + ";account=999999999999", "node.not_admitted"},
		{"ec2.iid", "plain", at + region + ";pkcs7=iid", "accept"},
		{"ec2.iid", "other", at + region + ";pkcs7=iid", "ec2.document_mismatch"},
		{"ec2.iid", "plain", at + region, "ec2.variant"},
		{"ec2.iid", "plain", at + region + ";sig=sig", "ec2.variant"},
		{"ec2.iid", "iid", at + region + ";form=rsa2048", "accept"},
		{"ec2.iid", "iid", at + region + ";form=signature", "ec2.variant"},
		{"ec2.iid", "old", at + region, "ec2.pending_time"},
		{"ec2.iid", "sold", at + region, "ec2.marketplace"},
		{"ec2.iid", "iid", at + ";region=eu-west-2;roots=region.pem", "ec2.region"},
		{"ec2.iid", "iid", at + ";region=eu-west-1;roots=azure.pem", "pkcs7.signer_unknown"},
		{"ec2.iid", "iid", at, "pkcs7.signer_unknown"},
		{"ec2.sts", "request", at + nonce, "accept"},
		{"ec2.sts", "request", at + nonce + ";report=answer;account=123456789012", "accept"},
		{"ec2.sts", "request", at + nonce + ";report=answer;account=999999999999", "node.not_admitted"},
		{"ec2.sts", "request", at + nonce + ";report=refusal", "sts.answer"},
		{"ec2.sts", "plain", at + nonce, "sts.request"},
		{"azure.imds", "vm", at + ";roots=azure.pem;nonce=nonce;instance_id=" + vm.VM, "accept"},
		{"azure.imds", "vm", at + ";roots=azure.pem", "accept"},
		{"azure.imds", "vm", at + ";roots=azure.pem;account=" + vm.Subscription, "accept"},
		{"azure.imds", "vm", at + ";roots=azure.pem;account=" + vm.VM, "node.not_admitted"},
		{"azure.imds", "vm", at + ";roots=azure.pem;nonce=other", "azure.nonce_mismatch"},
		{"azure.imds", "vm", at + ";roots=region.pem", "azure.untrusted"},
		{"azure.imds", "vm", "time=2026-11-21T09:00:00Z;roots=azure.pem", "azure.timestamp"},
		{"x509pop", "cert", at + nonce + ";roots=ca.pem;keys=chain;sig=sig", "accept"},
		{"x509pop", "cert", at + nonce + ";roots=ca.pem;keys=chain", "x509pop.signature"},
		{"x509pop", "cert", at + nonce + ";roots=ca.pem;sig=sig", "x509pop.untrusted"},
		{"x509pop", "cert", "time=2027-11-20T09:00:00Z" + nonce + ";roots=ca.pem;keys=chain;sig=sig", "x509pop.validity"},
	} {
		t.Run(c.kind+" "+c.path+" "+c.context, func(t *testing.T) {
			verdict := "reject\t" + c.want
			if c.want == "accept" {
				verdict = "accept\t"
			}
			if r := one(t, c.path+"\t"+c.kind+"\t"+verdict+"\t"+c.context, files); r.Status != conformance.Same {
				t.Errorf("%+v", r)
			}
		})
	}
	for _, c := range []struct{ kind, context, want string }{
		{"ec2.iid", region[1:], "time is missing"},
		{"ec2.iid", at + region + ";pkcs7=gone", "gone does not exist"},
		{"ec2.iid", at + ";region=eu-west-1;roots=gone", "gone does not exist"},
		{"ec2.sts", at, "nonce is not 32 bytes"},
		{"ec2.sts", at + ";nonce=00", "nonce is not 32 bytes"},
		{"azure.imds", "", "time is missing"},
		{"azure.imds", at + ";roots=gone", "gone does not exist"},
		{"x509pop", "", "time is missing"},
		{"x509pop", at + nonce + ";sig=gone", "gone does not exist"},
		{"x509pop", at + nonce + ";keys=gone", "gone does not exist"},
		{"x509pop", at + nonce + ";roots=gone", "gone does not exist"},
	} {
		if r := one(t, "plain\t"+c.kind+"\taccept\t\t"+c.context, files); r.Status != conformance.Broken || !strings.Contains(r.Detail, c.want) {
			t.Errorf("%s %s: %+v", c.kind, c.context, r)
		}
	}
	for _, kind := range []string{"ec2.iid", "azure.imds"} {
		if r := one(t, "gone\t"+kind+"\taccept\t\t"+at, files); r.Status != conformance.Broken {
			t.Errorf("%s without a file: %+v", kind, r)
		}
	}
	for _, kind := range []string{"ec2.sts", "x509pop"} {
		if r := one(t, "gone\t"+kind+"\taccept\t\t"+at+nonce, files); r.Status != conformance.Broken {
			t.Errorf("%s without a file: %+v", kind, r)
		}
	}
	if r := one(t, "request\tec2.sts\taccept\t\t"+at+nonce+";report=gone", files); r.Status != conformance.Broken {
		t.Errorf("an answer that is not there: %+v", r)
	}
}
