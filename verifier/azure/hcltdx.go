package azure

import (
	"time"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// TDQuotes judges TD quotes for HCLTrust by Intel's certificates and collateral.
func TDQuotes(trust tdx.Trust) func(quote, reportData []byte, now time.Time) (document.Facts, error) {
	return func(quote, reportData []byte, now time.Time) (document.Facts, error) {
		q, err := tdx.Verify(quote, tdx.Expectation{ReportData: reportData}, trust, now)
		if err != nil {
			return document.Facts{}, err
		}
		return q.Facts(), nil
	}
}
