package verifier

import "time"

// Formats of evidence.
const (
	// FormatTPM2 is a TPM 2.0 quote with its firmware log.
	FormatTPM2 = "tpm2"
	// FormatTPM2Lab has the form of FormatTPM2, but the keys may be software: it
	// proves nothing about a machine, and exists so that load can be made without
	// a thousand TPMs. It is a format of its own, so that no zone of hardware can
	// take it for a quote: the name stands inside the binding.
	FormatTPM2Lab = "tpm2.lab"
)

// judge fills an Appraisal. Everything comes by reference: under it signatures
// are verified, and a stack of 16 KiB is enough for a request as long as the
// frames above are small.
type judge func(a *Appraisal, ev *Evidence, want *Expectation, trust *Trust, now time.Time) error

// formats is the explicit table of what this verifier can judge.
var formats = map[string]judge{
	FormatTPM2:    appraiseTPM2,
	FormatTPM2Lab: appraiseTPM2,
}

// Verifies reports whether there is a verifier for format.
func Verifies(format string) bool {
	_, ok := formats[format]
	return ok
}
