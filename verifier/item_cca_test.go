package verifier_test

import (
	"crypto/elliptic"
	"testing"
	"time"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/documenttest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestCCAItem: the binding stands in the realm's challenge, with zeros behind it.
func TestCCAItem(t *testing.T) {
	machine, err := documenttest.NewCCAMachine(elliptic.P384())
	if err != nil {
		t.Fatal(err)
	}
	key, err := machine.PEM()
	if err != nil {
		t.Fatal(err)
	}
	trust, err := verifier.NewDocuments([]verifier.TrustObject{{Kind: verifier.TrustCCA, Name: "lab", Raw: key}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.NewDocuments([]verifier.TrustObject{{Kind: verifier.TrustCCA, Name: "lab", Raw: []byte("x")}}); err == nil {
		t.Error("what is no key is taken")
	}
	bound := [32]byte{1, 2, 3}
	carried, other := document.ReportData(bound, nil), document.ReportData(bound, []byte("key"))
	for name, tc := range map[string]struct {
		challenge []byte
		parts     map[string][]byte
		want      reason.Code
	}{
		"bound":           {carried[:], nil, ""},
		"another binding": {make([]byte, 64), nil, reason.CCANonceMismatch},
		"a key behind it": {other[:], nil, reason.CCANonceMismatch},
		"with a part":     {carried[:], map[string][]byte{"x": nil}, reason.RequestMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			raw, err := machine.Token(documenttest.CCAFields{Challenge: tc.challenge})
			if err != nil {
				t.Fatal(err)
			}
			item := verifier.Item{Format: verifier.FormatCCA, Document: raw, Parts: tc.parts}
			f, err := verifier.JudgeItem(&item, bound, nil, &trust, time.Time{})
			if got := reason.Of(err); got != tc.want {
				t.Fatalf("%q, want %q (%v)", got, tc.want, err)
			}
			if err == nil && (f.Class != document.ClassA || !f.KeyBound) {
				t.Errorf("%+v", f)
			}
		})
	}
}
