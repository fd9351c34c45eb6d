// Package nitro judges attestation documents of AWS Nitro: those of an enclave
// (AWS Nitro Enclaves, "Verifying the root of trust") and those of an instance,
// made through its NitroTPM (Amazon EC2, "Validate a NitroTPM Attestation
// Document"). Both are one format, a COSE_Sign1 message under a certificate of
// hours, and differ in the name of the map of PCRs.
//
// It trusts the roots that it is given and nothing that a document carries: the
// first certificate of a bundle has to be a root byte for byte, each certificate
// has to have signed the next, in the order in which they stand. Revocation lists
// are not asked: leaves live for three hours, and nothing a document names is
// fetched.
package nitro
