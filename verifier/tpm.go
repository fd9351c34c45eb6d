package verifier

import (
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/ekcert"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// TPMFacts is what a verified EK certificate says of a TPM beside its maker. It
// is kept from enrolment, as renewals send no EK. The zero value says nothing.
type TPMFacts struct {
	Model   string // as the maker wrote it
	Version string // firmware of the day of manufacture, as the maker wrote it
	Expired bool   // certificate or chain were past their validity when they were verified
}

// judgeMachine judges the EK and its certificate at enrolment; a renewal knows
// what was found then. A weak EK is refused whoever vouches for it: an operator
// who admits a hash sees nothing of the key, and whoever factors it enrols as
// that machine.
func (a *Appraisal) judgeMachine(e *TPM2Evidence, want *Expectation, trust *Trust, now time.Time) {
	if a.lab() { // whatever certificate comes along, these keys are nobody's hardware
		if want.RequireGenuine {
			a.refuse("ekcert", reason.New(reason.EKCertUntrusted, "lab evidence is never genuine"))
		}
		return
	}
	if want.Purpose != PurposeEnrol {
		a.recall(want)
	} else {
		ek, err := tpm2.ParseEK(e.EKPublic)
		if err == nil {
			err = ekcert.CheckKey(ek.SPKI())
		}
		if err != nil {
			a.refuse("ekcert", err)
			return
		}
		a.judgeCertificate(e, &ek, want, trust, now)
	}
	maker, model := a.manufacturer, a.tpm.Model
	if maker == "" { // a certificate that no longer verifies makes no flaw go away
		maker, model = want.Manufacturer, want.TPM.Model
	}
	a.advise(advisory.Lookup(maker, ekcert.Kind(maker, model), advisory.Version(a.firmware)))
}

// recall takes what a certificate of the same EK proved at an enrolment before.
func (a *Appraisal) recall(want *Expectation) {
	a.manufacturer, a.genuine, a.tpm = want.Manufacturer, want.Manufacturer != "", want.TPM
}

// judgeCertificate: where an operator vouched for the EK by its hash, a
// certificate that does not verify is a note; one for another key is a lie in any
// case. Leaving it out takes nothing back that it proved before: what is known
// against a maker would be dodged by that.
func (a *Appraisal) judgeCertificate(e *TPM2Evidence, ek *tpm2.EK, want *Expectation, trust *Trust, now time.Time) {
	if len(e.EKCertificate) == 0 {
		if want.RequireGenuine {
			a.refuse("ekcert", reason.New(reason.EKCertUntrusted, "no EK certificate was sent, and nobody vouched for this EK by its hash"))
			return
		}
		a.recall(want)
		return
	}
	opts := ekcert.Options{ExtraVendors: trust.ExtraVendors, CRLs: trust.CRLs, AllowExpired: want.AllowExpired}
	cert, err := ekcert.Verify(e.EKCertificate, e.EKChain, ek.SPKI(), trust.EKRoots, opts, now)
	if err == nil {
		a.manufacturer, a.genuine = cert.Manufacturer(), true
		a.tpm = TPMFacts{Model: cert.Model(), Version: cert.FirmwareVersion(), Expired: cert.Expired()}
		a.noteCertificate(cert)
		return
	}
	if want.RequireGenuine || reason.Of(err) == reason.EKCertKeyMismatch {
		a.refuse("ekcert", err)
		return
	}
	a.event("ekcert", reason.Of(err), reason.Detail(err))
}

func (a *Appraisal) noteCertificate(cert ekcert.Certificate) {
	if cert.Expired() {
		a.event("ekcert", reason.EKCertValidity, "certificate or chain is past its validity ("+cert.NotAfter().UTC().Format(time.DateOnly)+"); it verified as of its first day")
		return
	}
	a.pass("ekcert", "chain verified")
}

// checkAdvisory names the findings that say what is published against a TPM.
const checkAdvisory = "advisory"

// advise notes what is known of this maker and firmware. The version is plain:
// the AK is a primary key of the endorsement hierarchy, or the quote would not
// have verified. Canonical leaves these findings out.
func (a *Appraisal) advise(known []advisory.Advisory) {
	a.advisories = known
	for _, adv := range known {
		a.event(checkAdvisory, reason.TPM2Advisory, adv.String())
	}
}

// TPM returns what the verified EK certificate says of the TPM beside its maker.
func (a Appraisal) TPM() TPMFacts { return a.tpm }

// TPMKind returns the kind of TPM that the verified EK certificate proves, one of
// the Kind constants of package ekcert.
func (a Appraisal) TPMKind() string { return ekcert.Kind(a.manufacturer, a.tpm.Model) }

// EKExpired reports that the EK certificate or its chain was past its validity
// when it was verified.
func (a Appraisal) EKExpired() bool { return a.tpm.Expired }

// Advisories returns what is published against this maker and firmware; the slice
// is the caller's.
func (a Appraisal) Advisories() []advisory.Advisory { return slices.Clone(a.advisories) }
