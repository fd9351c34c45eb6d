package conformance

import (
	"errors"
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// judgeSNP judges a bare report with its certificate.
func judgeSNP(c *testcase) (facts, error) {
	at, trust, err := c.amd()
	if err != nil {
		return nil, err
	}
	var ev snp.Evidence
	if ev.Report, err = c.open(c.row.Path); err != nil {
		return nil, err
	}
	if ev.Certificate, err = c.endorsement(); err != nil {
		return nil, err
	}
	want, given, err := c.bound("report_data", "qualifying", "nonce")
	if err != nil {
		return nil, err
	}
	// What default policy refuses comes before what was asked for: the rows have
	// that order, and a broker needs none.
	att, err := snp.Verify(ev, nil, trust, at)
	if err != nil {
		return nil, err
	}
	if err := refuseHazards(att.Facts()); err != nil {
		return nil, err
	}
	if given {
		_, err = snp.Verify(ev, append(want, make([]byte, max(0, 64-len(want)))...), trust, at)
	}
	return nil, err
}

// amd reads time and AMD's certificates.
func (c *testcase) amd() (time.Time, snp.Trust, error) {
	at, err := c.time()
	if err != nil {
		return at, snp.Trust{}, err
	}
	roots, err := c.companions("roots")
	if err != nil {
		return at, snp.Trust{}, err
	}
	trust, err := snp.NewTrust(snp.Objects{Roots: roots})
	switch {
	case errors.Is(err, snp.ErrNoIssuer): // a case like any other: nothing chains to it
		return at, snp.Trust{}, nil
	case err != nil:
		return at, snp.Trust{}, bad("roots: %v", err)
	}
	return at, trust, nil
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

// refuseHazards is default policy: the first hazard refuses.
func refuseHazards(f document.Facts) error {
	if len(f.Hazards) == 0 {
		return nil
	}
	return reason.New(f.Hazards[0].Code, f.Hazards[0].Detail)
}
