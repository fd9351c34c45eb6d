package pkcs7_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// saying appends a signed attribute that nobody reads.
func saying(values []byte) func(m *documenttest.Message) {
	return attributes(func(list []documenttest.Attribute) []documenttest.Attribute {
		return append(list, documenttest.Attribute{ID: asn1.ObjectIdentifier{1, 2, 3}, Values: values})
	})
}

// nested is n sequences, each in the one before.
func nested(n int) []byte {
	var out []byte
	for range n {
		out = append([]byte{0x30, byte(len(out))}, out...)
	}
	return out
}

// TestUnread: what stands in an attribute that nobody reads is held to the same
// grammar. Nesting without a bound costs a copy of the message for every level.
func TestUnread(t *testing.T) {
	s := signer(0, 5)
	for _, tc := range []struct {
		name   string
		values []byte
		code   reason.Code
	}{
		{"128 bytes", append([]byte{0x04, 0x81, 0x80}, make([]byte, 128)...), ""},
		{"nested as deep as may be", nested(16), ""},
		{"nested one deeper", nested(17), reason.PKCS7Encoding},
		{"a tag above 30", []byte{0x1f, 1, 0}, reason.PKCS7Encoding},
		{"an end of contents where nothing is open", []byte{0, 0}, reason.PKCS7Encoding},
		{"a sequence that an end of contents cuts short", []byte{0x30, 4, 0, 0, 5, 0}, reason.PKCS7Encoding},
		{"a piece that reaches behind its string", []byte{0x24, 2, 0x04, 1, 5, 0}, reason.PKCS7Encoding},
	} {
		t.Run(tc.name+" (test PKI)", func(t *testing.T) {
			m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}}
			saying(tc.values)(&m)
			if _, err := verify(m, ber, s.Certificate); reason.Of(err) != tc.code {
				t.Errorf("want %q, got %v", tc.code, err)
			}
		})
	}
}

// TestLengthForms: one length has one form, so that one message has one too.
func TestLengthForms(t *testing.T) {
	s := signer(0, 5)
	root := example(t, saying(append([]byte{0x04, 0x81, 0x90}, make([]byte, 0x90)...)))
	for name, tc := range map[string]struct {
		from int // lengths of this many bytes of their own
		form func(n int) []byte
	}{
		"of one byte, in two":               {0, func(n int) []byte { return []byte{0x81, byte(n)} }},
		"of one byte, in three":             {1, func(n int) []byte { return []byte{0x82, 0, byte(n)} }},
		"of two bytes, in three":            {2, func(n int) []byte { return []byte{0x83, byte(n >> 8), byte(n)} }},
		"of one byte, by a count that lies": {1, func(n int) []byte { return []byte{0x83, byte(n)} }},
		"of two bytes, in another count":    {2, func(n int) []byte { return []byte{0x85, byte(n >> 8), byte(n)} }},
		"of one byte, by a count of two":    {1, func(n int) []byte { return []byte{0x82, byte(n)} }},
		"of one byte, in the reserved form": {1, func(int) []byte { return []byte{0xff} }},
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			other := func(tag byte, n int) []byte {
				if form := shortest(tag, n); len(form)-1 != tc.from {
					return form
				}
				return tc.form(n)
			}
			if _, err := verifyRaw(root.encode(other), ber, s.Certificate); reason.Of(err) != reason.PKCS7Encoding {
				t.Errorf("want pkcs7.encoding, got %v", err)
			}
		})
	}
	if _, err := verifyRaw(root.encode(shortest), ber, s.Certificate); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestEnds are messages that end inside a header, or behind their end: a length
// that is believed reads behind what was sent.
func TestEnds(t *testing.T) {
	root := example(t, unchanged)
	end := func(b ...byte) []byte { raw := root.encode(open); return append(raw[:len(raw)-2:len(raw)-2], b...) }
	ended := func(path ...int) []byte {
		root := example(t, unchanged)
		e := root.at(path...)
		e.kids = append(e.kids, &element{tag: 0}, &element{tag: 5})
		return root.encode(shortest)
	}
	for name, raw := range map[string][]byte{
		"nothing behind 81":                    {0x30, 0x81},
		"nothing behind 82":                    {0x30, 0x82},
		"one byte behind 82":                   {0x30, 0x82, 1},
		"an open piece":                        {0x24, 0x80, 0x04, 0x80, 0, 0, 0, 0},
		"a piece longer than the message":      {0x24, 0x80, 0x04, 0x7f, 0},
		"an end of contents with a length":     end(0, 1),
		"an end of contents with another tag":  end(5, 0),
		"half an end of contents":              end(0),
		"an end of contents in the message":    ended(),
		"an end of contents in SignedData":     ended(1, 0),
		"an end of contents among the signers": ended(1, 0, 4),
	} {
		t.Run(name+" (test PKI)", func(t *testing.T) {
			if _, err := pkcs7.Parse(raw[:len(raw):len(raw)], ber); reason.Of(err) != reason.PKCS7Encoding {
				t.Errorf("want pkcs7.encoding, got %v", err)
			}
		})
	}
}

