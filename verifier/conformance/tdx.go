package conformance

import (
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// judgeTDX judges a quote, under the collateral that the row names; a row whose
// file is the collateral names the quote.
func judgeTDX(c *testcase) (facts, error) {
	raw, at, err := c.dated()
	if err != nil {
		return nil, err
	}
	var bundle []byte
	if c.has("quote") {
		bundle = raw
		if raw, err = c.companion("quote"); err != nil {
			return nil, err
		}
	}
	trust, err := c.tdxTrust(bundle)
	if err != nil {
		return nil, err
	}
	want := tdx.Expectation{ReportData: c.asked("report_data", "qualifying", "nonce")}
	if want.EventLog, err = c.companion("log"); err != nil {
		return nil, err
	}
	// Debug and TCB come before REPORTDATA, as with SNP.
	quote, err := tdx.Verify(raw, tdx.Expectation{}, trust, at)
	if err != nil {
		return nil, err
	}
	if err := refuseHazards(quote.Facts()); err != nil {
		return nil, err
	}
	_, err = tdx.Verify(raw, want, trust, at)
	return nil, err
}

// tdxTrust reads roots and collateral; bundle is the collateral of a row that names
// none, nil for none.
func (c *testcase) tdxTrust(bundle []byte) (tdx.Trust, error) {
	roots, err := c.companions("roots")
	if err != nil {
		return tdx.Trust{}, err
	}
	if named, err := c.companion("collateral"); err != nil {
		return tdx.Trust{}, err
	} else if named != nil || c.none("collateral") {
		bundle = named
	}
	bundles := map[string][]byte{}
	if bundle != nil {
		bundles[tdx.AnyPlatform] = bundle
	}
	return anchored(tdx.NewTrust(roots, bundles))
}

// judgeCCEL compares the log of a confidential guest with the registers of a
// quote, which is judged in rows of its own.
func judgeCCEL(c *testcase) (facts, error) {
	if _, err := c.choice("bank", "", "sha384"); err != nil {
		return nil, err
	}
	raw, err := c.open(c.row.Path)
	if err != nil {
		return nil, err
	}
	if !c.has("quote") {
		return nil, bad("quote is missing")
	}
	quoted, err := c.open(c.get("quote"))
	if err != nil {
		return nil, err
	}
	quote, err := tdx.Parse(quoted)
	if err != nil {
		return nil, err
	}
	secureBoot, err := quote.ReplayLog(raw)
	return facts{"secure_boot": secureBoot}, err
}
