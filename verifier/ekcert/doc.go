// Package ekcert judges EK certificates: whether a TPM manufacturer vouches for
// an endorsement key. It answers "is it genuine?", never "is it ours?".
//
// It trusts the configured roots and the caller's key and clock. It follows the
// TCG EK Credential Profile 2.5 with what real certificates need on top: bytes
// around the certificate in NV memory, RSAES-OAEP keys that crypto/x509 leaves
// out, and critical extensions that it does not know. Nothing that a certificate
// names is fetched; revocation lists are those that the caller hands in.
package ekcert