// TestPieces: an octet string may come in pieces of its own kind alone.
func TestPieces(t *testing.T) {
	s := signer(0, 5)
	for name, tc := range map[string]struct {
		tag  byte
		code reason.Code
	}{"octets": {0x04, ""}, "bits": {0x03, reason.PKCS7Encoding}, "nothing at all": {0x05, reason.PKCS7Encoding}} {
		root := example(t, unchanged)
		whole := root.at(1, 0, 2, 1, 0)
		half := len(whole.body) / 2
		*whole = element{tag: 0x24, kids: []*element{{tag: 0x04, body: whole.body[:half]}, {tag: tc.tag, body: whole.body[half:]}}}
		if _, err := verifyRaw(root.encode(open), ber, s.Certificate); reason.Of(err) != tc.code {
			t.Errorf("%s: want %q, got %v", name, tc.code, err)
		}
	}
}

// TestNull: the parameters of an algorithm are nothing, and nothing is inside.
func TestNull(t *testing.T) {
	s := signer(0, 5)
	for _, path := range [][]int{{1, 0, 1, 0, 1}, {1, 0, 4, 0, 2, 1}, {1, 0, 4, 0, 4, 1}} {
		root := example(t, unchanged)
		root.at(path...).body = []byte{0}
		if _, err := verifyRaw(root.encode(shortest), strict, s.Certificate); reason.Of(err) != reason.PKCS7Algorithm {
			t.Errorf("%v: %v", path, err)
		}
	}
}

// TestLimits: what has the size of a limit passes, and a byte more does not.
func TestLimits(t *testing.T) {
	s := signer(0, 5)
	m := documenttest.Message{Content: make([]byte, 30<<10), Signers: []documenttest.RSASigner{s}}
	m.Content = make([]byte, len(m.Content)+pkcs7.MaxText-len(documenttest.PKCS7(m)))
	raw := documenttest.PKCS7(m)
	if _, err := verifyRaw(raw, ber, s.Certificate); err != nil || len(raw) != pkcs7.MaxText {
		t.Errorf("a message of %d bytes: %v", len(raw), err)
	}
	text := append(bytes.Repeat([]byte(" "), pkcs7.MaxText-4), base64.StdEncoding.EncodeToString([]byte{0x30, 0, 0})...)
	if got, err := pkcs7.Decode(text); err != nil || len(got) != 3 {
		t.Errorf("a text of %d bytes: %x, %v", len(text), got, err)
	}
	m = documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}}
	for name, tc := range map[string]struct {
		bag  []*x509.Certificate
		code reason.Code
	}{
		"eight certificates":                    {slices.Repeat([]*x509.Certificate{s.Certificate}, 8), ""},
		"a certificate of 8 KiB":                {[]*x509.Certificate{padded(t, pkcs7.MaxCertificate)}, ""},
		"a certificate of 8 KiB and a byte":     {[]*x509.Certificate{padded(t, pkcs7.MaxCertificate+1)}, reason.RequestTooLarge},
		"a certificate with a key of 8192 bits": {[]*x509.Certificate{wide(t)}, reason.RequestTooLarge},
	} {
		m.Bag = tc.bag
		if _, err := verify(m, strict, s.Certificate); reason.Of(err) != tc.code {
			t.Errorf("%s: want %q, got %v", name, tc.code, err)
		}
	}
}

// padded is a certificate of size bytes.
func padded(t *testing.T, size int) *x509.Certificate {
	t.Helper()
	issue := func(n int) *x509.Certificate {
		return documenttest.Certify(&x509.Certificate{
			SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "padded"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, n)}},
		}, documenttest.RSAKey(1), nil, noon).Certificate
	}
	c := issue(size / 2)
	c = issue(size/2 + size - len(c.Raw))
	if len(c.Raw) != size {
		t.Fatalf("%d bytes", len(c.Raw))
	}
	return c
}

// wide is a certificate whose subject key has 8192 bits: its verification under a
// chain costs milliseconds, and so does its mere parsing.
func wide(t *testing.T) *x509.Certificate {
	t.Helper()
	root := elements(t, signer(1, 9).Certificate.Raw)[0]
	bits := root.at(0, 6, 1)
	key := elements(t, bits.body[1:])[0]
	key.at(0).body = append([]byte{0}, bytes.Repeat([]byte{0xff}, 1024)...)
	bits.body = append([]byte{0}, key.encode(shortest)...)
	return &x509.Certificate{Raw: root.encode(shortest)}
}

// TestSameSerialNumber: a serial number is its issuer's, so that a trusted
// certificate of another issuer is not the signer's.
func TestSameSerialNumber(t *testing.T) {
	s := signer(0, 5)
	other := documenttest.Certify(&x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "another issuer"}}, documenttest.RSAKey(1), nil, noon)
	m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}, Bag: []*x509.Certificate{other.Certificate}}
	if got, err := verify(m, strict, other.Certificate, s.Certificate); err != nil || got.Signer() != s.Certificate {
		t.Errorf("%v, %v", got.Signer(), err)
	}
	if _, err := verify(m, strict, other.Certificate); reason.Of(err) != reason.PKCS7SignerUnknown {
		t.Errorf("want pkcs7.signer_unknown, got %v", err)
	}
}
