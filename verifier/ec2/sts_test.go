package ec2_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func elliptic256(t testing.TB) []byte {
	t.Helper()
	key := documenttest.ECKey(elliptic.P256())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

var bound = [32]byte{1, 2, 3}

// pieces are what an agent signs; the signature itself is AWS's to judge.
func pieces() map[string]any {
	return map[string]any{
		"region": region, "access_key_id": "ASIAEXAMPLEEXAMPLE12", "amz_date": "20261120T090000Z",
		"security_token": "FwoGZXIvYXdzEXAMPLE/+=", "signature": strings.Repeat("ab", 32),
		"signed_headers": "content-type;host;x-amz-date;x-amz-security-token;x-zonebroker-challenge",
	}
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequestIsRebuilt(t *testing.T) {
	r, err := ec2.ParseRequest(encode(t, pieces()), bound, now)
	if err != nil {
		t.Fatal(err)
	}
	if r.Host() != "sts.eu-central-1.amazonaws.com" || r.Region() != region {
		t.Errorf("host %s", r.Host())
	}
	want := []ec2.Header{
		{Name: "accept", Value: "application/json"},
		{Name: "content-type", Value: "application/x-www-form-urlencoded; charset=utf-8"},
		{Name: "x-amz-date", Value: "20261120T090000Z"},
		{Name: "x-zonebroker-challenge", Value: base64.RawURLEncoding.EncodeToString(bound[:])},
		{Name: "x-amz-security-token", Value: "FwoGZXIvYXdzEXAMPLE/+="},
		{Name: "authorization", Value: "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLEEXAMPLE12/20261120/eu-central-1/sts/aws4_request, " +
			"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-zonebroker-challenge, Signature=" + strings.Repeat("ab", 32)},
	}
	if got := r.Headers(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestRow120STS: the broker writes the request; what an agent says of it beside
// the pieces is refused.
func TestRow120STS(t *testing.T) {
	for name, tc := range map[string]struct {
		member string
		value  any
		code   reason.Code
	}{
		"host evil":                   {"host", "evil.example", reason.STSRequest},
		"region that is a host":       {"region", "evil.example/", reason.STSRequest},
		"region that is none":         {"region", "eu-nowhere-1", reason.STSRequest},
		"region with a user":          {"region", "x@evil.example", reason.STSRequest},
		"extra header":                {"headers", map[string]string{"x-evil": "1"}, reason.STSRequest},
		"extra signed header":         {"signed_headers", "content-type;host;x-amz-date;x-amz-security-token;x-evil;x-zonebroker-challenge", reason.STSRequest},
		"method GET":                  {"method", "GET", reason.STSRequest},
		"another path":                {"path", "/?Action=AssumeRole", reason.STSRequest},
		"another body":                {"body", "Action=AssumeRole", reason.STSRequest},
		"challenge unsigned":          {"signed_headers", "content-type;host;x-amz-date;x-amz-security-token", reason.STSChallengeUnsigned},
		"host unsigned":               {"signed_headers", "content-type;x-amz-date;x-amz-security-token;x-zonebroker-challenge", reason.STSRequest},
		"token unsigned":              {"signed_headers", "content-type;host;x-amz-date;x-zonebroker-challenge", reason.STSRequest},
		"no signed headers":           {"signed_headers", nil, reason.STSRequest},
		"a key with a line break":     {"access_key_id", "ASIAEXAMPLEEXAMPLE12\r\nx: y", reason.STSRequest},
		"a token with a line break":   {"security_token", "FwoGZXIvYXdz\r\nx: y", reason.STSRequest},
		"an empty token":              {"security_token", "", reason.STSRequest},
		"a signature that is none":    {"signature", "AB", reason.STSRequest},
		"a date that is none":         {"amz_date", "20261320T090000Z", reason.STSRequest},
		"a date of 15 minutes before": {"amz_date", "20261120T084459Z", reason.STSRequest},
		"a date of 15 minutes after":  {"amz_date", "20261120T091501Z", reason.STSRequest},
		"a date with a line break":    {"amz_date", "20261120T090000Z\n", reason.STSRequest},
	} {
		t.Run("row 120 "+name, func(t *testing.T) {
			p := pieces()
			p[tc.member] = tc.value
			r, err := ec2.ParseRequest(encode(t, p), bound, now)
			if reason.Of(err) != tc.code || r.Host() != "" {
				t.Errorf("want %s, got %v", tc.code, err)
			}
		})
	}
	for name, raw := range map[string]string{"no JSON": "x", "two": string(encode(t, pieces())) + "{}", "empty": "{}"} {
		if _, err := ec2.ParseRequest([]byte(raw), bound, now); reason.Of(err) != reason.STSRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ec2.ParseRequest(make([]byte, ec2.MaxRequest+1), bound, now); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("too large: %v", err)
	}
	if _, err := ec2.ParseRequest(encode(t, pieces()), bound, time.Time{}); reason.Of(err) != reason.STSRequest {
		t.Errorf("no time: %v", err)
	}
}

func TestLongTermCredentials(t *testing.T) {
	p := pieces()
	delete(p, "security_token")
	p["signed_headers"] = "content-type;host;x-amz-date;x-zonebroker-challenge"
	r, err := ec2.ParseRequest(encode(t, p), bound, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range r.Headers() {
		if h.Name == "x-amz-security-token" {
			t.Error("a token from nowhere")
		}
	}
}

func TestEndpoints(t *testing.T) {
	for region, want := range map[string][2]string{
		"us-east-1": {"sts.us-east-1.amazonaws.com", "aws"}, "cn-north-1": {"sts.cn-north-1.amazonaws.com.cn", "aws-cn"},
		"us-gov-west-1": {"sts.us-gov-west-1.amazonaws.com", "aws-us-gov"}, "eusc-de-east-1": {"sts.eusc-de-east-1.amazonaws.eu", "aws-eusc"},
	} {
		if host, arn, ok := ec2.Endpoint("sts", region); !ok || host != want[0] || arn != want[1] {
			t.Errorf("%s: %s %s %v", region, host, arn, ok)
		}
	}
	for _, region := range []string{"", " ", "us-east-1 us-east-2", "us-east"} {
		if _, _, ok := ec2.Endpoint("sts", region); ok {
			t.Errorf("%q is a region", region)
		}
	}
}

const identity = `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"arn:aws:sts::123456789012:assumed-role/web/i-0123456789abcdef0","UserId":"AROAEXAMPLE:i-0123456789abcdef0"},"ResponseMetadata":{"RequestId":"x"}}}`

func answer(t testing.TB, status int, kind, body string) []byte {
	t.Helper()
	return encode(t, map[string]any{"status": status, "content_type": kind, "body": body})
}

func TestAnswered(t *testing.T) {
	r, err := ec2.ParseRequest(encode(t, pieces()), bound, now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Answered(answer(t, 200, "application/json; charset=utf-8", identity))
	if err != nil {
		t.Fatal(err)
	}
	f := p.Facts()
	if p.Account() != "123456789012" || p.ARN() != "arn:aws:sts::123456789012:assumed-role/web/i-0123456789abcdef0" ||
		f.Class != document.ClassB || !f.NonceBound || !f.KeyBound || !f.IssuedAt.Equal(now) ||
		f.Machine != (document.Machine{Kind: document.MachineSTSRole, Name: "AROAEXAMPLE:i-0123456789abcdef0"}) {
		t.Errorf("%+v", f)
	}
	for _, a := range f.Anchors {
		if a.Kind == document.MachineEC2 {
			t.Error("a session name is no instance")
		}
	}
	swap := func(old, by string) string { return strings.Replace(identity, old, by, 1) }
	for name, raw := range map[string][]byte{
		"row 120 a redirect":           answer(t, 302, "application/json", identity),
		"a refusal":                    answer(t, 403, "application/json", identity),
		"a status that is text":        []byte(`{"status":"200","content_type":"application/json","body":"{}"}`),
		"row 120 another content type": answer(t, 200, "text/xml", identity),
		"no content type":              answer(t, 200, "", identity),
		"no answer":                    nil,
		"a member that is new":         []byte(`{"status":200,"content_type":"application/json","body":"{}","x":1}`),
		"no JSON":                      answer(t, 200, "application/json", "<x/>"),
		"another operation":            answer(t, 200, "application/json", swap("GetCallerIdentityResult", "AssumeRoleResult")),
		"a result twice":               answer(t, 200, "application/json", swap(`"Account":`, `"Account":"999999999999","account":`)),
		"no account":                   answer(t, 200, "application/json", swap(`"Account":"123456789012"`, `"Account":""`)),
		"no ARN":                       answer(t, 200, "application/json", swap(`"Arn"`, `"A"`)),
		"no user":                      answer(t, 200, "application/json", swap(`"AROAEXAMPLE:i-0123456789abcdef0"`, `null`)),
		"an ARN of another account":    answer(t, 200, "application/json", swap("sts::123456789012", "sts::999999999999")),
		"an ARN of another partition":  answer(t, 200, "application/json", swap("arn:aws:", "arn:aws-cn:")),
		"an ARN of another service":    answer(t, 200, "application/json", swap("aws:sts", "aws:s3")),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := r.Answered(raw); reason.Of(err) != reason.STSAnswer {
				t.Error(err)
			}
		})
	}
	if _, err := r.Answered(make([]byte, ec2.MaxAnswer+1)); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("too large: %v", err)
	}
	if _, err := (ec2.Request{}).Answered(answer(t, 200, "application/json", identity)); reason.Of(err) != reason.STSAnswer {
		t.Errorf("an answer to nothing: %v", err)
	}
}

// FuzzIID: whatever comes in, nothing passes but what the region signed.
func FuzzIID(f *testing.F) {
	s := good()
	raw := s.pki.Document(s.instance)
	f.Add(raw, s.instance.JSON(), true)
	f.Add(documenttest.PKCS7(documenttest.Message{Content: s.instance.JSON(), Signers: []documenttest.RSASigner{s.pki.Signer}}), []byte{}, false)
	pinned := trust(f, s.pki)
	f.Fuzz(func(t *testing.T, raw, beside []byte, has bool) {
		if !has {
			beside = nil
		}
		evidencetest.Bounded(t, len(raw)+len(beside), 64, func() {
			if d, err := ec2.Verify(raw, beside, pinned, now); err == nil && d.Account() != s.instance.Account {
				t.Errorf("%+v passed", d.Facts())
			}
		})
	})
}

// FuzzSTS: no pieces lead to a host that is not of AWS, or to a header with a line
// break.
func FuzzSTS(f *testing.F) {
	f.Add(encode(f, pieces()), answer(f, 200, "application/json", identity))
	f.Fuzz(func(t *testing.T, raw, answered []byte) {
		evidencetest.Bounded(t, len(raw)+len(answered), 256, func() {
			r, err := ec2.ParseRequest(raw, bound, now)
			if err != nil {
				return
			}
			if !strings.HasPrefix(r.Host(), "sts.") || strings.ContainsAny(r.Host(), "/@:") {
				t.Errorf("host %q", r.Host())
			}
			for _, h := range r.Headers() {
				if strings.ContainsAny(h.Value, "\r\n\x00") {
					t.Errorf("%q", h)
				}
			}
			if p, err := r.Answered(answered); err == nil && len(p.Account()) != 12 {
				t.Errorf("%+v", p.Facts())
			}
		})
	})
}

func BenchmarkVerify(b *testing.B) {
	s := good()
	raw, pinned := s.pki.Document(s.instance), trust(b, s.pki)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ec2.Verify(raw, nil, pinned, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySTS(b *testing.B) {
	raw, answered := encode(b, pieces()), answer(b, 200, "application/json", identity)
	b.ReportAllocs()
	for b.Loop() {
		r, err := ec2.ParseRequest(raw, bound, now)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := r.Answered(answered); err != nil {
			b.Fatal(err)
		}
	}
}
