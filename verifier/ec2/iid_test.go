package ec2_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	encoding_asn1 "encoding/asn1"
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

const region = "eu-central-1"

var now = time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)

func trust(t testing.TB, pki *documenttest.EC2PKI) ec2.Trust {
	t.Helper()
	out, err := ec2.NewTrust(map[string][]byte{pki.Region: pki.CertificatePEM()})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sent is an identity document in which a test changes one thing.
type sent struct {
	pki      *documenttest.EC2PKI
	instance documenttest.EC2Instance
	json     func([]byte) []byte
	message  func(*documenttest.Message)
	raw      func([]byte) []byte
	beside   []byte
	now      time.Time
	code     reason.Code
}

func good() sent {
	return sent{pki: documenttest.NewEC2(region, now), instance: documenttest.NewEC2Instance(region, now), now: now}
}

// verify returns the verdict of default policy: the first hazard refuses.
func (s *sent) verify(t testing.TB) (ec2.Document, reason.Code) {
	t.Helper()
	content := s.instance.JSON()
	if s.json != nil {
		content = s.json(content)
	}
	m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s.pki.Signer}, Indefinite: true}
	if s.message != nil {
		s.message(&m)
	}
	raw := documenttest.Base64Lines(documenttest.PKCS7(m))
	if s.raw != nil {
		raw = s.raw(raw)
	}
	d, err := ec2.Verify(raw, s.beside, trust(t, s.pki), s.now)
	if err == nil {
		if f := d.Facts(); len(f.Hazards) > 0 {
			return d, f.Hazards[0].Code
		}
	} else if d.Machine() != (document.Machine{}) {
		t.Error("a refused document still names a machine")
	}
	return d, reason.Of(err)
}

func replace(old, by string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(old), []byte(by), 1) }
}

