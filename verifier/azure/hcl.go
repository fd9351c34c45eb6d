package azure

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/snp"
)

// Limits of an HCL report and of what comes along with it, in bytes. The NV index
// 0x01400001 that holds the report has 2600.
const (
	MaxHCL     = 8 << 10
	MaxTDQuote = 16 << 10 // a quote with its PCK chain has some 5000
)

// Layout of an HCL report (Azure confidential VM guest attestation design, and
// OpenHCL's igvm_attest): a header, the hardware's report in 1184 bytes whatever
// its kind, then the runtime data behind a header of its own. Numbers are
// little-endian.
const (
	hclHeader    = 32
	hclHardware  = snp.ReportSize
	hclRuntime   = hclHeader + hclHardware // size, version, report type, hash type, length: 4 each
	hclJSON      = hclRuntime + 20
	hclRequest   = 2 // an attestation of the machine, in the header's third field
	hclVersion1  = 1
	hclVersion2  = 2
	hclTypeSNP   = 2
	hclTypeTDX   = 4
	hclSHA256    = 1
	runtimeFirst = 1 // version of the runtime data
)

// Where REPORT_DATA stands in the hardware's report: of SNP (56860, table 23) and
// of a TDREPORT (Intel TDX module ABI, REPORTMACSTRUCT).
const (
	snpReportData = 0x50
	tdxReportData = 0x80
	hclReportData = 64
)

// TEE names the hardware of a confidential machine.
type TEE string

// Hardware that HCL reports are of.
const (
	SNP TEE = "snp"
	TDX TEE = "tdx"
)

// ClaimedHCL is an HCL report whose form holds and whose hardware report carries
// the hash of its runtime data. Nothing says yet that hardware made that report:
// VerifyHCL does. The zero value claims nothing.
type ClaimedHCL struct {
	tee      TEE
	hardware []byte // 1184 bytes
	bound    [hclReportData]byte
	runtime  runtimeData
}

// ParseHCL reads what lies in the NV index, with its fill.
//
// Errors, in the order of the checks: request.too_large, azure.hcl_malformed
// (magic, versions, types, lengths, fill), azure.runtime_data (the hash in the
// hardware report is not that of the runtime data, which is not strict JSON, holds
// no single attestation key, or no machine).
func ParseHCL(blob []byte) (ClaimedHCL, error) {
	if len(blob) > MaxHCL {
		return ClaimedHCL{}, reason.Newf(reason.RequestTooLarge, "an HCL report of more than %d bytes", MaxHCL)
	}
	if what := checkHCL(blob); what != "" {
		return ClaimedHCL{}, reason.New(reason.AzureHclMalformed, what)
	}
	h := ClaimedHCL{tee: SNP, hardware: bytes.Clone(blob[hclHeader:hclRuntime])}
	off := snpReportData
	if binary.LittleEndian.Uint32(blob[hclRuntime+8:]) == hclTypeTDX {
		h.tee, off = TDX, tdxReportData
	}
	copy(h.bound[:], h.hardware[off:])
	data := blob[hclJSON : hclJSON+int(binary.LittleEndian.Uint32(blob[hclRuntime+16:]))]
	sum := sha256.Sum256(data)
	if want := [hclReportData]byte(append(sum[:], make([]byte, hclReportData-len(sum))...)); want != h.bound {
		return ClaimedHCL{}, reason.New(reason.AzureRuntimeData, "REPORT_DATA of the hardware report is not the SHA-256 of the runtime data")
	}
	var err error
	if h.runtime, err = readRuntime(data); err != nil {
		return ClaimedHCL{}, reason.Wrap(reason.AzureRuntimeData, "the runtime data: "+err.Error(), err)
	}
	return h, nil
}

// checkHCL says what is wrong with the headers, "" for nothing. Every length has
// to agree with the others before one is used.
func checkHCL(b []byte) string {
	if len(b) < hclJSON || string(b[:4]) != "HCLA" {
		return "not an HCL report: too short, or another magic"
	}
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	if v := u32(4); v != hclVersion1 && v != hclVersion2 {
		return "the header's version is neither 1 nor 2"
	}
	if u32(12) != hclRequest || u32(16) != 0 || !allSame(b[20:hclHeader], 0) {
		return "the header is not that of an attestation that succeeded"
	}
	length := u32(hclRuntime + 16)
	if uint64(length) > uint64(len(b)-hclJSON) || length == 0 {
		return "the runtime data is longer than the report, or empty"
	}
	end := hclJSON + int(length)
	if u32(hclRuntime) != length+(hclJSON-hclRuntime) || u32(8) != uint32(end) {
		return "the lengths disagree"
	}
	if u32(hclRuntime+4) != runtimeFirst || u32(hclRuntime+12) != hclSHA256 {
		return "the runtime data's version is not 1, or its hash not SHA-256"
	}
	if t := u32(hclRuntime + 8); t != hclTypeSNP && t != hclTypeTDX {
		return "the hardware is neither SEV-SNP nor TDX"
	}
	if fill := b[end:]; !allSame(fill, 0) && !allSame(fill, 0xff) {
		return "something stands behind the runtime data"
	}
	return ""
}

func allSame(b []byte, v byte) bool {
	for _, c := range b {
		if c != v {
			return false
		}
	}
	return true
}

// TEE returns the hardware that the report says it is of.
func (h ClaimedHCL) TEE() TEE { return h.tee }

// AK returns the attestation key of the vTPM that the runtime data names, as
// SubjectPublicKeyInfo DER in its plain form; the slice is the caller's. It proves
// nothing before VerifyHCL.
func (h ClaimedHCL) AK() []byte { return bytes.Clone(h.runtime.ak) }
