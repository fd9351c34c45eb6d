package verifier

import (
	"bytes"

	"github.com/zonebroker/zonebroker/verifier/azure"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// partTDQuote is the quote of the TD around an HCL report, beside partVCEK the
// other kind of hardware.
const partTDQuote = "td_quote"

// judgeAzureCVM wants the runtime data to name the key whose quote carries the
// binding.
func judgeAzureCVM(in *itemInput, trust *Documents) (document.Facts, error) {
	if len(in.AK) == 0 {
		return document.Facts{}, errWithoutQuote
	}
	h, err := azure.ParseHCL(in.Document)
	if err != nil {
		return document.Facts{}, err
	}
	if !bytes.Equal(h.AK(), in.AK) {
		return document.Facts{}, reason.New(reason.TPM2AKCertKeyMismatch, "the runtime data names another attestation key than the one that quoted")
	}
	with := azure.Hardware{Certificate: in.Parts[partVCEK], TDQuote: in.Parts[partTDQuote]}
	m, err := azure.VerifyHCL(h, with, azure.HCLTrust{SNP: trust.SNP, TDX: azure.TDQuotes(trust.TDX)}, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return quoted(m.Facts()), nil
}
