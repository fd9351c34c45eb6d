package ec2_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/ec2"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// checks returns the names of what was found.
func checks(f document.Facts) []string {
	var out []string
	for _, found := range f.Findings {
		out = append(out, found.Check)
	}
	return out
}

// TestFactsOfDocument: what policy compares is all that was signed, each under its
// name: a selector that is lost makes a zone that asks for it refuse everybody.
func TestFactsOfDocument(t *testing.T) {
	s := good()
	s.json = func(b []byte) []byte {
		b = replace("billingProducts\" : null", "billingProducts\" : [\"bp-6ba54002\"]")(b)
		return replace("marketplaceProductCodes\" : null", "marketplaceProductCodes\" : [\"b2\", \"a1\"]")(b)
	}
	d, code := s.verify(t)
	if code != reason.EC2Marketplace {
		t.Fatal(code)
	}
	if d.Facts().Confirmed {
		t.Error("confirmed by nobody")
	}
	d, err := d.Live([]byte(`{"account_id":"123456789012","image_id":"ami-0123456789abcdef0","instance_id":"i-0123456789abcdef0","launch_time":"2026-11-20T08:58:01Z","region":"eu-central-1","state":"running","tags":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	f := d.Facts()
	want := []document.Selector{
		{Name: "ec2.account_id", Value: "123456789012"},
		{Name: "ec2.architecture", Value: "x86_64"},
		{Name: "ec2.availability_zone", Value: "eu-central-1a"},
		{Name: "ec2.billing_product", Value: "bp-6ba54002"},
		{Name: "ec2.image_id", Value: "ami-0123456789abcdef0"},
		{Name: "ec2.instance_id", Value: "i-0123456789abcdef0"},
		{Name: "ec2.instance_type", Value: "m7i.large"},
		{Name: "ec2.private_ip", Value: "10.0.0.5"},
		{Name: "ec2.product_code", Value: "b2"},
		{Name: "ec2.product_code", Value: "a1"},
		{Name: "ec2.region", Value: "eu-central-1"},
		{Name: "ec2.state", Value: "running"},
	}
	if !slices.Equal(f.Selectors, want) {
		t.Errorf("%v", f.Selectors)
	}
	if got := checks(f); !slices.Equal(got, []string{"ec2.iid.signature", "ec2.iid.document", "ec2.iid.live"}) || !f.Confirmed {
		t.Errorf("%v, confirmed %v", got, f.Confirmed)
	}
}

// TestFactsOfPrincipal is the same of who signed a request.
func TestFactsOfPrincipal(t *testing.T) {
	r, err := ec2.ParseRequest(encode(t, pieces()), bound, now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Answered(answer(t, 200, "application/json", identity))
	if err != nil {
		t.Fatal(err)
	}
	f := p.Facts()
	want := []document.Selector{
		{Name: "sts.account", Value: "123456789012"},
		{Name: "sts.arn", Value: "arn:aws:sts::123456789012:assumed-role/web/i-0123456789abcdef0"},
		{Name: "sts.user_id", Value: "AROAEXAMPLE:i-0123456789abcdef0"},
	}
	if !slices.Equal(f.Selectors, want) || !slices.Equal(f.Owners, []document.Owner{{Kind: document.OwnerAWSAccount, Value: "123456789012"}}) {
		t.Errorf("%v of %v", f.Selectors, f.Owners)
	}
	if got := checks(f); !slices.Equal(got, []string{"ec2.sts.request", "ec2.sts.answer"}) || !f.Confirmed {
		t.Errorf("%v, confirmed %v", got, f.Confirmed)
	}
}

// TestForms are values next to those that AWS writes.
func TestForms(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(s *sent)
		code   reason.Code
	}{
		"the last zone there can be":   {func(s *sent) { s.instance.Zone = region + "z" }, ""},
		"a zone that is a digit":       {func(s *sent) { s.instance.Zone = region + "1" }, reason.EC2Zone},
		"a zone in capitals":           {func(s *sent) { s.instance.Zone = region + "A" }, reason.EC2Zone},
		"a zone without its region":    {func(s *sent) { s.instance.Zone = "b" }, reason.EC2Zone},
		"a product code with a blank":  {func(s *sent) { s.instance.Products = []string{"a b"} }, reason.EC2Document},
		"a bare signature of RSA-1024": {func(s *sent) { s.raw = func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 128) } }, reason.EC2Variant},
		"one of RSA-2048":              {func(s *sent) { s.raw = func([]byte) []byte { return bytes.Repeat([]byte{0xff}, 256) } }, reason.EC2Variant},
		"one of RSA-2048 in base64": {func(s *sent) {
			s.raw = func([]byte) []byte { return documenttest.Base64Lines(bytes.Repeat([]byte{0xff}, 256)) }
		}, reason.EC2Variant},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			s := good()
			tc.change(&s)
			if _, got := s.verify(t); got != tc.code {
				t.Errorf("want %q, got %q", tc.code, got)
			}
		})
	}
}

// TestReadClaimed: whom to ask about an instance is read from what nobody has
// verified, and of nothing else than a document.
func TestReadClaimed(t *testing.T) {
	s := good()
	got, err := ec2.ReadClaimed(s.pki.Document(s.instance))
	if want := (ec2.Claimed{Account: "123456789012", Region: region, Instance: "i-0123456789abcdef0"}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	message := func(content []byte) []byte {
		return documenttest.PKCS7(documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s.pki.Signer}})
	}
	for name, tc := range map[string]struct {
		raw  []byte
		code reason.Code
	}{
		"the plain document":     {s.instance.JSON(), reason.EC2Variant},
		"nothing":                {nil, reason.PKCS7Encoding},
		"no message":             {[]byte(base64.StdEncoding.EncodeToString([]byte("\x30\x02\x05\x00"))), reason.PKCS7Encoding},
		"nobody signed":          {documenttest.PKCS7(documenttest.Message{Content: s.instance.JSON()}), reason.PKCS7SignerCount},
		"another content":        {message([]byte(`{}`)), reason.EC2Document},
		"a region that is a URL": {message(replace(`"eu-central-1"`, `"evil.example/"`)(s.instance.JSON())), reason.EC2Document},
	} {
		if got, err := ec2.ReadClaimed(tc.raw); reason.Of(err) != tc.code || got != (ec2.Claimed{}) {
			t.Errorf("%s: want %s, got %+v, %v", name, tc.code, got, err)
		}
	}
}

// TestLiveLimits: what the cloud says is held to its form and to a document that
// was verified.
func TestLiveLimits(t *testing.T) {
	s := good()
	d, code := s.verify(t)
	if code != "" {
		t.Fatal(code)
	}
	said := func(tags string) string {
		return `{"account_id":"123456789012","image_id":"ami-0123456789abcdef0","instance_id":"i-0123456789abcdef0","launch_time":"2026-11-20T08:58:01Z","region":"eu-central-1","state":"running",` + tags + `}`
	}
	var tags []string
	for i := range 50 {
		tags = append(tags, fmt.Sprintf(`"t%d":""`, i))
	}
	full := said(`"tags":{` + strings.Join(tags, ",") + `}`)
	nobody := strings.NewReplacer(`"123456789012"`, "null", `"ami-0123456789abcdef0"`, "null", `"i-0123456789abcdef0"`, "null", `"eu-central-1"`, "null", "2026-11-20T08:58:01Z", "0001-01-01T00:00:00Z")
	for name, tc := range map[string]struct {
		of   ec2.Document
		said string
		code reason.Code
	}{
		"fifty tags":                        {d, full, ""},
		"as long as may be":                 {d, full + strings.Repeat(" ", ec2.MaxInstance-len(full)), ""},
		"a byte longer":                     {d, full + strings.Repeat(" ", ec2.MaxInstance+1-len(full)), reason.RequestTooLarge},
		"no tags under their name":          {d, said(`"tag":{}`), reason.EC2InstanceState},
		"a document that was never checked": {ec2.Document{}, nobody.Replace(said(`"tags":{}`)), reason.EC2InstanceState},
	} {
		if _, err := tc.of.Live([]byte(tc.said)); reason.Of(err) != tc.code {
			t.Errorf("%s: want %q, got %v", name, tc.code, err)
		}
	}
}

// TestRequestLimits: sizes and times at their bounds, and a date that only a broker
// without a clock would take.
func TestRequestLimits(t *testing.T) {
	dated := func(date string) string {
		p := pieces()
		p["amz_date"] = date
		return string(encode(t, p))
	}
	raw := dated("20261120T090000Z")
	for name, tc := range map[string]struct {
		raw  string
		now  time.Time
		code reason.Code
	}{
		"15 minutes before":    {dated("20261120T084500Z"), now, ""},
		"15 minutes after":     {dated("20261120T091500Z"), now, ""},
		"as long as may be":    {raw + strings.Repeat(" ", ec2.MaxRequest-len(raw)), now, ""},
		"a byte longer":        {raw + strings.Repeat(" ", ec2.MaxRequest+1-len(raw)), now, reason.RequestTooLarge},
		"no time, and its day": {dated("00010101T000000Z"), time.Time{}, reason.STSRequest},
	} {
		if _, err := ec2.ParseRequest([]byte(tc.raw), bound, tc.now); reason.Of(err) != tc.code {
			t.Errorf("%s: want %q, got %v", name, tc.code, err)
		}
	}
}

// TestAnswerLimits: an answer that the broker did not record, and a user who could
// be written in two ways: the user is the name of a machine.
func TestAnswerLimits(t *testing.T) {
	r, err := ec2.ParseRequest(encode(t, pieces()), bound, now)
	if err != nil {
		t.Fatal(err)
	}
	good := string(answer(t, 200, "application/json", identity))
	user := func(name string) string { return strings.ReplaceAll(good, "AROAEXAMPLE:i-0123456789abcdef0", name) }
	for name, tc := range map[string]struct {
		raw  string
		code reason.Code
	}{
		"as long as may be":      {good + strings.Repeat(" ", ec2.MaxAnswer-len(good)), ""},
		"a byte longer":          {good + strings.Repeat(" ", ec2.MaxAnswer+1-len(good)), reason.RequestTooLarge},
		"a member that is new":   {strings.Replace(good, "{", `{"x":1,`, 1), reason.STSAnswer},
		"a user with a blank":    {user("AROAEXAMPLE:i 0"), reason.STSAnswer},
		"a user without a name":  {user(""), reason.STSAnswer},
		"a user of 257 letters":  {user(strings.Repeat("a", 257)), reason.STSAnswer},
		"a user of another kind": {user("AROAEXAMPLE/i"), reason.STSAnswer},
	} {
		if _, err := r.Answered([]byte(tc.raw)); reason.Of(err) != tc.code {
			t.Errorf("%s: want %q, got %v", name, tc.code, err)
		}
	}
}

// TestTrustForms: a file of certificates may end in blank lines; what is no
// certificate, or has the short key of the old form, is an error.
func TestTrustForms(t *testing.T) {
	pki := documenttest.NewEC2(region, now)
	if got, err := ec2.NewTrust(map[string][]byte{region: append(pki.CertificatePEM(), " \n\n"...)}); err != nil || got.Len() != 1 {
		t.Errorf("blank lines behind: %v", err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	short := documenttest.Certify(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}}, key, nil, now)
	for name, tc := range map[string]struct {
		block *pem.Block
		want  string
	}{
		"another kind of block": {&pem.Block{Type: "X509 CRL", Bytes: pki.Signer.Certificate.Raw}, "not a PEM certificate"},
		"a key of 1024 bits":    {&pem.Block{Type: "CERTIFICATE", Bytes: short.Certificate.Raw}, "not RSA of 2048"},
	} {
		if _, err := ec2.NewTrust(map[string][]byte{region: pem.EncodeToMemory(tc.block)}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
