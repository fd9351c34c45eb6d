package documenttest

import (
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/big"
	"strings"
)

// AzureIDKey is the digest of the key with which Azure signed its paravisor in
// published reports of 2023.
const AzureIDKey = "0356215882a825279a85b300b0b742931d113bf7e32dde2e50ffde7ec743ca491ecdd7f336dc28a6e0b2bb57af7a44a3"

// HCL is what an Azure confidential machine writes into its vTPM.
type HCL struct {
	Version uint32
	Type    uint32 // 2: SNP, 4: TDX
	Runtime []byte // the JSON
	Size    int    // of the NV index, 0 for no fill
}

// AzureRuntime returns runtime data for an attestation key and a machine.
func AzureRuntime(ak *rsa.PublicKey, vm string) []byte {
	n := base64.RawURLEncoding.EncodeToString(ak.N.Bytes())
	e := base64.RawURLEncoding.EncodeToString(big.NewInt(int64(ak.E)).Bytes())
	return fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":%q,"n":%q}],`+
		`"vm-configuration":{"console-enabled":true,"secure-boot":true,"tpm-enabled":true,"tpm-persisted":true,"vmUniqueId":%q},`+
		`"user-data":%q}`, e, n, vm, strings.Repeat("00", 64))
}

// Bind returns the REPORT_DATA of the hardware report: the SHA-256 of the runtime
// data, and zeros.
func (h HCL) Bind() (out [64]byte) {
	sum := sha256.Sum256(h.Runtime)
	copy(out[:], sum[:])
	return out
}

// Bytes returns the content of the NV index around a hardware report of 1184 bytes.
func (h HCL) Bytes(hardware []byte) []byte {
	le, length := binary.LittleEndian, uint32(len(h.Runtime))
	b := make([]byte, 32, 2600)
	copy(b, "HCLA")
	le.PutUint32(b[4:], h.Version)
	le.PutUint32(b[8:], 32+1184+20+length)
	le.PutUint32(b[12:], 2)
	b = append(b, hardware...)
	for _, v := range []uint32{20 + length, 1, h.Type, 1, length} {
		b = le.AppendUint32(b, v)
	}
	b = append(b, h.Runtime...)
	return append(b, make([]byte, max(0, h.Size-len(b)))...)
}

// TDReport returns a TDREPORT with REPORTDATA in the 1184 bytes that an HCL report
// has for it. Nothing signs it: a quote does.
func TDReport(data [64]byte) []byte {
	b := make([]byte, 1184)
	b[0] = 0x81
	copy(b[0x80:], data[:])
	return b
}
