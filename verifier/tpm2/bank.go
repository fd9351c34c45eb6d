package tpm2

import (
	"crypto/sha256"
	"crypto/sha512"
)

// Bank is a PCR bank by its TPM_ALG_ID. The zero value means BankSHA256.
type Bank uint16

// Banks that can be asked for. SHA-1 can be named, so that whoever wants it is
// told no by the same check as whoever sends it.
const (
	BankSHA1   = Bank(algSHA1)
	BankSHA256 = Bank(algSHA256)
	BankSHA384 = Bank(algSHA384)
)

// ParseBank reads "sha1", "sha256" or "sha384".
func ParseBank(s string) (Bank, bool) {
	for _, b := range []Bank{BankSHA1, BankSHA256, BankSHA384} {
		if b.String() == s {
			return b, true
		}
	}
	return 0, false
}

// String returns the name that ParseBank reads; "sha256" for the zero value.
func (b Bank) String() string {
	switch b {
	case BankSHA1:
		return "sha1"
	case BankSHA384:
		return "sha384"
	}
	return "sha256"
}

// alg returns the TPM_ALG_ID.
func (b Bank) alg() uint16 {
	if b == 0 {
		return algSHA256
	}
	return uint16(b)
}

// size returns the length of a value in bytes, 0 for a bank whose values prove
// nothing: two inputs with one SHA-1 can be made.
func (b Bank) size() int {
	switch b.alg() {
	case algSHA256:
		return sha256.Size
	case algSHA384:
		return sha512.Size384
	}
	return 0
}
