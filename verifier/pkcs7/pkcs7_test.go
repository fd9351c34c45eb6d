package pkcs7_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

var content = []byte(`{"a": "b"}`)

// signer has one name and one serial number for every key: only the key tells two
// of them apart.
func signer(key int, serial int64) documenttest.RSASigner {
	return documenttest.Certify(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "signer"}}, documenttest.RSAKey(key), nil, noon)
}

func verify(m documenttest.Message, p pkcs7.Profile, trusted ...*x509.Certificate) (pkcs7.Message, error) {
	return verifyRaw(documenttest.PKCS7(m), p, trusted...)
}

func verifyRaw(raw []byte, p pkcs7.Profile, trusted ...*x509.Certificate) (pkcs7.Message, error) {
	c, err := pkcs7.Parse(raw, p)
	if err != nil {
		return pkcs7.Message{}, err
	}
	return c.VerifiedBy(trusted...)
}

var (
	strict = pkcs7.Profile{}
	ber    = pkcs7.Profile{BER: true}
	azure  = pkcs7.Profile{NoAttributes: true, DigestWithRSA: true}
)

func TestAccepted(t *testing.T) {
	s := signer(0, 0x80_0000_0000_0001)
	for name, tc := range map[string]struct {
		change func(m *documenttest.Message)
		form   pkcs7.Profile
	}{
		"DER":                            {func(*documenttest.Message) {}, strict},
		"DER where BER is allowed":       {func(*documenttest.Message) {}, ber},
		"open lengths":                   {func(m *documenttest.Message) { m.Indefinite = true }, ber},
		"the certificate embedded":       {func(m *documenttest.Message) { m.Bag = []*x509.Certificate{s.Certificate} }, strict},
		"a stranger's certificate too":   {func(m *documenttest.Message) { m.Bag = []*x509.Certificate{signer(1, 9).Certificate} }, strict},
		"the algorithm with its digest":  {func(m *documenttest.Message) { m.Algorithm = documenttest.OIDSHA256WithRSA }, strict},
		"no attributes, where allowed":   {func(m *documenttest.Message) { m.NoAttributes = true }, azure},
		"attributes, where not needed":   {func(*documenttest.Message) {}, azure},
		"the digest named by its cipher": {func(m *documenttest.Message) { m.Digest = documenttest.OIDSHA256WithRSA }, azure},
		"an attribute that says nothing": {func(m *documenttest.Message) {
			m.Attributes = func(list []documenttest.Attribute) []documenttest.Attribute {
				return append(list, documenttest.Attribute{ID: asn1.ObjectIdentifier{1, 2, 3}, Values: []byte{5, 0}})
			}
		}, strict},
	} {
		t.Run(name, func(t *testing.T) {
			m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}}
			tc.change(&m)
			got, err := verify(m, tc.form, signer(1, 4).Certificate, s.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Content(), content) || got.Signer() != s.Certificate {
				t.Errorf("%q by %v", got.Content(), got.Signer())
			}
		})
	}
}

// row is a message of which one thing is wrong.
type row struct {
	name   string
	change func(m *documenttest.Message)
	form   pkcs7.Profile
	code   reason.Code
}

func attributes(change func(list []documenttest.Attribute) []documenttest.Attribute) func(m *documenttest.Message) {
	return func(m *documenttest.Message) { m.Attributes = change }
}

func replaced(i int, values []byte) func(m *documenttest.Message) {
	return attributes(func(list []documenttest.Attribute) []documenttest.Attribute {
		list[i].Values = values
		return list
	})
}

func without(i int) func(m *documenttest.Message) {
	return attributes(func(list []documenttest.Attribute) []documenttest.Attribute {
		return append(list[:i:i], list[i+1:]...)
	})
}

