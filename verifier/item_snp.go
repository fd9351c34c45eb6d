package verifier

import (
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// Parts of an SNP report: the certificate of the key that signed it, one of them
// or none.
const (
	partVCEK = "vcek"
	partVLEK = "vlek"
)

// judgeSNP wants the binding, and the key of the TPM that quoted where there is
// one, in REPORT_DATA.
func judgeSNP(in *itemInput, trust *Documents) (document.Facts, error) {
	cert, err := endorsementPart(in.Parts)
	if err != nil {
		return document.Facts{}, err
	}
	want := document.ReportData(in.Bound, in.AK)
	a, err := snp.Verify(snp.Evidence{Report: in.Document, Certificate: cert}, want[:], trust.SNP, in.Now)
	if err != nil {
		return document.Facts{}, err
	}
	return a.Facts(), nil
}

// endorsementPart returns the certificate that came along, nil for none.
func endorsementPart(parts map[string][]byte) ([]byte, error) {
	vcek, vlek := parts[partVCEK], parts[partVLEK]
	if len(vcek) > 0 && len(vlek) > 0 {
		return nil, reason.New(reason.RequestMalformed, "a report is signed by one key: vcek or vlek")
	}
	if len(vlek) > 0 {
		return vlek, nil
	}
	return vcek, nil
}
