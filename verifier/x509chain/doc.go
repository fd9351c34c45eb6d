// Package x509chain holds what the certificates of a TPM's keys have in common,
// be they of an EK or of an AK: what lies around them in NV memory, limits
// before anything is parsed, the subject key, the configured CAs with the chain
// to them, and revocation lists.
//
// It knows no reason codes: what a failure is called depends on the certificate.
// Nothing that a certificate names is fetched.
package x509chain