func refusals(s, evil, twin documenttest.RSASigner) []row {
	type message = documenttest.Message
	twice := attributes(func(list []documenttest.Attribute) []documenttest.Attribute { return append(list, list[2]) })
	return []row{
		{"row 34 attacker certificate embedded, same name", func(m *message) {
			m.Signers, m.Bag = []documenttest.RSASigner{evil}, []*x509.Certificate{evil.Certificate}
		}, strict, reason.PKCS7SignerUnknown},
		{"row 34 the same with the serial number of the pinned one", func(m *message) {
			m.Signers, m.Bag = []documenttest.RSASigner{twin}, []*x509.Certificate{twin.Certificate}
		}, strict, reason.PKCS7SignerUnknown},
		{"row 35 attacker signs, the genuine certificate is in the bag", func(m *message) {
			m.Signers, m.Bag = []documenttest.RSASigner{evil}, []*x509.Certificate{s.Certificate, evil.Certificate}
		}, strict, reason.PKCS7SignerUnknown},
		{"row 35 attacker signs under the genuine name", func(m *message) {
			m.Signers, m.Bag = []documenttest.RSASigner{twin}, []*x509.Certificate{s.Certificate}
		}, strict, reason.PKCS7Signature},
		{"row 35 both in the bag under one name", func(m *message) {
			m.Bag = []*x509.Certificate{s.Certificate, twin.Certificate}
		}, strict, reason.PKCS7SignerUnknown},
		{"row 36 no signed attributes", func(m *message) { m.NoAttributes = true }, strict, reason.PKCS7Attributes},
		{"row 37 SHA-1", func(m *message) { m.Digest = documenttest.OIDSHA1 }, strict, reason.PKCS7Algorithm},
		{"row 38 two signers", func(m *message) { m.Signers = []documenttest.RSASigner{s, evil} }, strict, reason.PKCS7SignerCount},
		{"row 38 the same signer twice", func(m *message) { m.Signers = []documenttest.RSASigner{s, s} }, strict, reason.PKCS7SignerCount},
		{"row 39 no signer", func(m *message) { m.Signers = nil }, strict, reason.PKCS7SignerCount},
		{"row 40 detached", func(m *message) { m.Detached = true }, strict, reason.PKCS7Content},
		{"row 42 another type of content", func(m *message) { m.Type = documenttest.OIDSignedData }, strict, reason.PKCS7Content},
		{"no content", func(m *message) { m.Content = nil }, strict, reason.PKCS7Content},
		{"open lengths where DER is wanted", func(m *message) { m.Indefinite = true }, strict, reason.PKCS7Encoding},
		{"another version", func(m *message) { m.Version = 3 }, strict, reason.PKCS7Encoding},
		{"a revocation list", func(m *message) { m.Lists = []byte{0xa1, 0} }, strict, reason.PKCS7Encoding},
		{"an attribute that nobody signed", func(m *message) { m.Unsigned = []byte{0xa1, 0} }, strict, reason.PKCS7Encoding},
		{"nine certificates", func(m *message) {
			for range 9 {
				m.Bag = append(m.Bag, s.Certificate)
			}
		}, strict, reason.RequestTooLarge},
		{"a certificate that does not parse", func(m *message) {
			m.Bag = []*x509.Certificate{{Raw: []byte{0x30, 0}}}
		}, strict, reason.PKCS7Encoding},
		{"no certificate in the bag of certificates", func(m *message) {
			m.Bag = []*x509.Certificate{{Raw: []byte{5, 0}}}
		}, strict, reason.PKCS7Encoding},
		{"a certificate of 9 KiB", func(m *message) {
			m.Bag = []*x509.Certificate{{Raw: append([]byte{0x30, 0x82, 0x24, 0x00}, make([]byte, 0x2400)...)}}
		}, strict, reason.RequestTooLarge},
		{"the digest named by its cipher", func(m *message) { m.Digest = documenttest.OIDSHA256WithRSA }, strict, reason.PKCS7Algorithm},
		{"RSA-PSS", func(m *message) { m.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10} }, strict, reason.PKCS7Algorithm},
		{"a signer named by key identifier", func(m *message) {
			m.SignerVersion, m.Name = 3, func([]byte) []byte { return []byte{0x80, 1, 5} }
		}, strict, reason.PKCS7SignerUnknown},
		{"the same in another version", func(m *message) {
			m.Name = func([]byte) []byte { return []byte{0x80, 1, 5} }
		}, strict, reason.PKCS7Encoding},
		{"another version of the signer", func(m *message) { m.SignerVersion = 3 }, strict, reason.PKCS7Encoding},
		{"a signer without a serial number", func(m *message) {
			m.Name = func([]byte) []byte {
				return append([]byte{0x30, byte(len(s.Certificate.RawIssuer))}, s.Certificate.RawIssuer...)
			}
		}, strict, reason.PKCS7Encoding},
		{"content type missing", without(0), strict, reason.PKCS7Attributes},
		{"message digest missing", without(2), strict, reason.PKCS7Attributes},
		{"message digest twice", twice, strict, reason.PKCS7Attributes},
		{"another content type signed", replaced(0, []byte{6, 1, 0x2a}), strict, reason.PKCS7Attributes},
		{"two values of content type", replaced(0, append(data(), data()...)), strict, reason.PKCS7Attributes},
		{"a short message digest", replaced(2, []byte{4, 1, 0}), strict, reason.PKCS7Attributes},
		{"another message digest", replaced(2, append([]byte{4, 32}, make([]byte, 32)...)), strict, reason.PKCS7Signature},
		{"content that reads as attributes", func(m *message) {
			m.NoAttributes, m.Content = true, []byte{0x31, 0}
		}, azure, reason.PKCS7Attributes},
	}
}