// TestCatalogueEC2 are the rows of the catalogue that concern identity documents.
// Rows 46 and 54, an old document and one with a second agent key, are matters of
// what is registered.
func TestCatalogueEC2(t *testing.T) {
	evil := documenttest.Certify(&x509.Certificate{
		SerialNumber: big.NewInt(99), Subject: pkix.Name{Organization: []string{"Amazon Web Services LLC"}, CommonName: "test"},
	}, documenttest.RSAKey(1), nil, now)
	type message = documenttest.Message
	for name, change := range map[string]func(s *sent){
		"row 34 attacker certificate embedded, same name": func(s *sent) {
			s.code, s.message = reason.PKCS7SignerUnknown, func(m *message) {
				m.Signers, m.Bag = []documenttest.RSASigner{evil}, []*x509.Certificate{evil.Certificate}
			}
		},
		"row 35 attacker signs, the genuine certificate in the bag": func(s *sent) {
			genuine := s.pki.Signer.Certificate
			s.code, s.message = reason.PKCS7SignerUnknown, func(m *message) {
				m.Signers, m.Bag = []documenttest.RSASigner{evil}, []*x509.Certificate{genuine, evil.Certificate}
			}
		},
		"row 36 no signed attributes": func(s *sent) {
			s.code, s.message = reason.PKCS7Attributes, func(m *message) { m.NoAttributes = true }
		},
		"row 37 SHA-1": func(s *sent) {
			s.code, s.message = reason.PKCS7Algorithm, func(m *message) { m.Digest = documenttest.OIDSHA1 }
		},
		"row 52 DSA and SHA-1 genuine": func(s *sent) {
			s.code, s.message = reason.PKCS7Algorithm, func(m *message) {
				m.Digest, m.Algorithm = documenttest.OIDSHA1, encoding_asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 3} // dsa-with-SHA1
			}
		},
		"row 38 two signers": func(s *sent) {
			s.code, s.message = reason.PKCS7SignerCount, func(m *message) { m.Signers = append(m.Signers, evil) }
		},
		"row 39 no signer": func(s *sent) {
			s.code, s.message = reason.PKCS7SignerCount, func(m *message) { m.Signers = nil }
		},
		"row 40 detached": func(s *sent) {
			s.code, s.message = reason.PKCS7Content, func(m *message) { m.Detached = true }
		},
		"row 41 another document beside it": func(s *sent) {
			other := s.instance
			other.Instance = "i-0fedcba9876543210"
			s.code, s.beside = reason.EC2DocumentMismatch, other.JSON()
		},
		"row 41 an empty document beside it": func(s *sent) { s.code, s.beside = reason.EC2DocumentMismatch, []byte{} },
		"row 42 a message in the message": func(s *sent) {
			signer := s.pki.Signer
			s.code, s.json = reason.EC2Document, func(b []byte) []byte {
				return documenttest.PKCS7(message{Content: b, Signers: []documenttest.RSASigner{signer}})
			}
		},
		"row 43 region of another certificate": func(s *sent) {
			s.code, s.instance = reason.EC2Region, documenttest.NewEC2Instance("eu-central-2", now)
		},
		"row 43 region of another certificate, zone of this one": func(s *sent) { s.code, s.instance.Region = reason.EC2Region, "eu-west-1" },
		"row 44 zone of another region":                          func(s *sent) { s.code, s.instance.Zone = reason.EC2Zone, "eu-west-1a" },
		"row 44 zone of a region with a longer name":             func(s *sent) { s.code, s.instance.Zone = reason.EC2Zone, "eu-central-12a" },
		"row 44 the region as its own zone":                      func(s *sent) { s.code, s.instance.Zone = reason.EC2Zone, region },
		"row 45 launched in two hours":                           func(s *sent) { s.code, s.instance.Pending = reason.EC2PendingTime, now.Add(2*time.Hour) },
		"row 45 launched in 61 seconds":                          func(s *sent) { s.code, s.instance.Pending = reason.EC2PendingTime, now.Add(61*time.Second) },
		"row 47 marketplace image":                               func(s *sent) { s.code, s.instance.Products = reason.EC2Marketplace, []string{"abcd1234"} },
		"row 49 a member twice": func(s *sent) {
			s.code, s.json = reason.EC2Document, replace(`"version"`, `"accountId" : "999999999999", "version"`)
		},
		"row 49 a member twice, in another case": func(s *sent) {
			s.code, s.json = reason.EC2Document, replace(`"version"`, `"ACCOUNTID" : "999999999999", "version"`)
		},
		"row 50 content flip": func(s *sent) {
			s.code, s.raw = reason.PKCS7Signature, func([]byte) []byte {
				raw := documenttest.PKCS7(message{Content: s.instance.JSON(), Signers: []documenttest.RSASigner{s.pki.Signer}})
				return replace("m7i", "x7i")(raw)
			}
		},
		"row 51 trailing DER": func(s *sent) {
			s.code, s.raw = reason.PKCS7Encoding, func([]byte) []byte {
				return append(documenttest.PKCS7(message{Content: s.instance.JSON(), Signers: []documenttest.RSASigner{s.pki.Signer}}), 5, 0)
			}
		},
		"row 53 the signature of RSA-1024": func(s *sent) {
			s.code, s.raw = reason.EC2Variant, func([]byte) []byte { return documenttest.Base64Lines(make([]byte, 128)) }
		},
		"row 53 a bare signature of RSA-2048": func(s *sent) {
			s.code, s.raw = reason.EC2Variant, func([]byte) []byte { return bytes.Repeat([]byte{0x30}, 256) }
		},
		"row 53 the plain document": func(s *sent) {
			s.code, s.raw = reason.EC2Variant, func([]byte) []byte { return s.instance.JSON() }
		},
		"an expired certificate of the region": func(s *sent) { s.code, s.now = reason.PKCS7SignerUnknown, now.AddDate(4, 0, 0) },
		"a certificate that is not valid yet":  func(s *sent) { s.code, s.now = reason.PKCS7SignerUnknown, now.AddDate(-3, 0, 0) },
		"no time":                              func(s *sent) { s.code, s.now = reason.PKCS7SignerUnknown, time.Time{} },
		"too large": func(s *sent) {
			s.code, s.raw = reason.RequestTooLarge, func([]byte) []byte { return make([]byte, 33<<10) }
		},
		"not base64":                     func(s *sent) { s.code, s.raw = reason.PKCS7Encoding, func([]byte) []byte { return []byte("%") } },
		"an account of eleven digits":    func(s *sent) { s.code, s.instance.Account = reason.EC2Document, "12345678901" },
		"an instance id of another form": func(s *sent) { s.code, s.instance.Instance = reason.EC2Document, "i-0123456789ABCDEF0" },
		"an image id of another form":    func(s *sent) { s.code, s.instance.Image = reason.EC2Document, "aki-01234567" },
		"an address of another form":     func(s *sent) { s.code, s.json = reason.EC2Document, replace("10.0.0.5", "host") },
		"an instance that is null":       func(s *sent) { s.code, s.json = reason.EC2Document, replace(`"i-0123456789abcdef0"`, "null") },
		"an account that is a number":    func(s *sent) { s.code, s.json = reason.EC2Document, replace(`"123456789012"`, "123456789012") },
		"a time of another form":         func(s *sent) { s.code, s.json = reason.EC2Document, replace("T08:58:00Z", " 08:58:00") },
		"product codes that are no list": func(s *sent) {
			s.code, s.json = reason.EC2Document, replace("ProductCodes\" : null", "ProductCodes\" : {}")
		},
		"product codes that are no text": func(s *sent) {
			s.code, s.json = reason.EC2Document, replace("ProductCodes\" : null", "ProductCodes\" : [1]")
		},
		"a devpay product": func(s *sent) {
			s.code, s.json = reason.EC2Marketplace, replace("devpayProductCodes\" : null", "devpayProductCodes\" : [\"a\"]")
		},
		"no JSON": func(s *sent) { s.code, s.json = reason.EC2Document, func([]byte) []byte { return []byte("x") } },
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			s := good()
			change(&s)
			if _, got := s.verify(t); got != s.code {
				t.Errorf("want %s, got %s", s.code, got)
			}
		})
	}
}

