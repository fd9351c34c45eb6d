package enrich_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/enrich"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestSignature is the worked example of the IAM User Guide ("Create a signed AWS
// API request", GET of ListUsers).
func TestSignature(t *testing.T) {
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}
	got, err := enrich.SignGET("iam.amazonaws.com", "Action=ListUsers&Version=2010-05-08", header,
		"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "iam", "us-east-1", time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC))
	const want = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;host;x-amz-date, " +
		"Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
	if err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := enrich.SignGET("iam.amazonaws.com", "", http.Header{}, "AKIDEXAMPLE", "", "iam", "us-east-1", now); err == nil {
		t.Error("signed without a secret")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(verb, enrich.Keys("AKIDEXAMPLE", "hush")); strings.Contains(text, "hush") {
			t.Errorf("%s prints the secret: %s", verb, text)
		}
	}
}

var bound = [32]byte{1, 2, 3}

func stsItem(t testing.TB) verifier.Item {
	t.Helper()
	raw, err := json.Marshal(map[string]string{
		"region": "eu-west-1", "access_key_id": "ASIAEXAMPLEEXAMPLE12", "amz_date": "20261120T090000Z", "security_token": "FwoGZXIvYXdzEXAMPLE",
		"signature": strings.Repeat("ab", 32), "signed_headers": "content-type;host;x-amz-date;x-amz-security-token;x-zonebroker-challenge",
	})
	if err != nil {
		t.Fatal(err)
	}
	return verifier.Item{Format: verifier.FormatEC2STS, Document: raw}
}

// callerIdentity is the example of the STS API Reference in JSON.
const callerIdentity = `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws:iam::123456789012:user/Alice","UserId":"AIDACKCEVSQ6C2EXAMPLE"},"ResponseMetadata":{"RequestId":"01234567-89ab-cdef-0123-456789abcdef"}}}`

func TestSTS(t *testing.T) {
	p := newPlatform(t, says(http.StatusOK, "application/json", callerIdentity))
	s := enrich.NewSTS(p.endpoint(), clock)
	if s.Name() != "ec2.sts" || s.Format() != verifier.FormatEC2STS || !s.Essential() {
		t.Error("another enricher")
	}
	item := stsItem(t)
	parts, err := s.Enrich(within(t), item, bound)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ec2.ParseRequest(item.Document, bound, now)
	if err != nil {
		t.Fatal(err)
	}
	who, err := r.Answered(parts[ec2.PartAnswer])
	if err != nil || who.ARN() != "arn:aws:iam::123456789012:user/Alice" {
		t.Errorf("%q, %v", who.ARN(), err)
	}
	calls := p.seen()
	if len(calls) != 1 {
		t.Fatalf("%d calls", len(calls))
	}
	c := calls[0]
	if c.method != http.MethodPost || c.host != "sts.eu-west-1.amazonaws.com" || c.target != "/" || c.body != "Action=GetCallerIdentity&Version=2011-06-15" {
		t.Errorf("%+v", c)
	}
	for _, h := range r.Headers() {
		if c.header.Get(h.Name) != h.Value {
			t.Errorf("%s: %q", h.Name, c.header.Get(h.Name))
		}
	}
	if len(c.header) != len(r.Headers())+2 { // User-Agent and Content-Length are HTTP's
		t.Errorf("other headers: %v", c.header)
	}
	if _, err := s.Enrich(within(t), item, [32]byte{}); err != nil || len(p.seen()) != 2 {
		t.Errorf("another challenge is AWS's to refuse: %v", err)
	}
	if _, err := s.Enrich(within(t), verifier.Item{Document: []byte("{}")}, bound); reason.Of(err) != reason.STSRequest || len(p.seen()) != 2 {
		t.Errorf("a request that is none was sent: %v", err)
	}
}

