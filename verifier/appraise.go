package verifier

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Appraise judges evidence at the time now. It is the only way to an Appraisal.
//
// The error is the first refusal in the order of the checks; the Appraisal then
// still tells how far the evidence got (Authentic, Findings), and must not be
// given to policy. No check after the signature runs unless the signature and
// the binding hold: replaying a log for a stranger would be free work for them.
func Appraise(ev Evidence, want Expectation, trust Trust, now time.Time) (Appraisal, error) {
	by, ok := judgeOf(ev.Format)
	if !ok {
		return Appraisal{}, unknownFormat()
	}
	a := Appraisal{format: ev.Format}
	if err := CheckItems(ev.Format, ev.Items); err != nil {
		return a, err
	}
	err := by(&a, &ev, &want, &trust, now)
	if refusals := a.Refusals(); err == nil && len(refusals) > 0 {
		err = refusals[0]
	}
	return a, err
}

// appraiseTPM2 follows tpm.md 1.3: AK, signature, structure, nonce, then clock,
// selection, PCRs, log, EK certificate, key.
func appraiseTPM2(a *Appraisal, ev *Evidence, want *Expectation, trust *Trust, now time.Time) error {
	a.class = ClassA
	if a.lab() {
		a.class = ClassC
	}
	by, err := quoteOf(ev, want)
	if err != nil {
		return err
	}
	a.authentic = true
	a.findings = make([]Finding, 0, 8)
	a.takeQuote(by.attested, ev.TPM2, want)
	a.judgeMachine(ev.TPM2, want, trust, now)
	a.judgeKey(&by.ak, ev, by.bound[:])
	if len(ev.Items) > 0 {
		j := itemJudge{a: a, ev: ev, want: want, trust: &trust.Documents, primary: by.bound, ak: by.ak.SPKI(), now: now}
		j.judgeItems("")
	}
	return nil
}

func bindingOf(ev *Evidence, want *Expectation, format string) [32]byte {
	return Binding(want.Nonce, ev.SPKI, want.TrustDomain, want.Purpose, format, want.Context)
}

// takeQuote judges an authentic quote: its clock, and PCRs by their logs.
func (a *Appraisal) takeQuote(attested tpm2.Attested, e *TPM2Evidence, want *Expectation) {
	a.clock, a.firmware = attested.Clock(), attested.FirmwareVersion()
	a.pass("tpm2.quote", "signed by the AK over this challenge")
	a.judgeClock(want)
	a.judgePCRs(attested, e, want)
}

// judgeClock compares the clock triple with the baseline. It never says
// anything about freshness: the owner of a TPM can set its clock.
func (a *Appraisal) judgeClock(want *Expectation) {
	if !a.clock.Safe {
		a.event("tpm2.clock", reason.TPM2ClockUnsafe, "the TPM reports safe = no")
	}
	b := want.Baseline
	if b == nil {
		return
	}
	events, err := tpm2.CompareClock(b.Clock, b.ClockAt, a.clock, want.IssuedAt)
	for _, code := range events {
		if code != reason.TPM2ClockUnsafe {
			a.event("tpm2.clock", code, reason.Lookup(code).Meaning)
		}
	}
	if err != nil {
		a.refuse("tpm2.clock", err)
	} else {
		a.pass("tpm2.clock", "not rolled back")
	}
	if b.Firmware != a.firmware {
		a.event("tpm2.firmware", reason.TPM2FirmwareChanged, reason.Lookup(reason.TPM2FirmwareChanged).Meaning)
	}
}

// judgePCRs takes the quoted values and has every one of them explained by a
// log: a PCR without an explanation is a hash that says nothing.
func (a *Appraisal) judgePCRs(attested tpm2.Attested, e *TPM2Evidence, want *Expectation) {
	quote, err := attested.Quote(want.Selection, e.PCRs)
	if err != nil {
		a.refuse("tpm2.pcrs", err)
		return
	}
	a.quote, a.pcrs, a.quoted = quote, quote.PCRValues(), true
	a.pass("tpm2.pcrs", "values are those quoted")

	rest, err := a.judgeIMA(e, want.Baseline)
	if err != nil {
		a.refuse("ima", err)
		return
	}
	if err := a.explain(e, rest, want.Baseline); err != nil {
		a.refuse("eventlog", err)
		return
	}
	a.pass("eventlog", "every quoted PCR is explained")
	if a.hasLog {
		a.findings = append(a.findings, a.log.Findings()...)
	}
}

// judgeKey demands proof that the requested SVID key is the requester's: inside
// the same TPM by TPM2_Certify, or by the signature of a CSR.
func (a *Appraisal) judgeKey(ak *tpm2.AK, ev *Evidence, bound []byte) {
	if c := ev.TPM2.Certify; c != nil {
		resident, err := tpm2.VerifyCertify(*ak, *c, bound)
		if err == nil && !bytes.Equal(resident.SPKI(), ev.SPKI) {
			err = reason.New(reason.TPM2CertifyMismatch, "the certified key is not the one that asks for the SVID")
		}
		if err != nil {
			a.refuse("key", err)
			return
		}
		if a.lab() {
			a.key = KeySoftware
			a.pass("key", "certified by an AK that may be software")
			return
		}
		a.key = KeyTPM
		a.pass("key", "lives in the TPM that quoted")
		return
	}
	if err := possession(ev.CSR, ev.SPKI); err != nil {
		a.refuse("key", err)
		return
	}
	a.key = KeySoftware
	a.pass("key", "possession proved by CSR")
}

// possession checks a PKCS#10 request: P-256, self-signed, for exactly spki.
func possession(csr, spki []byte) error {
	if len(csr) == 0 {
		return reason.New(reason.RequestMalformed, "neither certify nor csr proves possession of the SVID key")
	}
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return reason.Wrap(reason.RequestMalformed, "csr is not PKCS#10", err)
	}
	pub, ok := req.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() {
		return reason.New(reason.RequestMalformed, "csr: the SVID key must be ECDSA P-256")
	}
	if err := req.CheckSignature(); err != nil {
		return reason.Wrap(reason.RequestMalformed, "csr: signature does not verify", err)
	}
	if !bytes.Equal(req.RawSubjectPublicKeyInfo, spki) {
		return reason.New(reason.RequestMalformed, "csr is for another key than spki")
	}
	return nil
}

func (a *Appraisal) pass(check, detail string) {
	a.findings = append(a.findings, Finding{Check: check, Detail: detail})
}

func (a *Appraisal) event(check string, code reason.Code, detail string) {
	a.findings = append(a.findings, Finding{Check: check, Outcome: reason.Noted, Code: code, Detail: detail})
}

func (a *Appraisal) refuse(check string, err error) {
	a.findings = append(a.findings, Finding{Check: check, Outcome: reason.Refused, Code: reason.Of(err), Detail: reason.Detail(err)})
}
