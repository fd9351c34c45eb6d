package verifier

import "time"

// FormatTPM2 is a TPM 2.0 quote with its firmware log.
const FormatTPM2 = "tpm2"

// formats is the explicit table of what this verifier can judge.
var formats = map[string]func(Evidence, Expectation, Trust, time.Time) (Appraisal, error){
	FormatTPM2: appraiseTPM2,
}

// Verifies reports whether there is a verifier for format.
func Verifies(format string) bool {
	_, ok := formats[format]
	return ok
}
