package azure

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"

	"github.com/zonebroker/zonebroker/broker/agent/collect"
	"github.com/zonebroker/zonebroker/broker/agent/collect/metadata"
	"github.com/zonebroker/zonebroker/verifier"
	"github.com/zonebroker/zonebroker/verifier/document"
)

// Of the paravisor's report (HCL) and where it lies: the virtual TPM shows it in an
// NV index and makes it anew, with the user data of another index, when it is read
// (learn.microsoft.com, "Guest attestation for confidential VMs").
const (
	reportIndex   = 0x01400001
	userDataIndex = 0x01400002
	maxReport     = 8 << 10

	headerSize   = 32
	hardwareSize = 1184 // SEV-SNP report; a TD report fills the first 1024 bytes
	tdReportSize = 1024
	typeOffset   = headerSize + hardwareSize + 8
	typeSNP      = 2
	typeTDX      = 4

	thimPath  = "/metadata/THIM/amd/certification"
	quotePath = "/acc/tdquote"
	maxTHIM   = 32 << 10
	maxQuote  = 64 << 10
)

// TPM is what the report comes from.
type TPM interface {
	ReadNV(ctx context.Context, index uint32, limit int) ([]byte, error)
	WriteNV(ctx context.Context, index uint32, data []byte) error
}

// CVM collects the report of a confidential VM's paravisor, and what vouches for
// it: the chip's certificate, or a quote of the same TD report. The quote of the
// virtual TPM, whose key the report lists, is taken apart from it.
type CVM struct {
	TPM      TPM
	Metadata *metadata.Service
}

// Format is azure.cvm.
func (CVM) Format() string { return verifier.FormatAzureCVM }

// Detect looks for the index of the report.
func (c CVM) Detect(ctx context.Context) collect.Finding {
	const class = "A"
	if err := c.Metadata.Require(ctx, metadata.Azure); err != nil {
		return collect.Missing(c.Format(), class, err)
	}
	report, err := c.TPM.ReadNV(ctx, reportIndex, maxReport)
	if err != nil {
		return collect.Missing(c.Format(), class, err)
	}
	if hardware(report) == 0 {
		return collect.No(c.Format(), class, "the virtual TPM has no report of a paravisor: this is no confidential VM", "")
	}
	return collect.Yes(c.Format(), class, "report of the paravisor, and quote of its virtual TPM")
}

// hardware is the type of the hardware report, 0 where there is none.
func hardware(report []byte) uint32 {
	if len(report) < typeOffset+4 || string(report[:4]) != "HCLA" {
		return 0
	}
	return binary.LittleEndian.Uint32(report[typeOffset:])
}

// Collect writes the challenge into the user data, reads the report and gets what
// vouches for it.
func (c CVM) Collect(ctx context.Context, bound collect.Bound) (verifier.Item, error) {
	if err := c.Metadata.Require(ctx, metadata.Azure); err != nil {
		return verifier.Item{}, err
	}
	user := document.ReportData(bound.Value, nil)
	if err := c.TPM.WriteNV(ctx, userDataIndex, user[:]); err != nil {
		return verifier.Item{}, err
	}
	report, err := c.TPM.ReadNV(ctx, reportIndex, maxReport)
	if err != nil {
		return verifier.Item{}, err
	}
	item := verifier.Item{Format: c.Format(), Document: report}
	switch hardware(report) {
	case typeSNP:
		item.Parts, err = c.vouchedByChip(ctx)
	case typeTDX:
		item.Parts, err = c.vouchedByQuote(ctx, report[headerSize:headerSize+tdReportSize])
	default:
		err = &collect.Error{What: "read the report of the paravisor", Why: "the virtual TPM has none of SEV-SNP or TDX: this is no confidential VM"}
	}
	return item, err
}

// vouchedByChip asks the host's cache of AMD's certificates.
func (c CVM) vouchedByChip(ctx context.Context) (map[string][]byte, error) {
	text, err := c.Metadata.GetAzure(ctx, thimPath, nil, maxTHIM)
	if err != nil {
		return nil, err
	}
	var got struct {
		VCEK string `json:"vcekCert"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, &collect.Error{What: "get the chip's certificate", Why: "the answer of the metadata service is no JSON", Err: err}
	}
	block, _ := pem.Decode([]byte(got.VCEK))
	if block == nil {
		return nil, &collect.Error{What: "get the chip's certificate", Why: "the answer of the metadata service holds none"}
	}
	return map[string][]byte{"vcek": block.Bytes}, nil
}

// vouchedByQuote lets the host turn the TD report, which only its own processor
// can check, into a quote.
func (c CVM) vouchedByQuote(ctx context.Context, report []byte) (map[string][]byte, error) {
	question, err := json.Marshal(map[string]string{"report": base64.RawURLEncoding.EncodeToString(report)})
	if err != nil {
		return nil, err
	}
	text, err := c.Metadata.PostAzure(ctx, quotePath, question, maxQuote)
	if err != nil {
		return nil, err
	}
	var got struct {
		Quote string `json:"quote"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return nil, &collect.Error{What: "get the TD quote", Why: "the answer of the host is no JSON", Err: err}
	}
	quote, err := base64.RawURLEncoding.DecodeString(got.Quote)
	if err != nil || len(quote) == 0 {
		return nil, &collect.Error{What: "get the TD quote", Why: "the answer of the host holds none", Err: err}
	}
	return map[string][]byte{"td_quote": quote}, nil
}
