package verifier_test

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

func findingsOf(a verifier.Appraisal, check string) []verifier.Finding {
	return slices.DeleteFunc(a.Findings(), func(f verifier.Finding) bool { return f.Check != check })
}

// TestTPMFacts: what the certificate says at enrolment is what a renewal knows.
func TestTPMFacts(t *testing.T) {
	a := newEnrol(t)
	want := verifier.TPMFacts{Model: "ST33", Version: "id:00490004"}
	for _, when := range []string{"enrolment", "renewal"} {
		got := mustAppraise(t, a)
		if got.TPM() != want || got.TPMKind() != ekcert.KindDiscrete || got.EKExpired() {
			t.Errorf("%s: %+v, %s", when, got.TPM(), got.TPMKind())
		}
		if when == "enrolment" {
			a.moveOn(t, got)
		}
	}
	if none := (verifier.Appraisal{}); none.TPMKind() != ekcert.KindUnknown || none.TPM() != (verifier.TPMFacts{}) {
		t.Error("the zero Appraisal proves a kind")
	}
	unproved := newEnrol(t)
	unproved.ev.TPM2.EKCertificate = nil
	if got := mustAppraise(t, unproved); got.TPMKind() != ekcert.KindUnknown || len(got.Advisories()) != 0 {
		t.Errorf("without a certificate: %s, %v", got.TPMKind(), got.Advisories())
	}
}

// TestExpiredByLeave: with the leave of some zone an expired certificate verifies,
// says so, and is still known at renewals.
func TestExpiredByLeave(t *testing.T) {
	for _, genuine := range []bool{false, true} {
		a := newEnrol(t)
		a.want.RequireGenuine, a.want.AllowExpired = genuine, true
		a.now = noon.AddDate(9, 0, 1)
		got := mustAppraise(t, a)
		notes := findingsOf(got, "ekcert")
		if !got.Genuine() || !got.EKExpired() || got.Manufacturer() != "STM" || len(notes) != 1 || notes[0].Code != reason.EKCertValidity {
			t.Errorf("genuine %t, expired %t, maker %q, %+v", got.Genuine(), got.EKExpired(), got.Manufacturer(), notes)
		}
		if !strings.Contains(notes[0].Detail, "2035-11-20") {
			t.Errorf("%q does not say when it ended", notes[0].Detail)
		}
		a.moveOn(t, got)
		a.now = a.want.IssuedAt
		if again := mustAppraise(t, a); !again.EKExpired() {
			t.Error("a renewal forgets it")
		}
	}
	a := newEnrol(t)
	a.want.AllowExpired = true
	if got := mustAppraise(t, a); got.EKExpired() {
		t.Error("a valid certificate is called expired")
	}
}

// TestAdvisories: the quoted firmware counts, not that of the certificate.
func TestAdvisories(t *testing.T) {
	a := newEnrol(t)
	a.tpm.Firmware = 73<<48 | 4<<32
	a.answer(t)
	got := mustAppraise(t, a)
	var ids []string
	for _, adv := range got.Advisories() {
		ids = append(ids, adv.ID)
	}
	if want := []string{"CVE-2019-16863", "CVE-2018-6622"}; !slices.Equal(ids, want) {
		t.Errorf("%q, want %q", ids, want)
	}
	notes := findingsOf(got, "advisory")
	if len(notes) != 2 || notes[0].Code != reason.TPM2Advisory || !strings.Contains(notes[0].Detail, "https://www.st.com/") {
		t.Errorf("%+v", notes)
	}
	if len(got.Refusals()) != 0 {
		t.Errorf("an advisory refuses only by policy: %v", got.Refusals())
	}
	got.Advisories()[0].Deny = false
	if !got.Advisories()[0].Deny {
		t.Error("the slice is not the caller's")
	}
	a.tpm.Firmware = 73<<48 | 64<<32
	a.moveOn(t, got)
	if got := mustAppraise(t, a); len(got.Advisories()) != 1 {
		t.Errorf("after the update: %v", got.Advisories())
	}
}

// TestAppraiseRevoked: lists reach the certificate.
func TestAppraiseRevoked(t *testing.T) {
	a := newEnrol(t)
	a.want.RequireGenuine = true
	a.trust.CRLs = a.maker.Revoking(t, 76)
	if got := mustAppraise(t, a); !got.Genuine() {
		t.Error("another certificate is revoked")
	}
	a.trust.CRLs = a.maker.Revoking(t, 77)
	if _, err := a.appraise(); reason.Of(err) != reason.EKCertRevoked {
		t.Errorf("%v", err)
	}
	a.tpm.EKCertificate = a.maker.Forge(t, a.tpm.EK, func(c *x509.Certificate) { c.SerialNumber.SetInt64(76) })
	a.answer(t)
	if _, err := a.appraise(); err != nil {
		t.Errorf("%v", err)
	}
}
