package nitro_test

import (
	"testing"

	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/nitro"
)

// FuzzVerify: no input panics or reserves what it claims, and none is taken that a
// stranger can make: the root signed nothing of it.
func FuzzVerify(f *testing.F) {
	l, other := newLab(f), newLab(f)
	for _, fields := range []documenttest.NitroFields{{}, {Instance: true}, {Nonce: nonce}, {Message: func(m *documenttest.Sign1) { m.Tag = true }}} {
		f.Add(l.document(f, fields), fields.Instance)
	}
	f.Fuzz(func(t *testing.T, b []byte, instance bool) {
		want := nitro.Expectation{Type: nitro.Enclave}
		if instance {
			want.Type = nitro.Instance
		}
		evidencetest.Bounded(t, len(b), 600, func() {
			if _, err := nitro.Verify(b, want, other.trust, noon); err == nil {
				t.Error("taken")
			}
		})
	})
}

// FuzzContent signs what the fuzzer makes as AWS would: no content panics, and what
// is taken has the form of a document.
func FuzzContent(f *testing.F) {
	l := newLab(f)
	leaf, err := l.Issuer[len(l.Issuer)-1].Issue(l.Leaf(documenttest.NitroModule), p384)
	must(f, err)
	var seed []byte
	_, err = l.Document(documenttest.NitroFields{Signer: leaf, Nonce: nonce, Payload: func(p []byte) []byte { seed = p; return p }})
	must(f, err)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > nitro.MaxDocument {
			return
		}
		raw := documenttest.Sign1{Payload: payload, Key: leaf.Key}.Bytes()
		d, err := nitro.Verify(raw, nitro.Expectation{}, l.trust, noon)
		if err != nil {
			return
		}
		facts := d.Facts()
		if d.ModuleID() != documenttest.NitroModule || len(d.PCR(0)) != nitro.PCRSize || facts.Class != "C" || len(d.Nonce()) > nitro.MaxField {
			t.Errorf("taken: %+v", d)
		}
	})
}