func TestDocumentAccepted(t *testing.T) {
	for name, change := range map[string]func(s *sent){
		"as the metadata service answers": func(*sent) {},
		"DER in PEM with the certificate": func(s *sent) {
			c := s.pki.Signer.Certificate
			s.message = func(m *documenttest.Message) { m.Indefinite, m.Bag = false, []*x509.Certificate{c} }
			s.raw = func(b []byte) []byte {
				return []byte("-----BEGIN PKCS7-----\n" + string(b) + "\n-----END PKCS7-----\n")
			}
		},
		"its plain document beside it":                  func(s *sent) { s.beside = append(s.instance.JSON(), '\n') },
		"a member that is new":                          func(s *sent) { s.json = replace(`"version"`, `"new" : [1], "version"`) },
		"launched in 60 seconds":                        func(s *sent) { s.instance.Pending = now.Add(time.Minute) },
		"launched two days ago, which a renewal may be": func(s *sent) { s.instance.Pending = now.AddDate(0, 0, -2) },
		"a local zone":                                  func(s *sent) { s.instance.Zone = region + "-ham-1a" },
		"a wavelength zone":                             func(s *sent) { s.instance.Zone = region + "-wl1-ber-wlz-1" },
		"no IPv4 address":                               func(s *sent) { s.json = replace(`"10.0.0.5"`, "null") },
		"a product that AWS itself sells":               func(s *sent) { s.json = replace("billingProducts\" : null", "billingProducts\" : [\"bp-6ba54002\"]") },
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			s := good()
			change(&s)
			d, code := s.verify(t)
			if code != "" {
				t.Fatal(code)
			}
			f := d.Facts()
			want := document.Machine{Kind: document.MachineEC2, Name: "123456789012/eu-central-1/i-0123456789abcdef0"}
			if f.Class != document.ClassC || f.NonceBound || f.KeyBound || f.Machine != want || !f.Launched.Equal(s.instance.Pending) || !f.IssuedAt.IsZero() {
				t.Errorf("%+v", f)
			}
			if !slices.Equal(f.Owners, []document.Owner{{Kind: document.OwnerAWSAccount, Value: "123456789012"}}) || !slices.Equal(f.Anchors, []document.Anchor{want.Anchor(), {Kind: document.AnchorEC2, Value: "eu-central-1/i-0123456789abcdef0"}}) {
				t.Errorf("owners %v, anchors %v", f.Owners, f.Anchors)
			}
			if got := f.Values("ec2.availability_zone"); len(got) != 1 || got[0] != s.instance.Zone {
				t.Errorf("zone %v", got)
			}
		})
	}
}

