package ekcert

import "math/big"

// SubjectSPKI exposes the decoder of the subject key: captures come without the
// EK's public area, so their tests ask about the certificate's own key.
func SubjectSPKI(raw []byte) ([]byte, error) {
	_, spki, err := subjectSPKI(raw)
	return spki, err
}

// Unwrap exposes the decoder of what lies in the NV index.
func Unwrap(raw []byte) ([]byte, bool) { return unwrap(raw) }

// ROCA exposes the fingerprint of CVE-2017-15361.
func ROCA(n *big.Int) bool { return roca(n) }