func data() []byte { return []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1} }

func TestRefused(t *testing.T) {
	s := signer(0, 5)
	for _, tc := range refusals(s, signer(1, 6), signer(1, 5)) {
		t.Run(tc.name+" (test PKI)", func(t *testing.T) {
			m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}}
			tc.change(&m)
			got, err := verify(m, tc.form, s.Certificate)
			if reason.Of(err) != tc.code || got.Signer() != nil {
				t.Errorf("want %s, got %v", tc.code, err)
			}
		})
	}
}

// TestBytes are messages of which the bytes are changed after signing.
func TestBytes(t *testing.T) {
	s := signer(0, 5)
	good := documenttest.PKCS7(documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}})
	open := documenttest.PKCS7(documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}, Indefinite: true})
	swap := func(raw []byte, old, by string) []byte { return bytes.Replace(raw, []byte(old), []byte(by), 1) }
	for _, tc := range []struct {
		name string
		raw  []byte
		form pkcs7.Profile
		code reason.Code
	}{
		{"row 50 content flip", swap(good, `"b"`, `"c"`), strict, reason.PKCS7Signature},
		{"row 50 content flip, open lengths", swap(open, `"a"`, `"c"`), ber, reason.PKCS7Signature},
		{"row 50 signature flip", append(append([]byte{}, good[:len(good)-1]...), good[len(good)-1]^1), strict, reason.PKCS7Signature},
		{"row 51 trailing DER", append(append([]byte{}, good...), 5, 0), strict, reason.PKCS7Encoding},
		{"row 51 trailing DER, BER allowed", append(append([]byte{}, good...), 5, 0), ber, reason.PKCS7Encoding},
		{"row 51 end of contents too often", append(append([]byte{}, open...), 0, 0), ber, reason.PKCS7Encoding},
		{"cut short", good[:len(good)-1], strict, reason.PKCS7Encoding},
		{"cut short, BER allowed", good[:len(good)-1], ber, reason.PKCS7Encoding},
		{"open and cut short", open[:len(open)-2], ber, reason.PKCS7Encoding},
		{"empty", nil, strict, reason.PKCS7Encoding},
		{"empty, BER allowed", nil, ber, reason.PKCS7Encoding},
		{"an open primitive", []byte{0x30, 0x80, 0x04, 0x80, 0, 0, 0, 0}, ber, reason.PKCS7Encoding},
		{"a length with leading zeros", []byte{0x30, 0x82, 0, 2, 5, 0}, ber, reason.PKCS7Encoding},
		{"a length of four bytes", []byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, ber, reason.PKCS7Encoding},
		{"a length of one byte that needs none", []byte{0x30, 0x81, 2, 5, 0}, ber, reason.PKCS7Encoding},
		{"a tag above 30", []byte{0x3f, 0x81, 0x01, 0}, ber, reason.PKCS7Encoding},
		{"pieces of pieces", []byte{0x24, 0x80, 0x24, 0x80, 0x04, 0, 0, 0, 0, 0}, ber, reason.PKCS7Encoding},
		{"a piece that is no octet string", []byte{0x24, 2, 5, 0}, ber, reason.PKCS7Encoding},
		{"nested without end", bytes.Repeat([]byte{0x30, 0x80}, 8000), ber, reason.PKCS7Encoding},
		{"a byte too many", make([]byte, pkcs7.MaxText+1), strict, reason.RequestTooLarge},
	} {
		t.Run(tc.name+" (test PKI)", func(t *testing.T) {
			if _, err := verifyRaw(tc.raw, tc.form, s.Certificate); reason.Of(err) != tc.code {
				t.Errorf("want %s, got %v", tc.code, err)
			}
		})
	}
	for name, raw := range map[string][]byte{"DER": good, "open lengths": open} {
		if _, err := verifyRaw(raw, ber, s.Certificate); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecode(t *testing.T) {
	der := documenttest.PKCS7(documenttest.Message{Content: content, Signers: []documenttest.RSASigner{signer(0, 5)}})
	text := base64.StdEncoding.EncodeToString(der)
	lines := string(documenttest.Base64Lines(der))
	for name, raw := range map[string]string{
		"DER": string(der), "base64": text, "base64 in lines": lines + "\n", "base64 in lines of DOS": strings.ReplaceAll(lines, "\n", "\r\n"),
		"PEM": "-----BEGIN PKCS7-----\n" + lines + "\n-----END PKCS7-----\n", "PEM of CMS": "-----BEGIN CMS-----\n" + lines + "\n-----END CMS-----",
	} {
		if got, err := pkcs7.Decode([]byte(raw)); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, raw := range map[string]string{
		"empty": "", "blank": " \n", "no base64": "%%%%", "base64 with a blank within": text[:4] + " " + text[4:],
		"bits behind the last byte": "MB==", "without padding": "MA",
		"another PEM":           "-----BEGIN CERTIFICATE-----\n" + lines + "\n-----END CERTIFICATE-----",
		"two PEM":               strings.Repeat("-----BEGIN PKCS7-----\n"+lines+"\n-----END PKCS7-----\n", 2),
		"a PEM header":          "-----BEGIN PKCS7-----\nA: b\n\n" + lines + "\n-----END PKCS7-----",
		"PEM that does not end": "-----BEGIN PKCS7-----\n" + lines, "something before it": "x\n-----BEGIN PKCS7-----\n" + lines + "\n-----END PKCS7-----",
		"mixed": "-----BEGIN PKCS7-----\n" + lines + "\n-----END CMS-----",
	} {
		if got, err := pkcs7.Decode([]byte(raw)); reason.Of(err) != reason.PKCS7Encoding {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
	if _, err := pkcs7.Decode(make([]byte, pkcs7.MaxText+1)); reason.Of(err) != reason.RequestTooLarge {
		t.Errorf("a byte too many: %v", err)
	}
}

// TestKeysOfSigners: a trusted certificate whose key is weak or of another kind
// verifies nothing.
func TestKeysOfSigners(t *testing.T) {
	s := signer(0, 5)
	weak := *s.Certificate
	pub := documenttest.RSAKey(0).PublicKey
	pub.N = new(big.Int).Rsh(pub.N, 1)
	weak.PublicKey = &pub
	elliptic := *s.Certificate
	elliptic.PublicKey = documenttest.ECKey(curve()).Public()
	m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}}
	for name, cert := range map[string]*x509.Certificate{"RSA of 2047 bits": &weak, "P-256": &elliptic} {
		if _, err := verify(m, strict, cert); reason.Of(err) != reason.PKCS7Algorithm {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := verify(m, strict); reason.Of(err) != reason.PKCS7SignerUnknown {
		t.Errorf("nobody trusted: %v", err)
	}
}

func TestCandidate(t *testing.T) {
	s, other, twin := signer(0, 5), signer(1, 6), signer(1, 5)
	parse := func(bag ...*x509.Certificate) pkcs7.Claimed {
		t.Helper()
		c, err := pkcs7.Parse(documenttest.PKCS7(documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}, Bag: bag}), strict)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := parse(other.Certificate, s.Certificate)
	if got, err := c.Candidate(); err != nil || !got.Equal(s.Certificate) {
		t.Errorf("%v, %v", got, err)
	}
	if got := c.Others(); len(got) != 1 || !got[0].Equal(other.Certificate) {
		t.Errorf("%v", got)
	}
	for name, c := range map[string]pkcs7.Claimed{"none": parse(other.Certificate), "two": parse(s.Certificate, twin.Certificate)} {
		if _, err := c.Candidate(); reason.Of(err) != reason.PKCS7SignerUnknown {
			t.Errorf("%s: %v", name, err)
		}
	}
}
