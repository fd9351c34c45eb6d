// Package eventlog reads UEFI event logs in the crypto-agile form (TCG PC Client
// Platform Firmware Profile, section 10) and decides what they prove about a
// quote.
//
// A log is a claim by whoever sends it. Only the sequence of digests of a PCR is
// authenticated, and only when it replays to a value that a TPM signed: event
// types, event data and the order between PCRs are not. So the package keeps
// three things apart:
//
//   - Parse checks form. Its result is unverified.
//   - Log.Explain demands that every quoted PCR is explained: it replays to the
//     quoted value, or it is at its reset value and the log has no event for it.
//     Go libraries in use let a PCR without events pass with any value.
//   - What the data says (Secure Boot, the facts of a Boot) counts as proved only
//     where the per-PCR grammar of the profile holds and digests are the hash of
//     the data. A log that breaks a grammar still replays: several real ones do.
//
// A log is judged in one bank, SHA-256 or SHA-384. One with SHA-1 digests alone is
// refused.
//
// The package is pure: no clock, no files, no environment. It is linear in the
// size of the log, does not recurse, and checks every count against the bytes
// that remain before it allocates. Callers bound the size of a log (1 MiB).
package eventlog
