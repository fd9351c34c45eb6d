package ec2_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/ec2"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadatatest"
)

const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

var at = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func service(t *testing.T, url string) *metadata.Service {
	t.Helper()
	s, err := metadata.New(metadata.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func withRole(region, role, credentials string) map[string]metadatatest.Answer {
	return map[string]metadatatest.Answer{
		"/latest/meta-data/placement/region":                 metadatatest.Text(region),
		"/latest/meta-data/iam/security-credentials/":        metadatatest.Text(role),
		"/latest/meta-data/iam/security-credentials/" + role: metadatatest.Text(credentials),
	}
}

func credentials(code string) string {
	text, _ := json.Marshal(map[string]string{
		"Code": code, "Type": "AWS-HMAC", "AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": secret, "Token": "session",
		"LastUpdated": "2026-11-22T11:00:00Z", "Expiration": "2026-11-22T17:00:00Z",
	})
	return string(text)
}

// The two of AWS's published test suite for Signature Version 4 (get-vanilla and
// post-vanilla) that have neither path nor query.
func TestSignatureOfTheTestSuite(t *testing.T) {
	date := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	for method, want := range map[string]string{
		"GET":  "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"POST": "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
	} {
		got := ec2.Sign(method, "us-east-1", "service", date, map[string]string{"host": "example.amazonaws.com", "x-amz-date": "20150830T123600Z"}, "", secret)
		if got != want {
			t.Errorf("%s: %s", method, got)
		}
	}
}

func TestIdentityDocumentIsTheOneOfRSA2048(t *testing.T) {
	server := metadatatest.AWS(t, map[string]metadatatest.Answer{"/latest/dynamic/instance-identity/rsa2048": metadatatest.Text("MIAGCSqGSIb3\nDQEHAqCA")})
	c := ec2.IID{Metadata: service(t, server.URL)}
	if f := c.Detect(t.Context()); !f.Able || f.Class != "C" || f.Format != "ec2.iid" {
		t.Errorf("%+v", f)
	}
	item, err := c.Collect(t.Context(), collect.Bound{})
	if err != nil || string(item.Document) != "MIAGCSqGSIb3\nDQEHAqCA" || item.Format != "ec2.iid" {
		t.Errorf("%q, %v", item.Document, err)
	}
	for _, asked := range server.Asked() {
		if strings.HasSuffix(asked, "/pkcs7") || strings.HasSuffix(asked, "/signature") {
			t.Errorf("a weak form was asked for: %s", asked)
		}
	}
}

func TestSTSRequestCarriesTheChallengeAndNoSecret(t *testing.T) {
	server := metadatatest.AWS(t, withRole("eu-central-1", "zb-role", credentials("Success")))
	c := ec2.STS{Metadata: service(t, server.URL), Now: func() time.Time { return at }}
	if f := c.Detect(t.Context()); !f.Able || !strings.Contains(f.Why, "zb-role") {
		t.Fatalf("%+v", f)
	}
	one, two := document(t, c, [32]byte{1}), document(t, c, [32]byte{2})
	want := map[string]string{
		"region": "eu-central-1", "access_key_id": "AKIDEXAMPLE", "amz_date": "20261122T120000Z", "security_token": "session",
		"signed_headers": "content-type;host;x-amz-date;x-amz-security-token;x-zonebroker-challenge",
	}
	for name, value := range want {
		if one[name] != value {
			t.Errorf("%s is %q", name, one[name])
		}
	}
	bound := [32]byte{1}
	signed := ec2.Sign("POST", "eu-central-1", "sts", at, map[string]string{
		"content-type": "application/x-www-form-urlencoded; charset=utf-8",
		"host":         "sts.eu-central-1.amazonaws.com", "x-amz-date": "20261122T120000Z", "x-amz-security-token": "session",
		"x-zonebroker-challenge": base64.RawURLEncoding.EncodeToString(bound[:]),
	}, "Action=GetCallerIdentity&Version=2011-06-15", secret)
	if one["signature"] != signed {
		t.Errorf("signature %s, want %s", one["signature"], signed)
	}
	if one["signature"] == two["signature"] {
		t.Error("two challenges, one signature")
	}
	if len(one) != 6 {
		t.Errorf("members %v", one)
	}
	for name, value := range one {
		if strings.Contains(value, secret) {
			t.Errorf("%s gives the secret key away", name)
		}
	}
}

func document(t *testing.T, c ec2.STS, value [32]byte) map[string]string {
	t.Helper()
	item, err := c.Collect(t.Context(), collect.Bound{Value: value})
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]string
	if err := json.Unmarshal(item.Document, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// Whoever answers in the place of the metadata service chooses neither what is
// asked nor for whom is signed, and gets no text of a credential into a log.
func TestSTSFromAHostileService(t *testing.T) {
	for name, answers := range map[string]map[string]metadatatest.Answer{
		"region is a host":  withRole("evil.example/", "r", credentials("Success")),
		"region with break": withRole("us-east-1\nhost: evil", "r", credentials("Success")),
		"role is a path":    withRole("us-east-1", "../../user-data", credentials("Success")),
		"two roles":         withRole("us-east-1", "a\nb", credentials("Success")),
		"no role":           {"/latest/meta-data/placement/region": metadatatest.Text("us-east-1")},
		"failed":            withRole("us-east-1", "r", credentials("AssumeRoleUnauthorizedAccess")),
		"no json":           withRole("us-east-1", "r", "<html>"+secret),
		"empty object":      withRole("us-east-1", "r", "{}"),
		"huge":              withRole("us-east-1", "r", strings.Repeat(" ", 1<<20)+credentials("Success")),
	} {
		c := ec2.STS{Metadata: service(t, metadatatest.AWS(t, answers).URL), Now: func() time.Time { return at }}
		item, err := c.Collect(t.Context(), collect.Bound{})
		if err == nil || len(item.Document) > 0 {
			t.Errorf("%s: %q", name, item.Document)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes a secret", name)
		}
	}
}

func TestNeitherIsForOtherClouds(t *testing.T) {
	s := service(t, metadatatest.Azure(t, nil).URL)
	for _, c := range []collect.Collector{ec2.IID{Metadata: s}, ec2.STS{Metadata: s, Now: time.Now}} {
		if f := c.Detect(context.Background()); f.Able || !strings.Contains(f.Why, "Azure") {
			t.Errorf("%+v", f)
		}
		if _, err := c.Collect(context.Background(), collect.Bound{}); err == nil {
			t.Errorf("%s was collected on Azure", c.Format())
		}
	}
}
