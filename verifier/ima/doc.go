// Package ima reads the measurement list of the Linux kernel (IMA: PCR 10) and
// decides what it proves about a quote and about the files that were measured.
//
// A list is a claim by whoever sends it. Authenticated is only the sequence of
// template digests, and only when it replays to a PCR 10 that a TPM signed, so
// the package goes in this order:
//
//   - Parse checks the structure of the binary form (the ASCII one is no
//     evidence: it leaves out what the digests are over).
//   - List.Attest goes on from what was attested before, extends record by record
//     until the quoted value is reached, and demands that the first record, the
//     boot aggregate, is the hash of the quoted PCRs: that ties the list to this
//     boot. What stands behind the quoted value is not attested and waits for the
//     next quote, which has to cover it.
//   - Attested.Judge holds each newly attested file against the rules of a zone:
//     digests, signing keys, paths.
//
// What a measurement does not say: that a file was not changed after it was
// measured (a violation record says so, where the kernel saw it), nor what a
// file does that is not measured by the kernel's policy.
//
// Format: Documentation/security/IMA-templates.rst, security/integrity/ima of
// Linux, fields in little-endian order. The package is pure and linear in the
// size of the list; it walks the bytes and keeps nothing for an entry.
package ima
