package ekcert

import "crypto/x509"

// SubjectKey returns the subject key of an EK certificate as Verify wants an
// EK's (SubjectPublicKeyInfo in plain form), nil where it cannot be read. It is
// for captures that come without the EK: a certificate judged for its own key
// says that a manufacturer made such a TPM, not that anybody has it.
func SubjectKey(raw []byte) []byte {
	der, ok := unwrap(raw)
	if !ok {
		return nil
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	_, spki, err := subjectSPKI(c.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil
	}
	return spki
}
