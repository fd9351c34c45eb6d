package eventlog

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Bank is a bank of PCRs, by the id of its hash in the TCG Algorithm Registry. A
// log is judged in one bank: a PCR that is right in another proves nothing (a
// library in use accepts a right SHA-1 value beside a wrong SHA-256 one).
type Bank uint16

// The banks that a quote can be judged in, and SHA-1, which is only ever listed.
const (
	SHA1   Bank = 0x0004
	SHA256 Bank = 0x000B
	SHA384 Bank = 0x000C
)

// judged are the banks that a quote may be in.
var judged = [...]Bank{SHA256, SHA384}

func errBank(b Bank) error {
	return reason.Newf(reason.EventLogDigests, "the bank %s is not judged", b)
}

// Size is the length of a value of the bank in bytes, 0 for a bank that is not
// judged.
func (b Bank) Size() int {
	switch b {
	case SHA256:
		return sha256.Size
	case SHA384:
		return sha512.Size384
	}
	return 0
}

// String is the name that the CEL and tpm2-tools use: "sha256", or the id in hex.
func (b Bank) String() string {
	if name, ok := bankNames[b]; ok {
		return name
	}
	return fmt.Sprintf("0x%04x", uint16(b))
}

var bankNames = map[Bank]string{
	SHA1: "sha1", SHA256: "sha256", SHA384: "sha384", 0x000D: "sha512", 0x0012: "sm3_256",
	0x0027: "sha3_256", 0x0028: "sha3_384", 0x0029: "sha3_512",
}

// BankNamed returns the judged bank of that name, 0 for any other.
func BankNamed(name string) Bank {
	for _, b := range judged {
		if b.String() == name {
			return b
		}
	}
	return 0
}

// value is a PCR of any judged bank; what the bank does not fill stays zero.
type value [sha512.Size384]byte

// hash is the bank's hash of b.
func (b Bank) hash(data []byte) (v value) {
	if b == SHA384 {
		return value(sha512.Sum384(data))
	}
	h := sha256.Sum256(data)
	copy(v[:], h[:])
	return v
}

// extend is TPM2_PCR_Extend: H(old ‖ digest).
func (b Bank) extend(v *value, digest []byte) {
	var buf [2 * sha512.Size384]byte
	n := b.Size()
	copy(buf[:n], v[:n])
	copy(buf[n:2*n], digest)
	*v = b.hash(buf[:2*n])
}

// covers reports whether digest is the hash of data.
func (b Bank) covers(digest, data []byte) bool {
	v := b.hash(data)
	return bytes.Equal(v[:b.Size()], digest)
}

// reset is the value of a PCR after TPM2_Startup(CLEAR) at locality 0: the PCRs of
// a dynamic launch (17 to 22) start with all bits set.
func (b Bank) reset(pcr int) value {
	var v value
	if pcr >= 17 && pcr <= 22 {
		for i := range b.Size() {
			v[i] = 0xff
		}
	}
	return v
}

// separates reports the digest of a separator, whatever the event calls itself.
func (b Bank) separates(digest []byte) bool {
	known := &separators256
	if b == SHA384 {
		known = &separators384
	}
	n := b.Size()
	return bytes.Equal(known[0][:n], digest) || bytes.Equal(known[1][:n], digest)
}

var (
	separators256 = SHA256.separators()
	separators384 = SHA384.separators()
)

func (b Bank) separators() [2]value {
	return [2]value{b.hash([]byte(separatorZeros)), b.hash([]byte(separatorOnes))}
}
