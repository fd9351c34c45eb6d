package verifier

import (
	"maps"
	"slices"
	"time"
)

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

// judgeOf returns what judges evidence whose node is named by format.
func judgeOf(format string) (judge, bool) {
	if by, ok := formats[format]; ok {
		return by, true
	}
	switch {
	case itemFormats[format] == nil || format == FormatNVIDIA:
		return nil, false
	case Quoted(format):
		return appraiseQuoted, true
	}
	return appraiseDocument, true
}

// Verifies reports whether evidence of format can name a node. A GPU's report
// cannot: it is evidence beside that of the host.
func Verifies(format string) bool {
	_, ok := judgeOf(format)
	return ok
}

// VerifiesItem reports whether a document of format can stand beside other
// evidence.
func VerifiesItem(format string) bool {
	return itemFormats[format] != nil && format != FormatJoinToken
}

// Protected reports whether format is the report of hardware that keeps memory
// from its host: a confidential VM, an enclave, a GPU.
func Protected(format string) bool {
	switch format {
	case FormatNitro, FormatSNP, FormatTDX, FormatAzureCVM, FormatCCA, FormatNVIDIA:
		return true
	}
	return false
}

// Quoted reports whether format is a document that vouches for the attestation
// key of a TPM, whose quote comes with it.
func Quoted(format string) bool { return format == FormatGCEAKCert || format == FormatAzureCVM }

// NamedByEK reports whether the EK of a TPM names a node of this format.
func NamedByEK(format string) bool { return formats[format] != nil }

// Quotes reports whether a TPM quotes in evidence whose node is named by format.
func Quotes(format string) bool { return formats[format] != nil || Quoted(format) }

// Formats lists every format that can name a node or stand beside one, in order.
func Formats() []string {
	out := slices.Collect(maps.Keys(itemFormats))
	for f := range formats {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}