// TestRow120STSHostile: what a hostile STS answers is an error or a refusal, and
// nobody follows it.
func TestRow120STSHostile(t *testing.T) {
	evil := newPlatform(t, says(http.StatusOK, "application/json", callerIdentity))
	item := stsItem(t)
	r, err := ec2.ParseRequest(item.Document, bound, now)
	if err != nil {
		t.Fatal(err)
	}
	for name, handler := range hostile(evil) {
		t.Run("row 120 "+name, func(t *testing.T) {
			e := newPlatform(t, handler).endpoint()
			e.Timeout = 200 * time.Millisecond
			began := time.Now()
			parts, err := enrich.NewSTS(e, clock).Enrich(within(t), item, bound)
			if err == nil {
				_, err = r.Answered(parts[ec2.PartAnswer])
				if reason.Of(err) != reason.STSAnswer {
					t.Errorf("%v", err)
				}
			}
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
	if n := len(evil.seen()); n != 0 {
		t.Errorf("%d calls were led elsewhere", n)
	}
	t.Run("row 120 another certificate", func(t *testing.T) {
		e := evil.endpoint()
		e.RootCAs = nil
		if _, err := enrich.NewSTS(e, nil).Enrich(within(t), item, bound); err == nil {
			t.Error("talked to a stranger")
		}
	})
}

// describedXML is an answer of DescribeInstances (EC2 API Reference, examples),
// without members that nobody reads.
const describedXML = `<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>8f7724cf-496f-496e-8fe3-example</requestId>
  <reservationSet><item><reservationId>r-1234567890abcdef0</reservationId><ownerId>123456789012</ownerId><groupSet/>
    <instancesSet><item><instanceId>i-0123456789abcdef0</instanceId><imageId>ami-0123456789abcdef0</imageId>
      <instanceState><code>16</code><name>running</name></instanceState><launchTime>2026-11-20T08:58:00.000Z</launchTime>
      <placement><availabilityZone>eu-west-1a</availabilityZone></placement>
      <tagSet><item><key>Name</key><value>web &amp; more</value></item></tagSet>
    </item></instancesSet></item></reservationSet>
</DescribeInstancesResponse>`

const assumedXML = `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
  <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/demo/zonebroker</Arn><AssumedRoleId>ARO123EXAMPLE123:zonebroker</AssumedRoleId></AssumedRoleUser>
  <Credentials><AccessKeyId>ASIAASSUMED</AccessKeyId><SecretAccessKey>assumed</SecretAccessKey><SessionToken>AQoDYXdz</SessionToken><Expiration>2026-11-20T09:15:00Z</Expiration></Credentials>
</AssumeRoleResult></AssumeRoleResponse>`

const keysJSON = `{"access_key_id":"AKIAEXAMPLE","secret_access_key":"hush"}`

func instanceItem() (documenttest.EC2PKI, verifier.Item) {
	pki := documenttest.NewEC2("eu-west-1", now)
	return *pki, verifier.Item{Format: verifier.FormatEC2IID, Document: pki.Document(documenttest.NewEC2Instance("eu-west-1", now))}
}

func instances(t testing.TB, c enrich.InstancesConfig) *enrich.Instances {
	t.Helper()
	c.Now = clock
	out, err := enrich.NewInstances(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// live judges the part as the verifier does.
func live(t testing.TB, pki documenttest.EC2PKI, item verifier.Item, part []byte) (ec2.Document, error) {
	t.Helper()
	trust, err := ec2.NewTrust(map[string][]byte{pki.Region: pki.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ec2.Verify(item.Document, nil, trust, now)
	if err != nil {
		t.Fatal(err)
	}
	return d.Live(part)
}

func TestInstancesByRole(t *testing.T) {
	describe, sts := newPlatform(t, says(http.StatusOK, "text/xml;charset=UTF-8", describedXML)), newPlatform(t, says(http.StatusOK, "text/xml", assumedXML))
	i := instances(t, enrich.InstancesConfig{EC2: describe.endpoint(), STS: sts.endpoint(), Credentials: file(t, keysJSON, 0o600), Role: "audit/zonebroker"})
	pki, item := instanceItem()
	for range 2 {
		parts, err := i.Enrich(within(t), item, bound)
		if err != nil {
			t.Fatal(err)
		}
		d, err := live(t, pki, item, parts[ec2.PartInstance])
		if err != nil {
			t.Fatal(err)
		}
		f := d.Facts()
		if tags := f.Values("ec2.tag"); len(tags) != 1 || tags[0] != "Name=web & more" {
			t.Errorf("tags %q", tags)
		}
	}
	assumed := sts.seen()
	if len(assumed) != 1 {
		t.Fatalf("%d roles were assumed for two calls", len(assumed))
	}
	form, err := url.ParseQuery(assumed[0].body)
	if err != nil || form.Get("RoleArn") != "arn:aws:iam::123456789012:role/audit/zonebroker" || form.Get("Action") != "AssumeRole" ||
		assumed[0].host != "sts.eu-west-1.amazonaws.com" || !strings.HasPrefix(assumed[0].header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261120/eu-west-1/sts/aws4_request, ") {
		t.Errorf("%+v", assumed[0])
	}
	asked := describe.seen()[0]
	if asked.body != "Action=DescribeInstances&InstanceId.1=i-0123456789abcdef0&Version=2016-11-15" || asked.host != "ec2.eu-west-1.amazonaws.com" ||
		!strings.HasPrefix(asked.header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=ASIAASSUMED/") || asked.header.Get("X-Amz-Security-Token") != "AQoDYXdz" {
		t.Errorf("%+v", asked)
	}
}

// metadata answers as the instance metadata service in its second version.
func metadata(w http.ResponseWriter, r *http.Request) {
	const path = "/latest/meta-data/iam/security-credentials/"
	switch {
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" && r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") != "":
		_, _ = io.WriteString(w, "TOKEN")
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "TOKEN":
		w.WriteHeader(http.StatusUnauthorized)
	case r.URL.Path == path:
		_, _ = io.WriteString(w, "broker-role\n")
	case r.URL.Path == path+"broker-role":
		_, _ = io.WriteString(w, `{"Code":"Success","LastUpdated":"2026-11-20T08:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIAROLE","SecretAccessKey":"hush","Token":"TTT","Expiration":"2026-11-20T14:00:00Z"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func TestInstancesByMetadata(t *testing.T) {
	describe, imds := newPlatform(t, says(http.StatusOK, "text/xml", describedXML)), newMetadata(t, metadata)
	i := instances(t, enrich.InstancesConfig{EC2: describe.endpoint(), Metadata: imds.address()})
	_, item := instanceItem()
	for range 2 {
		if _, err := i.Enrich(within(t), item, bound); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(imds.seen()); n != 3 {
		t.Errorf("%d calls of the metadata service for two of EC2", n)
	}
	if got := describe.seen()[0].header; !strings.Contains(got.Get("Authorization"), "Credential=ASIAROLE/") || got.Get("X-Amz-Security-Token") != "TTT" {
		t.Errorf("%v", got)
	}
	for name, handler := range map[string]http.HandlerFunc{
		"no service":     says(http.StatusNotFound, "text/plain", ""),
		"no role":        func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "\n") },
		"a role as path": func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "../../x") },
	} {
		i := instances(t, enrich.InstancesConfig{EC2: describe.endpoint(), Metadata: newMetadata(t, handler).address()})
		if _, err := i.Enrich(within(t), item, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestInstancesAnswers: row 55 among them; an answer that is none is an error, and
// leaves the part out.
func TestInstancesAnswers(t *testing.T) {
	pki, item := instanceItem()
	ask := func(t *testing.T, handler http.HandlerFunc) ([]byte, error) {
		t.Helper()
		e := newPlatform(t, handler).endpoint()
		e.Timeout = 200 * time.Millisecond
		parts, err := instances(t, enrich.InstancesConfig{EC2: e, Credentials: file(t, keysJSON, 0o600)}).Enrich(within(t), item, bound)
		return parts[ec2.PartInstance], err
	}
	const xml = "text/xml;charset=UTF-8"
	for name, handler := range map[string]http.HandlerFunc{
		"row 55 stopped":       says(200, xml, strings.Replace(describedXML, "running", "stopped", 1)),
		"row 55 launched anew": says(200, xml, strings.Replace(describedXML, "08:58:00.000Z", "08:59:30.000Z", 1)),
		"row 55 gone":          says(400, xml, `<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>x</Message></Error></Errors></Response>`),
		"of another account":   says(200, xml, strings.Replace(describedXML, "123456789012", "999999999999", 1)),
		"another instance":     says(200, xml, strings.Replace(describedXML, "i-0123456789abcdef0", "i-0fedcba9876543210", 1)),
	} {
		t.Run(name, func(t *testing.T) {
			part, err := ask(t, handler)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := live(t, pki, item, part); reason.Of(err) != reason.EC2InstanceState {
				t.Errorf("%s: %v", part, err)
			}
		})
	}
	evil := newPlatform(t, says(http.StatusOK, "text/xml", describedXML))
	bad := hostile(evil)
	bad["no instance"] = says(200, xml, `<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>`)
	bad["another operation"] = says(200, xml, strings.ReplaceAll(describedXML, "DescribeInstancesResponse", "RunInstancesResponse"))
	bad["no XML"] = says(200, xml, "{}")
	bad["no leave"] = says(403, xml, `<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>`)
	for name, handler := range bad {
		t.Run("row 120 "+name, func(t *testing.T) {
			if part, err := ask(t, handler); err == nil || part != nil {
				t.Errorf("%s, %v", part, err)
			}
		})
	}
	if n := len(evil.seen()); n != 0 {
		t.Errorf("%d calls were led elsewhere", n)
	}
}

func TestInstancesConfiguration(t *testing.T) {
	if _, err := enrich.NewInstances(enrich.InstancesConfig{Role: "a b"}); err == nil {
		t.Error("a role that is no name")
	}
	p := newPlatform(t, says(http.StatusOK, "text/xml", describedXML))
	_, item := instanceItem()
	for name, path := range map[string]string{
		"a file that others read": file(t, keysJSON, 0o640),
		"a file with more":        file(t, `{"access_key_id":"a","secret_access_key":"b","x":1}`, 0o600),
		"a file without a secret": file(t, `{"access_key_id":"a"}`, 0o600),
		"a long file":             file(t, strings.Repeat(" ", 17<<10), 0o600),
		"a folder":                t.TempDir(),
		"no file":                 "/nonexistent",
	} {
		if _, err := instances(t, enrich.InstancesConfig{EC2: p.endpoint(), Credentials: path}).Enrich(within(t), item, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	refused := newPlatform(t, says(http.StatusForbidden, "text/xml", "<ErrorResponse/>"))
	for name, sts := range map[string]*platform{"no leave to assume": refused, "no credentials": newPlatform(t, says(200, "text/xml", "<AssumeRoleResponse/>"))} {
		i := instances(t, enrich.InstancesConfig{EC2: p.endpoint(), STS: sts.endpoint(), Credentials: file(t, keysJSON, 0o600), Role: "x"})
		if _, err := i.Enrich(within(t), item, bound); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := instances(t, enrich.InstancesConfig{EC2: p.endpoint()}).Enrich(within(t), verifier.Item{Document: []byte("x")}, bound); reason.Of(err) != reason.PKCS7Encoding {
		t.Errorf("no document: %v", err)
	}
	elsewhere := documenttest.NewEC2("eu-nowhere-1", now)
	other := verifier.Item{Document: elsewhere.Document(documenttest.NewEC2Instance("eu-nowhere-1", now))}
	if _, err := instances(t, enrich.InstancesConfig{EC2: p.endpoint(), Credentials: file(t, keysJSON, 0o600)}).Enrich(within(t), other, bound); err == nil {
		t.Error("a region that is none")
	}
	if n := len(p.seen()); n != 0 {
		t.Errorf("%d calls", n)
	}
}
