package tdx

import (
	"encoding/binary"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// RTMRs is the number of runtime measurement registers of a TD.
const RTMRs = 4

// body is a TD report body of 584 or 648 bytes, in the order of Intel's layout.
type body []byte

func (b body) teeTCBSVN() []byte      { return b[0:16] }
func (b body) mrSeam() []byte         { return b[16:64] }
func (b body) mrSignerSeam() []byte   { return b[64:112] }
func (b body) seamAttributes() []byte { return b[112:120] }
func (b body) attributes() []byte     { return b[120:128] }
func (b body) xfam() []byte           { return b[128:136] }
func (b body) mrTD() []byte           { return b[136:184] }
func (b body) mrConfigID() []byte     { return b[184:232] }
func (b body) mrOwner() []byte        { return b[232:280] }
func (b body) mrOwnerConfig() []byte  { return b[280:328] }
func (b body) rtmr(i int) []byte      { return b[328+48*i : 376+48*i] }
func (b body) reportData() []byte     { return b[520:584] }

// mrServiceTD is the hash of the service TDs bound to this one, nil in reports of
// TDX 1.0: a migration TD could take the guest elsewhere.
func (b body) mrServiceTD() []byte {
	if len(b) < bodySize15 {
		return nil
	}
	return b[600:648]
}

// Bits of TDATTRIBUTES (Intel TDX Module Base Architecture, TD attributes). The
// low byte is the group that makes a TD untrusted: debugging and profiling show
// its state to the host.
const (
	attrUntrusted      = 0xff
	attrSeptVEDisable  = 1 << 28
	attrMigratable     = 1 << 29
	attrKnownUntrusted = 1<<0 | 1<<4 | 1<<5 | 1<<6                                                          // DEBUG, HGS_PLUS_PROF, PERF_PROF, PMT_PROF
	attrKnownOther     = 1<<16 | 1<<27 | attrSeptVEDisable | attrMigratable | 1<<30 | 1<<31 | 1<<62 | 1<<63 // ICSSD, LASS, PKS, KL, TPA, PERFMON
)

func (b body) attributeBits() uint64 { return binary.LittleEndian.Uint64(b.attributes()) }

// checkAttributes refuses bits that nobody here can judge: the next one that Intel
// defines could open the guest as DEBUG does.
func (b body) checkAttributes() error {
	if unknown := b.attributeBits() &^ (attrKnownUntrusted | attrKnownOther); unknown != 0 {
		return reason.Newf(reason.TDXMalformed, "TD attributes have reserved bits set: 0x%x", unknown)
	}
	return nil
}

// enclave is the SGX report body of a quoting enclave.
type enclave []byte

func (e enclave) miscSelect() []byte { return e[16:20] }
func (e enclave) attributes() []byte { return e[48:64] }
func (e enclave) mrSigner() []byte   { return e[128:160] }
func (e enclave) isvProdID() uint16  { return binary.LittleEndian.Uint16(e[256:]) }
func (e enclave) isvSVN() uint16     { return binary.LittleEndian.Uint16(e[258:]) }
func (e enclave) reportData() []byte { return e[320:384] }
