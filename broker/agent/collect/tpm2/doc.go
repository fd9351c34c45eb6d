// Package tpm2collect talks to the TPM of this host and collects what the tpm2
// evidence format needs: endorsement key and certificate, attestation key,
// credential activation, quote, certification of the SVID key, event log. It
// also lends the SVID key, which never leaves the TPM, as a crypto.Signer.
//
// What leaves this package are raw TPM structures without their outer TPM2B
// size, in big-endian TPM wire order, as wire.md wants them. Nothing here is
// judged: the broker trusts none of it before its own checks.
//
// All keys are primary objects of fixed templates, so the same TPM gives the
// same keys on each run and no key blob has to be kept:
//
//	EK   endorsement hierarchy, TCG EK Credential Profile templates L-1, L-2, H-1, H-3
//	AK   endorsement hierarchy, restricted signing; there, and only there, the
//	     counters in a quote are not obfuscated (TPM 2.0 part 1, 36.7)
//	SVID owner hierarchy, unrestricted signing; another rotation value gives another key
//
// The hierarchies must have the empty password, which is how a TPM is shipped.
package tpm2collect
