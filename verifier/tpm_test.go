package verifier_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/evidencetest"
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
	if other, _ := a.appraise(); !bytes.Equal(canonicalOf(t, got), canonicalOf(t, verifier.Against(other, advisory.Lookup("NTC", ekcert.KindDiscrete, 7<<48|2<<32)))) ||
		!bytes.Equal(canonicalOf(t, got), canonicalOf(t, verifier.Against(other, nil))) {
		t.Error("judged again by a release with another table, it is another appraisal")
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

// TestWeakEKWithoutItsCertificate: whoever factors an EK is that machine, so that
// nobody's word and no leave lets one in.
func TestWeakEKWithoutItsCertificate(t *testing.T) {
	for name, change := range map[string]func(a *attempt){
		"no certificate":               func(a *attempt) { a.tpm.EKCertificate = nil },
		"certificate of another maker": func(a *attempt) { a.trust.EKRoots = evidencetest.NewMaker(t).Roots(t) },
		"known by a certificate from before": func(a *attempt) {
			a.tpm.EKCertificate, a.want.Manufacturer = nil, "STM"
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newEnrol(t)
			a.tpm.EK = evidencetest.FactorableEK(t)
			a.maker.Endorse(t, a.tpm)
			change(a)
			a.answer(t)
			got, err := a.appraise()
			if reason.Of(err) != reason.EKCertWeakKey || !got.Authentic() || got.Genuine() {
				t.Errorf("%v, authentic %t, genuine %t", err, got.Authentic(), got.Genuine())
			}
			a.tpm.EK = evidencetest.RSAEK(t)
			a.tpm.EKCertificate = nil
			a.answer(t)
			mustAppraise(t, a)
		})
	}
}

// TestAdvisoriesWithoutTheCertificate: an enrolment that leaves the certificate
// out knows what was proved of this EK before, and one that no longer verifies
// ends what it proved and nothing that is known against the maker.
func TestAdvisoriesWithoutTheCertificate(t *testing.T) {
	old := verifier.TPMFacts{Model: "ST33", Version: "id:00490004", Expired: true}
	a := newEnrol(t)
	a.tpm.Firmware = 73<<48 | 4<<32
	a.answer(t)
	a.want.Manufacturer, a.want.TPM = "STM", old
	a.ev.TPM2.EKCertificate = nil
	if got := mustAppraise(t, a); len(got.Advisories()) != 2 || !got.Genuine() || got.Manufacturer() != "STM" || got.TPM() != old {
		t.Errorf("left out: %v, genuine %t, %q, %+v", got.Advisories(), got.Genuine(), got.Manufacturer(), got.TPM())
	}
	a.want.RequireGenuine = true
	if got, err := a.appraise(); reason.Of(err) != reason.EKCertUntrusted || got.Genuine() {
		t.Errorf("left out where it is needed: %v, genuine %t", err, got.Genuine())
	}
	a.want.RequireGenuine = false
	a.ev.TPM2.EKCertificate = a.tpm.EKCertificate
	a.trust.CRLs = a.maker.Revoking(t, 77)
	if got := mustAppraise(t, a); len(got.Advisories()) != 2 || got.Genuine() || got.Manufacturer() != "" || got.TPM() != (verifier.TPMFacts{}) {
		t.Errorf("revoked since: %v, genuine %t, %q, %+v", got.Advisories(), got.Genuine(), got.Manufacturer(), got.TPM())
	}
	a.want.Manufacturer, a.want.TPM = "NTC", verifier.TPMFacts{}
	a.trust = verifier.Trust{EKRoots: a.maker.Roots(t)}
	if got := mustAppraise(t, a); got.Manufacturer() != "STM" || got.Advisories()[0].ID != "CVE-2019-16863" {
		t.Errorf("a certificate that verifies now counts: %q, %v", got.Manufacturer(), got.Advisories())
	}
}

func canonicalOf(t *testing.T, a verifier.Appraisal) []byte {
	t.Helper()
	b, err := a.Canonical()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
