package snp

import (
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// ReportSize is the length of a report in bytes (56860, table 23), whatever its
// version.
const ReportSize = 1184

// Offsets in a report. Numbers are little-endian.
const (
	offVersion   = 0x000 // 4 bytes
	offGuestSVN  = 0x004 // 4
	offPolicy    = 0x008 // 8
	offFamilyID  = 0x010 // 16
	offImageID   = 0x020 // 16
	offVMPL      = 0x030 // 4
	offAlgorithm = 0x034 // 4
	offCurrent   = 0x038 // 8, TCB_VERSION
	offPlatform  = 0x040 // 8
	offKeyInfo   = 0x048 // 4
	offReserved0 = 0x04c // 4, zero
	offData      = 0x050 // 64
	offMeasured  = 0x090 // 48
	offHostData  = 0x0c0 // 32
	offIDKey     = 0x0e0 // 48
	offAuthorKey = 0x110 // 48
	offReportID  = 0x140 // 32
	offAgentID   = 0x160 // 32, REPORT_ID_MA
	offReported  = 0x180 // 8
	offCPUID     = 0x188 // family, model, stepping: from version 3
	offReserved1 = 0x18b // 21, zero
	offChipID    = 0x1a0 // 64
	offCommitted = 0x1e0 // 8
	offFirmware  = 0x1e8 // build, minor, major, zero; twice: current, committed
	offLaunch    = 0x1f0 // 8
	offVectors   = 0x1f8 // two of 8: mitigations at launch and now, from version 5
	offReserved2 = 0x208 // 152, zero
	offSignature = 0x2a0 // r and s, 72 bytes each, then zeros
	offReserved3 = offSignature + 2*scalarSize
)

const (
	scalarSize = 72
	// algorithmP384 is ECDSA P-384 with SHA-384 (56860, chapter 10), the only one.
	algorithmP384 = 1
)

// Bits of POLICY (56860, section 4.3).
const (
	policySMT          = 1 << 16
	policyOne          = 1 << 17 // reserved, one
	policyMigrateMA    = 1 << 18
	policyDebug        = 1 << 19
	policySingleSocket = 1 << 20
	policyCXL          = 1 << 21
	policyAES256       = 1 << 22
	policyNoRAPL       = 1 << 23
	policyHiding       = 1 << 24
	policyNoSwap       = 1 << 25
	policyKnown        = 1<<26 - 1
)

// Bits of PLATFORM_INFO (56860, section 7.3). Newer firmware sets more of them;
// those are passed over, as the chip signed them and nothing here reads them.
const (
	platformSMT   = 1 << 0
	platformTSME  = 1 << 1
	platformECC   = 1 << 2
	platformRAPL  = 1 << 3 // disabled
	platformHide  = 1 << 4
	platformAlias = 1 << 5
	platformTIO   = 1 << 7
)

// Bits of the key information at offKeyInfo.
const (
	keyAuthor     = 1 << 0
	keySigning    = 2 // shift of three bits
	keyInfoKnown  = 1<<5 - 1
	signedByVCEK  = 0
	signedByVLEK  = 1
	signedByNoKey = 7
)

// lowestVMPL is the last privilege level of a guest. A report that the hypervisor
// asked for says 0xffffffff (56860, SNP_HV_REPORT_REQ): no guest chose its content.
const lowestVMPL = 3

// report is a report whose form holds and whose signature was not looked at.
type report struct {
	raw     []byte // ReportSize bytes
	version uint32
	signer  Kind
	signed  bool // the key information names a key
}

// parse judges length, version, reserved bits and the algorithm. Errors:
// snp.malformed, snp.algorithm.
func parse(raw []byte) (report, error) {
	if len(raw) != ReportSize {
		return report{}, reason.Newf(reason.SNPMalformed, "%d bytes, and a report has %d", len(raw), ReportSize)
	}
	r := report{raw: raw}
	r.version = r.u32(offVersion)
	if r.version != 2 && r.version != 3 && r.version != 5 {
		return report{}, reason.Newf(reason.SNPMalformed, "report version %d is none of 2, 3 and 5", r.version)
	}
	if what := r.reserved(); what != "" {
		return report{}, reason.Newf(reason.SNPMalformed, "%s is not what a report of version %d has there", what, r.version)
	}
	switch r.u32(offKeyInfo) >> keySigning & 7 {
	case signedByVCEK:
		r.signer, r.signed = VCEK, true
	case signedByVLEK:
		r.signer, r.signed = VLEK, true
	case signedByNoKey:
	default:
		return report{}, reason.New(reason.SNPMalformed, "the key information names a signing key that there is not")
	}
	if a := r.u32(offAlgorithm); a != algorithmP384 {
		return report{}, reason.Newf(reason.SNPAlgorithm, "signature algorithm %d is not ECDSA P-384 with SHA-384", a)
	}
	return r, nil
}

// reserved names the first reserved bits that are not what they have to be.
func (r report) reserved() string {
	policy := r.u64(offPolicy)
	zeros := [][2]int{{offReserved0, offData}, {offReserved1, offChipID}, {offReserved2, offSignature}, {offReserved3, ReportSize}}
	if r.version < 3 {
		zeros = append(zeros, [2]int{offCPUID, offReserved1})
	}
	if r.version < 5 {
		zeros = append(zeros, [2]int{offVectors, offReserved2})
	}
	switch {
	case policy&policyOne == 0 || policy&^policyKnown != 0:
		return "POLICY"
	case r.u32(offKeyInfo)&^keyInfoKnown != 0:
		return "the key information"
	case r.raw[offFirmware+3] != 0 || r.raw[offFirmware+7] != 0:
		return "the firmware version"
	}
	for _, z := range zeros {
		if !allZero(r.raw[z[0]:z[1]]) {
			return "a reserved field"
		}
	}
	return ""
}

func (r report) u32(off int) uint32       { return binary.LittleEndian.Uint32(r.raw[off:]) }
func (r report) u64(off int) uint64       { return binary.LittleEndian.Uint64(r.raw[off:]) }
func (r report) bytes(off, n int) []byte  { return r.raw[off : off+n] }
func (r report) policy(bit uint64) bool   { return r.u64(offPolicy)&bit != 0 }
func (r report) platform(bit uint64) bool { return r.u64(offPlatform)&bit != 0 }
func (r report) chipID() []byte           { return r.bytes(offChipID, 64) }
func (r report) firmware(off int) (v [3]int) {
	return [3]int{int(r.raw[off+2]), int(r.raw[off+1]), int(r.raw[off])}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
