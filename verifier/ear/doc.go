// Package ear verifies attestation results of other verifiers (passport model of
// RFC 9334): EAT Attestation Results (draft-ietf-rats-ear) as JWT, of Veraison,
// Trustee or whoever else is configured with a key.
//
// It trusts the configured verifiers to have judged the evidence; it checks that
// one of them says so, about this challenge, and that every submodule that counts
// is affirming. The key in a token's own header is never used: Trustee puts one
// there, and whoever believes it believes everybody.
package ear
