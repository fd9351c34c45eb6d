package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/cca"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// judgeCCA wants the binding in the realm's challenge. A realm has no TPM whose
// key would go with it.
func judgeCCA(in *itemInput, trust *Documents) (document.Facts, error) {
	if len(in.Parts) > 0 {
		return document.Facts{}, reason.New(reason.RequestMalformed, "a CCA token has no parts")
	}
	want := document.ReportData(in.Bound, nil)
	t, err := cca.Verify(in.Document, want[:], trust.CCA)
	if err != nil {
		return document.Facts{}, err
	}
	return t.Facts(), nil
}