// TestNewTrust: what cannot pin a document to a region is an error at start.
func TestNewTrust(t *testing.T) {
	one := documenttest.NewEC2(region, now).CertificatePEM()
	for name, tc := range map[string]struct {
		regions map[string][]byte
		want    string
	}{
		"a name that is no region":    {map[string][]byte{"default": one}, "not the name of a region"},
		"no certificate":              {map[string][]byte{region: []byte(" \n")}, "no certificate"},
		"no PEM":                      {map[string][]byte{region: []byte("x")}, "not a PEM certificate"},
		"something behind":            {map[string][]byte{region: append(slices.Clone(one), 'x')}, "certificate 2 is not"},
		"one for two regions":         {map[string][]byte{region: one, "eu-west-1": one}, "is that of eu-central-1 and of eu-west-1"},
		"one twice":                   {map[string][]byte{region: append(slices.Clone(one), one...)}, "is that of eu-central-1 and of eu-central-1"},
		"a block that does not parse": {map[string][]byte{region: []byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")}, "certificate 1: x509"},
		"a key that is not RSA":       {map[string][]byte{region: elliptic256(t)}, "not RSA of 2048"},
	} {
		if _, err := ec2.NewTrust(tc.regions); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	two := documenttest.NewEC2(region, now.AddDate(0, 1, 0)).CertificatePEM()
	if got, err := ec2.NewTrust(map[string][]byte{region: append(slices.Clone(one), two...)}); err != nil || got.Len() != 2 {
		t.Errorf("two of one region: %v", err)
	}
	if got, err := ec2.NewTrust(nil); err != nil || got.Len() != 0 {
		t.Errorf("none: %v", err)
	}
}

// TestLive are the answers of the cloud, row 55 among them.
func TestLive(t *testing.T) {
	s := good()
	d, code := s.verify(t)
	if code != "" {
		t.Fatal(code)
	}
	const said = `{"account_id":"123456789012","image_id":"ami-0123456789abcdef0","instance_id":"i-0123456789abcdef0","launch_time":"2026-11-20T08:58:01Z","region":"eu-central-1","state":"running","tags":{"b":"2","a":"1"}}`
	live, err := d.Live([]byte(said))
	if err != nil {
		t.Fatal(err)
	}
	if f := live.Facts(); !slices.Equal(f.Values("ec2.tag"), []string{"a=1", "b=2"}) || !slices.Equal(f.Values("ec2.state"), []string{"running"}) {
		t.Errorf("%+v", f.Selectors)
	}
	for name, change := range map[string][2]string{
		"row 55 the instance is stopped":       {`"running"`, `"stopped"`},
		"row 55 the instance is launched anew": {"08:58:01", "08:59:01"},
		"another account":                      {`"123456789012"`, `"999999999999"`},
		"another instance":                     {`"i-0`, `"i-1`},
		"another image":                        {`"ami-0`, `"ami-1`},
		"another region":                       {`"eu-central-1"`, `"eu-central-2"`},
		"no time":                              {"2026-11-20T08:58:01Z", ""},
		"a member twice":                       {`"state"`, `"state":"x","state"`},
		"a member that is new":                 {`"state"`, `"new":"x","state"`},
		"no tags":                              {`{"b":"2","a":"1"}`, `null`},
		"tags that are no text":                {`"2"`, `2`},
		"too many tags":                        {`"b":"2"`, manyTags()},
		"no JSON":                              {said, `x`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := d.Live([]byte(strings.Replace(said, change[0], change[1], 1))); reason.Of(err) != reason.EC2InstanceState {
				t.Error(err)
			}
		})
	}
	if _, err := d.Live(make([]byte, ec2.MaxInstance+1)); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("too large: %v", err)
	}
}

func manyTags() string {
	var b strings.Builder
	for i := range 50 {
		b.WriteString(`"t` + string(rune('a'+i%26)) + string(rune('a'+i/26)) + `":"",`)
	}
	return strings.TrimSuffix(b.String(), ",")
}
