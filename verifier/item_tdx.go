package verifier

import (
	"encoding/hex"

	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/tdx"
)

// partEventLog is the guest's CCEL beside a TDX quote, where it has one.
const partEventLog = "event_log"

// judgeTDX wants the binding, and the key of the TPM that quoted where there is
// one, in REPORTDATA.
func judgeTDX(in *itemInput, trust *Documents) (document.Facts, error) {
	want := document.ReportData(in.Bound, in.AK)
	q, err := tdx.Verify(in.Document, tdx.Expectation{ReportData: want[:], EventLog: in.Parts[partEventLog]}, trust.TDX, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	f := q.Facts()
	f.Anchors = append(f.Anchors, document.Anchor{Kind: document.AnchorReport, Value: hex.EncodeToString(in.Bound[:])})
	if len(in.AK) > 0 {
		f.Anchors = append(f.Anchors, akAnchor(in.AK))
	}
	return f, nil
}
