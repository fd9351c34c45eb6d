package verifier_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// TestAppraiseNotes: where an operator vouched for the EK by its hash, a
// certificate that does not verify is said and refuses nothing.
func TestAppraiseNotes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(t testing.TB, a *attempt)
		note   reason.Code // "" for none at all
	}{
		{"no certificate", func(_ testing.TB, a *attempt) { a.ev.TPM2.EKCertificate = nil }, ""},
		{"unknown maker", func(t testing.TB, a *attempt) { a.trust.EKRoots = evidencetest.NewMaker(t).Roots(t) }, reason.EKCertUntrusted},
		{"expired", func(_ testing.TB, a *attempt) { a.now = noon.AddDate(9, 0, 1) }, reason.EKCertValidity},
		{"no certificate at all in these bytes", func(_ testing.TB, a *attempt) { a.ev.TPM2.EKCertificate = []byte("no") }, reason.EKCertEncoding},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newEnrol(t)
			tt.change(t, a)
			got := mustAppraise(t, a)
			if got.Genuine() || got.Manufacturer() != "" {
				t.Error("genuine without a certificate that verified")
			}
			var notes []reason.Code
			for _, f := range got.Findings() {
				if f.Check == "ekcert" {
					notes = append(notes, f.Code)
				}
			}
			if want := []reason.Code{tt.note}; tt.note == "" && len(notes) > 0 || tt.note != "" && !slices.Equal(notes, want) {
				t.Errorf("notes %q, want %q", notes, tt.note)
			}
		})
	}
}

// TestAppraiseExtraVendors: a lab's own manufacturer id counts only where it is
// configured; the registry's need no configuration.
func TestAppraiseExtraVendors(t *testing.T) {
	a := newEnrol(t)
	a.tpm.EKCertificate = a.maker.CertificateOf(t, a.tpm.EK, "id:00001014")
	a.answer(t)
	a.want.RequireGenuine = true
	if _, err := a.appraise(); reason.Of(err) != reason.EKCertVendorDenied {
		t.Errorf("unregistered vendor: %v", err)
	}
	a.trust.ExtraVendors = []string{"id:00001014"}
	if got := mustAppraise(t, a); !got.Genuine() {
		t.Error("the configured vendor is not genuine")
	}
}

// TestAppraiseLab: the same proof under the lab's name says nothing about a
// machine, and does not pass under the other name.
func TestAppraiseLab(t *testing.T) {
	lab := func(t *testing.T) *attempt {
		a := newEnrol(t)
		a.tpm.Format = verifier.FormatTPM2Lab
		a.answer(t)
		return a
	}
	t.Run("software without a maker", func(t *testing.T) {
		got := mustAppraise(t, lab(t))
		if got.BindingClass() != verifier.ClassC || got.KeyResidency() != verifier.KeySoftware || got.Genuine() || got.Manufacturer() != "" {
			t.Errorf("class %s, key %s, genuine %t, maker %q", got.BindingClass(), got.KeyResidency(), got.Genuine(), got.Manufacturer())
		}
		if !slices.ContainsFunc(got.Findings(), func(f verifier.Finding) bool {
			return f.Check == "key" && f.Code == "" && strings.Contains(f.Detail, "may be software")
		}) {
			t.Errorf("nothing says of what kind the key is: %v", got.Findings())
		}
	})
	t.Run("is never genuine", func(t *testing.T) {
		a := lab(t)
		a.want.RequireGenuine = true
		if _, err := a.appraise(); reason.Of(err) != reason.EKCertUntrusted {
			t.Errorf("%v", err)
		}
	})
	for _, other := range []string{verifier.FormatTPM2, verifier.FormatTPM2Lab} {
		t.Run("renamed to "+other, func(t *testing.T) {
			a := newRenew(t)
			if other == verifier.FormatTPM2 {
				a.tpm.Format = verifier.FormatTPM2Lab
				a.answer(t)
			}
			a.ev.Format = other
			if _, err := a.appraise(); reason.Of(err) != reason.TPM2QuoteNonceMismatch {
				t.Errorf("%v", err)
			}
		})
	}
}
