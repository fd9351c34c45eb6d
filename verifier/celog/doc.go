// Package celog reads the measurement log of systemd's userspace,
// /run/log/systemd/tpm2-measure.log: one JSON object a record, in the manner of the
// TCG Canonical Event Log (CEL-JSON), as a JSON text sequence (RFC 7464) or a line
// each. It says what systemd extended into PCR 9, 11, 12, 13 and 15 after the
// firmware's log had ended: boot phases, machine id, file systems, NV indexes.
//
// Like the firmware's log it is a claim by whoever sends it: only the sequence of
// digests of a PCR is authenticated, and only when it leads from where the
// firmware's log ends to a value that a TPM signed. See eventlog.Log.ExplainWith.
//
// The package is pure, linear in the size of the log, and does not recurse.
// Callers bound the size of a log (1 MiB); a record has at most 64 KiB.
package celog
