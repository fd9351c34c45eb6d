package verifier_test

import (
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestNitroItems: the binding is the nonce, and neither format takes the other's
// document.
func TestNitroItems(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pki, err := documenttest.NewNitroPKI(now)
	if err != nil {
		t.Fatal(err)
	}
	documents, err := verifier.NewDocuments([]verifier.TrustObject{{Kind: verifier.TrustNitro, Name: "g1", Raw: pki.RootPEM()}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.NewDocuments([]verifier.TrustObject{{Kind: verifier.TrustNitro, Name: "g1", Raw: []byte("x")}}); err == nil {
		t.Error("what is no root is taken")
	}
	trust := &documents
	bound := [32]byte{1, 2, 3}
	for name, tc := range map[string]struct {
		format   string
		instance bool
		nonce    []byte
		parts    map[string][]byte
		want     reason.Code
	}{
		"enclave":               {verifier.FormatNitro, false, bound[:], nil, ""},
		"instance":              {verifier.FormatNitroTPM, true, bound[:], nil, ""},
		"enclave as instance":   {verifier.FormatNitroTPM, false, bound[:], nil, reason.NitroType},
		"instance as enclave":   {verifier.FormatNitro, true, bound[:], nil, reason.NitroType},
		"without a nonce":       {verifier.FormatNitro, false, nil, nil, reason.NitroNonceMismatch},
		"half of the nonce":     {verifier.FormatNitro, false, bound[:16], nil, reason.NitroNonceMismatch},
		"with a part":           {verifier.FormatNitro, false, bound[:], map[string][]byte{"x": nil}, reason.RequestMalformed},
		"with a part, instance": {verifier.FormatNitroTPM, true, bound[:], map[string][]byte{"x": nil}, reason.RequestMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := pki.Document(documenttest.NitroFields{Instance: tc.instance, Nonce: tc.nonce})
			if err != nil {
				t.Fatal(err)
			}
			f, err := verifier.JudgeItem(&verifier.Item{Format: tc.format, Document: raw, Parts: tc.parts}, bound, nil, trust, now)
			if got := reason.Of(err); got != tc.want {
				t.Fatalf("%q, want %q (%v)", got, tc.want, err)
			}
			if err == nil && (f.Class != document.ClassA || !f.KeyBound) {
				t.Errorf("%+v", f)
			}
		})
	}
}
