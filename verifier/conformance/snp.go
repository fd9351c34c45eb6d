package conformance

import (
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// judgeSNP judges a bare report with its certificate.
func judgeSNP(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	trust, err := c.amd()
	if err != nil {
		return nil, err
	}
	ev, err := c.snpEvidence(raw)
	if err != nil {
		return nil, err
	}
	want := c.asked("report_data", "qualifying", "nonce")
	// What default policy refuses comes before what was asked for: the rows have
	// that order, and a broker needs none.
	att, err := snp.Verify(ev, nil, trust, at)
	if err != nil {
		return nil, err
	}
	if err := refuseHazards(att.Facts()); err != nil {
		return nil, err
	}
	if want != nil {
		_, err = snp.Verify(ev, append(want, make([]byte, max(0, 64-len(want)))...), trust, at)
	}
	return nil, err
}

// snpEvidence puts the report and its certificate together. The file of the row is
// the report, unless the row names one: it is then the certificate that is judged.
func (c *testcase) snpEvidence(file []byte) (snp.Evidence, error) {
	certificate, err := c.endorsement()
	if err != nil || !c.has("report") {
		return snp.Evidence{Report: file, Certificate: certificate}, err
	}
	if certificate == nil && !c.none("vcek") && !c.none("vlek") {
		certificate = file
	}
	report, err := c.companion("report")
	return snp.Evidence{Report: report, Certificate: certificate}, err
}

// amd reads AMD's certificates.
func (c *testcase) amd() (snp.Trust, error) {
	roots, err := c.companions("roots")
	if err != nil {
		return snp.Trust{}, err
	}
	return anchored(snp.NewTrust(snp.Objects{Roots: roots}))
}

// endorsement reads the VCEK or VLEK, nil for none.
func (c *testcase) endorsement() ([]byte, error) {
	if c.has("vcek") && c.has("vlek") {
		return nil, bad("a report has one certificate: vcek or vlek")
	}
	if c.has("vlek") {
		return c.companion("vlek")
	}
	return c.companion("vcek")
}
