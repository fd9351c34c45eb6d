package pkcs7_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/pkcs7"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestOrderOfRefusals: of two things that are wrong the earlier one is told: form,
// signers, algorithms, content, attributes, who signed, signature (test PKI).
func TestOrderOfRefusals(t *testing.T) {
	s, other := signer(0, 5), signer(1, 6)
	byKey := func(m *documenttest.Message) {
		m.SignerVersion, m.Name = 3, func([]byte) []byte { return []byte{0x80, 1, 5} }
	}
	sha1 := func(m *documenttest.Message) { m.Digest = documenttest.OIDSHA1 }
	detached := func(m *documenttest.Message) { m.Detached = true }
	typed := func(m *documenttest.Message) { m.Type = documenttest.OIDSignedData }
	bare := func(m *documenttest.Message) { m.NoAttributes = true }
	none := func(m *documenttest.Message) { m.Signers = nil }
	two := func(m *documenttest.Message) { m.Signers = append(m.Signers, other) }
	list := func(m *documenttest.Message) { m.Lists = []byte{0xa1, 0} }
	stranger := func(m *documenttest.Message) { m.Signers = []documenttest.RSASigner{other} }
	for name, c := range map[string]struct {
		change [2]func(*documenttest.Message)
		code   reason.Code
	}{
		"form, two signers":             {[2]func(*documenttest.Message){list, two}, reason.PKCS7Encoding},
		"form, detached":                {[2]func(*documenttest.Message){list, detached}, reason.PKCS7Encoding},
		"nobody signed, detached":       {[2]func(*documenttest.Message){none, detached}, reason.PKCS7SignerCount},
		"two signers, detached":         {[2]func(*documenttest.Message){two, detached}, reason.PKCS7SignerCount},
		"two signers, SHA-1":            {[2]func(*documenttest.Message){two, sha1}, reason.PKCS7SignerCount},
		"SHA-1, detached":               {[2]func(*documenttest.Message){sha1, detached}, reason.PKCS7Algorithm},
		"SHA-1, another type":           {[2]func(*documenttest.Message){sha1, typed}, reason.PKCS7Algorithm},
		"SHA-1, named by key":           {[2]func(*documenttest.Message){sha1, byKey}, reason.PKCS7Algorithm},
		"SHA-1, no attributes":          {[2]func(*documenttest.Message){sha1, bare}, reason.PKCS7Algorithm},
		"detached, no attributes":       {[2]func(*documenttest.Message){detached, bare}, reason.PKCS7Content},
		"another type, no attributes":   {[2]func(*documenttest.Message){typed, bare}, reason.PKCS7Content},
		"detached, named by key":        {[2]func(*documenttest.Message){detached, byKey}, reason.PKCS7Content},
		"no attributes, named by key":   {[2]func(*documenttest.Message){bare, byKey}, reason.PKCS7Attributes},
		"no attributes, from elsewhere": {[2]func(*documenttest.Message){bare, stranger}, reason.PKCS7Attributes},
		"named by key":                  {[2]func(*documenttest.Message){byKey, unchanged}, reason.PKCS7SignerUnknown},
		"from elsewhere":                {[2]func(*documenttest.Message){stranger, unchanged}, reason.PKCS7SignerUnknown},
	} {
		m := documenttest.Message{Content: content, Signers: []documenttest.RSASigner{s}}
		for _, change := range c.change {
			change(&m)
		}
		claimed, err := pkcs7.Parse(documenttest.PKCS7(m), strict)
		if err == nil {
			_, err = claimed.VerifiedBy(s.Certificate)
		}
		if reason.Of(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}
