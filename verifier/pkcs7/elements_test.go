package pkcs7_test

import (
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// element is one element of a message and what it holds.
type element struct {
	tag  byte
	body []byte // of a primitive
	kids []*element
}

func elements(t *testing.T, raw []byte) []*element {
	t.Helper()
	var out []*element
	for len(raw) > 0 {
		n, head := int(raw[1]), 2
		switch raw[1] {
		case 0x81:
			n, head = int(raw[2]), 3
		case 0x82:
			n, head = int(raw[2])<<8|int(raw[3]), 4
		}
		e := &element{tag: raw[0], body: raw[head : head+n]}
		if e.tag&0x20 != 0 {
			e.kids = elements(t, e.body)
		}
		out, raw = append(out, e), raw[head+n:]
	}
	return out
}

// at follows a path of positions from the message down.
func (e *element) at(path ...int) *element {
	for _, i := range path {
		e = e.kids[i]
	}
	return e
}

// length writes a length in the form in which a message has it.
type length func(tag byte, n int) []byte

func shortest(_ byte, n int) []byte {
	switch {
	case n < 0x80:
		return []byte{byte(n)}
	case n < 0x100:
		return []byte{0x81, byte(n)}
	}
	return []byte{0x82, byte(n >> 8), byte(n)}
}

// open writes every constructed element without its length.
func open(tag byte, n int) []byte {
	if tag&0x20 != 0 {
		return []byte{0x80}
	}
	return shortest(tag, n)
}

func (e *element) encode(l length) []byte {
	body := e.body
	if e.tag&0x20 != 0 {
		body = nil
		for _, k := range e.kids {
			body = append(body, k.encode(l)...)
		}
	}
	head := l(e.tag, len(body))
	if head[0] == 0x80 {
		body = append(body, 0, 0)
	}
	return append(append([]byte{e.tag}, head...), body...)
}

// example is a message with its signer's certificate in it.
func example(t *testing.T, change func(m *documenttest.Message)) *element {
	t.Helper()
	s := signer(0, 5)
	m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}, Bag: []*x509.Certificate{s.Certificate}}
	change(&m)
	return elements(t, documenttest.PKCS7(m))[0]
}

func unchanged(*documenttest.Message) {}

// elementCodes are the codes of a message in which the element at a path, or one
// below it, is changed, where that is not pkcs7.encoding; the longest path holds.
// Paths go by position: 0 is SignedData, below it 1 digests, 2 content, 3
// certificates and 4 signers.
var elementCodes = map[string]reason.Code{
	"/1/0/1/0":              reason.PKCS7Algorithm,
	"/1/0/1/0/0":            reason.PKCS7Algorithm,
	"/1/0/1/0/1":            reason.PKCS7Algorithm,
	"/1/0/1/0 behind":       reason.PKCS7Algorithm,
	"/1/0/1/0/0 gone":       reason.PKCS7Algorithm,
	"/1/0/1 behind":         reason.PKCS7Algorithm,
	"/1/0/1/0 gone":         reason.PKCS7Algorithm,
	"/1/0/1/0/1 gone":       "", // NULL or nothing
	"/1/0/2/1/0":            reason.PKCS7Content,
	"/1/0/2/1 gone":         reason.PKCS7Content,
	"/1/0/2/1 behind":       reason.PKCS7Content,
	"/1/0/3 gone":           "", // nobody needs the certificate
	"/1/0/3/0 gone":         "",
	"/1/0/4/0 gone":         reason.PKCS7SignerCount,
	"/1/0/4/0/2/0":          reason.PKCS7Algorithm,
	"/1/0/4/0/2/1":          reason.PKCS7Algorithm,
	"/1/0/4/0/2 behind":     reason.PKCS7Algorithm,
	"/1/0/4/0/2/1 gone":     "",
	"/1/0/4/0/3 gone":       reason.PKCS7Attributes,
	"/1/0/4/0/3/0 gone":     reason.PKCS7Attributes,
	"/1/0/4/0/3/1 gone":     reason.PKCS7Signature, // signingTime says nothing, but is signed
	"/1/0/4/0/3/2 gone":     reason.PKCS7Attributes,
	"/1/0/4/0/3/0/1/0":      reason.PKCS7Attributes,
	"/1/0/4/0/3/1/1/0":      reason.PKCS7Signature,
	"/1/0/4/0/3/2/1/0":      reason.PKCS7Attributes,
	"/1/0/4/0/4/0":          reason.PKCS7Algorithm,
	"/1/0/4/0/4/1":          reason.PKCS7Algorithm,
	"/1/0/4/0/4 behind":     reason.PKCS7Algorithm,
	"/1/0/4/0/4/1 gone":     "",
	"/1/0/4/0/3/0/1 behind": reason.PKCS7Attributes,
	"/1/0/4/0/3/1/1 behind": reason.PKCS7Signature,
	"/1/0/4/0/3/2/1 behind": reason.PKCS7Attributes,
}

func elementCode(path, change string) reason.Code {
	if code, ok := elementCodes[path+" "+change]; ok {
		return code
	}
	if code, ok := elementCodes[path]; ok {
		return code
	}
	return reason.PKCS7Encoding
}

// TestElements changes every element of a message beside what stands inside its
// certificate and its signer's name: the tag is that of another type, an element
// more follows inside, it is not there. Most of them no signature covers: where
// one is read past, two readers of one message see two messages, and one message
// has many forms.
func TestElements(t *testing.T) {
	root, s := example(t, unchanged), signer(0, 5)
	try := func(path, change string) {
		t.Helper()
		for name, form := range map[string]struct {
			l length
			p pkcs7.Profile
		}{"DER": {shortest, strict}, "open lengths": {open, ber}} {
			if _, err := verifyRaw(root.encode(form.l), form.p, s.Certificate); reason.Of(err) != elementCode(path, change) {
				t.Errorf("%s %s, %s: want %q, got %v", path, change, name, elementCode(path, change), err)
			}
		}
	}
	var walk func(e *element, path string)
	walk = func(e *element, path string) {
		e.tag ^= 1
		try(path, "retagged")
		e.tag ^= 1
		kids := e.kids
		if kids == nil || path == "/1/0/3/0" || path == "/1/0/4/0/1/0" {
			return
		}
		e.kids = append(kids[:len(kids):len(kids)], &element{tag: 5})
		try(path, "behind")
		for i := range kids {
			e.kids = append(kids[:i:i], kids[i+1:]...)
			try(fmt.Sprintf("%s/%d", path, i), "gone")
		}
		e.kids = kids
		for i, k := range kids {
			walk(k, fmt.Sprintf("%s/%d", path, i))
		}
	}
	walk(root, "")
	if t.Failed() {
		return
	}
	if _, err := verifyRaw(root.encode(shortest), strict, s.Certificate); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestOuterType: what is not SignedData has other members at the same places.
func TestOuterType(t *testing.T) {
	root, s := example(t, unchanged), signer(0, 5)
	id := root.at(0)
	id.body = append(id.body[:len(id.body)-1:len(id.body)-1], 3) // envelopedData
	if _, err := verifyRaw(root.encode(shortest), strict, s.Certificate); reason.Of(err) != reason.PKCS7Encoding {
		t.Errorf("want pkcs7.encoding, got %v", err)
	}
}
