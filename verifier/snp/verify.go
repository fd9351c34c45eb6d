package snp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Evidence is a report with what came along: attacker bytes.
type Evidence struct {
	Report []byte
	// Certificate is the VCEK or VLEK, DER or PEM; of a PEM bundle the first
	// certificate counts. Nil: one of the trust's own is looked for.
	Certificate []byte
}

// Attestation is a report that a genuine chip made. The zero value attests
// nothing.
type Attestation struct {
	report  report
	product Product
	kind    Kind
	chip    []byte // nil where the report masks it
	csp     string
	tcb     TCB
	bound   bool
	passed  []reason.Finding
}

// Verify judges a report at the time now. reportData is the expected REPORT_DATA,
// 64 bytes; nil expects nothing, and the report then proves no freshness.
//
// Errors, in the order of the checks: request.too_large, snp.malformed,
// snp.algorithm; for the certificate snp.untrusted (also one that is absent, does
// not parse or is revoked), snp.validity; snp.signature; snp.tcb_mismatch; snp.vmpl
// (a report that the host asked for); snp.report_data.
func Verify(ev Evidence, reportData []byte, trust Trust, now time.Time) (Attestation, error) {
	if len(ev.Report) > 64<<10 || len(ev.Certificate) > MaxCertificate {
		return Attestation{}, reason.Newf(reason.RequestTooLarge, "a report has %d bytes, and its certificate at most %d", ReportSize, MaxCertificate)
	}
	r, err := parse(bytes.Clone(ev.Report))
	if err != nil {
		return Attestation{}, err
	}
	e, err := trust.endorse(ev.Certificate, r, now)
	if err != nil {
		return Attestation{}, err
	}
	if err := checkSignature(r, e); err != nil {
		return Attestation{}, err
	}
	a := Attestation{report: r, product: e.product, kind: e.kind, chip: slices.Clone(e.hwid), csp: e.csp, tcb: e.tcb}
	if err := a.compare(e); err != nil {
		return Attestation{}, err
	}
	if r.u32(offVMPL) > lowestVMPL {
		return Attestation{}, reason.New(reason.SNPVMPL, "the report was asked for by the host and not by a guest")
	}
	if len(reportData) > 0 && subtle.ConstantTimeCompare(reportData, r.bytes(offData, 64)) != 1 {
		return Attestation{}, reason.New(reason.SNPReportData, "REPORT_DATA is not what was asked for")
	}
	a.bound = len(reportData) > 0
	a.note(e)
	return a, nil
}

// Endorses reports whether a certificate is configured for the chip and TCB that
// a report names. It says nothing about either.
func (t Trust) Endorses(raw []byte) bool {
	r, err := parse(raw)
	return err == nil && t.find(r) != nil
}

// endorse finds the certificate and judges its chain.
func (t Trust) endorse(raw []byte, r report, now time.Time) (*endorsement, error) {
	e := (*endorsement)(nil)
	if len(raw) == 0 {
		if e = t.find(r); e == nil {
			return nil, reason.New(reason.SNPUntrusted, "no VCEK or VLEK came with the report, and none is configured for its chip and TCB")
		}
	} else {
		var err error
		if e, err = parseEndorsement(raw); err != nil {
			return nil, reason.Wrap(reason.SNPUntrusted, errEndorsement.Error(), err)
		}
	}
	return e, t.chain(e, now)
}

// checkSignature verifies r and s, little-endian in 72 bytes each, over the bytes
// before them.
func checkSignature(r report, e *endorsement) error {
	fail := func(what string) error { return reason.New(reason.SNPSignature, what) }
	if !r.signed {
		return fail("the report says that no key signed it")
	}
	var scalars [2]*big.Int
	for i := range scalars {
		b := slices.Clone(r.bytes(offSignature+i*scalarSize, scalarSize))
		slices.Reverse(b)
		scalars[i] = new(big.Int).SetBytes(b)
	}
	sum := sha512.Sum384(r.raw[:offSignature])
	if !ecdsa.Verify(e.key, sum[:], scalars[0], scalars[1]) {
		return fail("the signature does not verify under the " + string(e.kind))
	}
	return nil
}

