package verifier

import (
	"slices"

	"github.com/zonebroker/zonebroker/verifier/advisory"
	"github.com/zonebroker/zonebroker/verifier/document"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
	"github.com/zonebroker/zonebroker/verifier/ima"
	"github.com/zonebroker/zonebroker/verifier/reason"
	"github.com/zonebroker/zonebroker/verifier/tpm2"
)

// Binding classes: how firmly the evidence binds the nonce and the key.
const (
	ClassA = document.ClassA
	ClassB = document.ClassB
	ClassC = document.ClassC
)

// Residency of the SVID key.
const (
	KeyTPM      = "tpm"      // TPM2_Certify proved that it lives in the same TPM
	KeySoftware = "software" // only possession is proved
)

// Finding is the outcome of one check. Those that Appraise makes carry no bytes:
// tpm2.Verify has them for whoever wants to look.
type Finding = reason.Finding

// Appraisal is what was proved about a host at one moment. The zero value
// proves nothing.
type Appraisal struct {
	format       string
	class        string
	key          string
	authentic    bool
	genuine      bool
	manufacturer string
	tpm          TPMFacts
	advisories   []advisory.Advisory
	quoted       bool
	quote        tpm2.Quote
	pcrs         map[int][]byte // of quote; whoever is outside gets a copy
	clock        tpm2.Clock
	firmware     uint64
	hasLog       bool
	log          eventlog.Explained
	logBytes     []byte
	logDigest    [32]byte
	ima          *ima.Attested // nil where PCR 10 was not selected
	documents    []Document    // that of format first
	findings     []Finding
}

// Format returns the evidence format, "" for an Appraisal that proves nothing.
func (a Appraisal) Format() string { return a.format }

// lab says that the keys behind the evidence may be software.
func (a *Appraisal) lab() bool { return a.format == FormatTPM2Lab }

// BindingClass returns ClassA, ClassB or ClassC.
func (a Appraisal) BindingClass() string { return a.class }

// KeyResidency returns KeyTPM or KeySoftware, "" where no key was proved.
func (a Appraisal) KeyResidency() string { return a.key }

// Authentic reports whether the author is known: the evidence is signed by the
// expected AK over this challenge. Only such refusals are recorded in full; a
// replayed quote proves nothing about who sent it.
func (a Appraisal) Authentic() bool { return a.authentic }

// Genuine reports whether the EK certificate chain verified, now or at
// enrolment, or a document that names the node did.
func (a Appraisal) Genuine() bool { return a.genuine }

// Manufacturer returns the TPM manufacturer of the verified EK certificate in
// TCG form, for example "STM"; "" without one.
func (a Appraisal) Manufacturer() string { return a.manufacturer }

// PCR returns the quoted SHA-256 value of PCR i; false where it was not quoted.
func (a Appraisal) PCR(i int) ([]byte, bool) {
	if !a.quoted {
		return nil, false
	}
	return a.quote.PCR(i)
}

// PCRs returns all quoted values; the map is the caller's.
func (a Appraisal) PCRs() map[int][]byte {
	if !a.quoted {
		return nil
	}
	return a.quote.PCRValues()
}

// EventDigests returns the SHA-256 digests of the events that extended a PCR, in
// log order; nil without a log that explains the quote.
func (a Appraisal) EventDigests(pcr int) [][]byte {
	if !a.hasLog {
		return nil
	}
	return a.log.EventDigests(pcr)
}

// SecureBoot returns "on" or "off" where the log proves it, else "unknown".
func (a Appraisal) SecureBoot() string {
	if !a.hasLog {
		return "unknown"
	}
	return a.log.SecureBoot()
}

// SecureBootUnproved returns why the log that explains the quote does not prove
// the state of Secure Boot, nil where it does or where there is no log.
func (a Appraisal) SecureBootUnproved() error {
	if !a.hasLog {
		return nil
	}
	return a.log.SecureBootUnproved()
}

// Boot returns what the log that explains the quote says about the boot, and
// which of it is proved; nothing without such a log.
func (a Appraisal) Boot() eventlog.Boot {
	if !a.hasLog {
		return eventlog.Boot{}
	}
	return a.log.Boot()
}

// KernelParameters returns the parameters of the kernel command line, false where
// the log does not prove one.
func (a Appraisal) KernelParameters() ([]string, bool) {
	c := a.Boot().CommandLine()
	if !c.Known() || !c.Proved() {
		return nil, false
	}
	return c.Tokens(), true
}

// EventLog returns the log that explained the quote, as sent or as kept; nil
// without one.
func (a Appraisal) EventLog() []byte { return a.logBytes }

// EventLogDigest returns the SHA-256 of EventLog, zero without one.
func (a Appraisal) EventLogDigest() [32]byte { return a.logDigest }

// Clock returns the signed clock triple: a hint about history, never freshness.
func (a Appraisal) Clock() tpm2.Clock { return a.clock }

// FirmwareVersion returns TPMS_ATTEST.firmwareVersion.
func (a Appraisal) FirmwareVersion() uint64 { return a.firmware }

// Findings returns the outcome of every check, passed ones too, in order.
func (a Appraisal) Findings() []Finding { return slices.Clone(a.findings) }

// Events returns the codes of class event.
func (a Appraisal) Events() []reason.Code {
	var out []reason.Code
	for _, f := range a.findings {
		if f.Code != "" && reason.Lookup(f.Code).Class == reason.Event {
			out = append(out, f.Code)
		}
	}
	return out
}

// Refusals returns every finding that denies, as errors, in order of the checks.
func (a Appraisal) Refusals() []*reason.Error {
	var out []*reason.Error
	for _, f := range a.findings {
		if f.Code != "" && f.Outcome == reason.Refused {
			out = append(out, reason.New(f.Code, f.Detail))
		}
	}
	return out
}
