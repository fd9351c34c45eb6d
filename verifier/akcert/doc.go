// Package akcert judges AK certificates: whether a cloud vouches that an
// attestation key lives in the virtual TPM of one of its machines. It takes the
// place of an EK certificate with credential activation on clouds that certify
// the AK of each machine themselves, Google Compute Engine and Azure.
//
// It trusts the configured roots and the caller's key and clock. Its order of
// checks is that of package ekcert. Nothing that a certificate names is fetched.
package akcert