// compare holds the certificate against the report: the key of a chip at a TCB
// must not speak for another chip, product or TCB.
func (a *Attestation) compare(e *endorsement) error {
	fail := func(what string) error { return reason.New(reason.SNPTCBMismatch, what) }
	r := a.report
	if r.signer != e.kind {
		return fail("the report names the other kind of endorsement key")
	}
	if p := r.product(); r.version >= 3 && p != e.product {
		return fail("the report is of another product than the certificate")
	}
	if tcb, ok := decodeTCB(e.product, r.u64(offReported)); !ok || tcb != e.tcb {
		return fail("the reported TCB is not that of the certificate")
	}
	if e.kind == VCEK {
		chip := make([]byte, 64)
		copy(chip, e.hwid)
		if !bytes.Equal(chip, r.chipID()) {
			return fail("CHIP_ID is not the chip of the VCEK")
		}
	} else if !allZero(r.chipID()) {
		a.chip = bytes.Clone(chipOf(e.product, r.chipID()))
	}
	return nil
}

// product is "" in reports of version 2, and for CPUs that are not known here.
func (r report) product() Product {
	if r.version < 3 {
		return ""
	}
	return cpu(r.raw[offCPUID], r.raw[offCPUID+1])
}

func (a *Attestation) note(e *endorsement) {
	pass := func(check, detail string) {
		a.passed = append(a.passed, reason.Finding{Check: check, Detail: detail})
	}
	noted := func(check, detail string) {
		a.passed = append(a.passed, reason.Finding{Check: check, Outcome: reason.Noted, Detail: detail})
	}
	pass("snp.form", fmt.Sprintf("report of version %d", a.report.version))
	pass("snp.chain", fmt.Sprintf("%s of %s, valid until %s", e.kind, e.product, e.cert.NotAfter.UTC().Format(time.DateOnly)))
	pass("snp.signature", "ECDSA P-384 with SHA-384")
	pass("snp.certificate", "chip and reported TCB are those of the certificate: "+a.tcb.String())
	if a.bound {
		pass("snp.report_data", "")
	}
	current, committed := a.report.u64(offCurrent), a.report.u64(offCommitted)
	if current != committed {
		noted("snp.provisional", "the platform runs firmware that it can still roll back to the committed one")
	}
	if advised := levels[a.product]; !a.tcb.reaches(advised.advised) {
		noted("snp.advised", "the reported TCB is below what "+advised.bulletin+" names: "+advised.advised.String())
	}
	if a.report.policy(policyMigrateMA) {
		noted("snp.migration", "the guest's policy allows a migration agent, which could move the guest")
	}
}

// Product returns the family of the chip.
func (a Attestation) Product() Product { return a.product }

// Kind returns the kind of key that signed the report.
func (a Attestation) Kind() Kind { return a.kind }

// TCB returns the reported TCB, which the certificate confirms.
func (a Attestation) TCB() TCB { return a.tcb }

// VMPL returns the privilege level that asked for the report, 0 to 3.
func (a Attestation) VMPL() uint32 { return a.report.u32(offVMPL) }

// ReportData returns the 64 bytes of REPORT_DATA; the slice is the caller's.
func (a Attestation) ReportData() []byte { return bytes.Clone(a.field(offData, 64)) }

// Measurement returns the launch digest, 48 bytes; the slice is the caller's.
func (a Attestation) Measurement() []byte { return bytes.Clone(a.field(offMeasured, 48)) }

// IDKey returns the digest of the key that signed the guest's ID block, 48 bytes,
// zero for none; the slice is the caller's.
func (a Attestation) IDKey() []byte { return bytes.Clone(a.field(offIDKey, 48)) }

// field returns nil for the zero Attestation.
func (a Attestation) field(off, n int) []byte {
	if len(a.report.raw) == 0 {
		return nil
	}
	return a.report.bytes(off, n)
}
