package eventlog

import (
	"github.com/zonebroker/zonebroker/verifier/reason"
)

// grammar walks the events of the quoted PCRs once and writes findings.
//
// Why a grammar at all: replay proves the digests of a PCR in order, but neither
// types nor data. Somebody with root on a host can append to a PCR, and then
// rename what the firmware measured into something that a reader skips, and
// present what was appended as the firmware's word. That fails if every event
// from the first one to the separator has to be of an expected type with data
// that hashes to its digest: the firmware's own SecureBoot event then cannot be
// presented as anything else.
type grammar struct {
	x          *explained
	bank       Bank
	separators [8]int
	pcr7       pcr7
	callingApp bool
}

func (g *grammar) observe(e *Event) {
	hashed := true
	if mustHash(e) {
		hashed = g.bank.covers(e.Digest, e.Data)
	}
	if e.PCR == 7 {
		g.pcr7.observe(g.x, e, hashed)
	}
	if e.PCR < len(g.separators) && (e.Type == TypeSeparator || g.bank.separates(e.Digest)) {
		g.separator(e)
	} else if e.PCR == 4 {
		g.pcr4(e)
	}
	if !hashed {
		g.x.note(e.PCR, reason.EventLogDataDigest, e.Index, "the data of event # does not hash to its digest")
	}
	g.strays(e)
	g.variables(e)
}

// mustHash reports the types whose digest is the hash of the data in every real
// log seen. Of other types data is never more than a claim.
func mustHash(e *Event) bool {
	switch e.Type {
	case TypeSeparator, TypeVariableDriverConfig, TypeVariableAuthority, TypeEFIAction, TypeGPTEvent, TypeSCRTMVersion,
		TypeNonhostInfo, TypeOmitBootDeviceEvents:
		return true
	}
	return false
}

// separator wants one separator in each of PCR 0 to 7: it divides what the
// firmware measured from what came after it. It is known by its digest, which
// nobody can change, and then has to be called what it is: under another type
// the real one would leave its place to one that was appended later.
func (g *grammar) separator(e *Event) {
	g.separators[e.PCR]++
	switch {
	case e.Type != TypeSeparator:
		g.x.note(e.PCR, reason.EventLogSeparator, e.Index, "event # has the digest of a separator and another type")
	case g.separators[e.PCR] > 1:
		g.x.note(e.PCR, reason.EventLogSeparator, e.Index, "event # is a second separator")
	case !plainSeparator(e):
		g.x.note(e.PCR, reason.EventLogSeparator, e.Index, "event # is a separator with other data")
	}
}

// plainSeparator: 00000000 or FFFFFFFF. 00000001 says that the firmware failed.
func plainSeparator(e *Event) bool {
	return string(e.Data) == separatorZeros || string(e.Data) == separatorOnes
}

// pcr4 wants boot attempts and the images that they started. A retyped
// application hides from whoever lists what was booted; an attempt called an
// application stands in the list as an image that never was.
func (g *grammar) pcr4(e *Event) {
	switch e.Type {
	case TypeEFIAction:
		g.callingApp = g.callingApp || string(e.Data) == callingEFIApp
	case TypeBootServicesApp, TypeBootServicesDriver, TypeRuntimeServicesDriver:
		if g.bank.covers(e.Digest, []byte(callingEFIApp)) {
			g.x.note(4, reason.EventLogPCR4Grammar, e.Index, "event # has the digest of a boot attempt and another type")
		} else if !g.callingApp {
			g.x.note(4, "", e.Index, "event # is an application before any boot attempt, as in many real logs")
		}
	case TypeOmitBootDeviceEvents:
	default:
		g.x.note(4, reason.EventLogPCR4Grammar, e.Index, "event # is no boot attempt, application or separator")
	}
}

// strays names events that belong into another PCR. They are ignored there; who
// only lists types would read them.
func (g *grammar) strays(e *Event) {
	switch {
	case e.Type == TypeVariableAuthority && e.PCR != 7:
		g.x.note(e.PCR, reason.EventLogPCR7Grammar, e.Index, "event # is an authority outside PCR 7 and is ignored")
	case e.Type == TypeBootServicesApp && e.PCR != 4 && e.PCR != 2:
		g.x.note(e.PCR, reason.EventLogPCR4Grammar, e.Index, "event # is a boot application outside PCR 4 and is ignored")
	case (e.Type == TypeSCRTMVersion || e.Type == TypeSCRTMContents) && e.PCR != 0:
		g.x.note(e.PCR, "", e.Index, "event # names firmware outside PCR 0 and is ignored")
	}
}

// variables checks the form of UEFI variables wherever they stand: policy and
// people read them.
func (g *grammar) variables(e *Event) {
	if e.Type != TypeVariableDriverConfig && e.Type != TypeVariableAuthority {
		return
	}
	v, ok := parseVariable(e.Data)
	if !ok {
		g.x.note(e.PCR, reason.EventLogVariable, e.Index, "event # is no UEFI variable")
		return
	}
	if e.Type != TypeVariableDriverConfig {
		return
	}
	if e.PCR != 7 && v.isSecureBoot() {
		g.x.note(e.PCR, reason.EventLogPCR7Grammar, e.Index, "event # names SecureBoot outside PCR 7 and is ignored")
	}
	if v.holdsSignatures() && !validSignatureLists(v.data) {
		g.x.note(e.PCR, reason.EventLogSignatureList, e.Index, "event # holds an impossible signature list")
	}
}

func (g *grammar) finish(known [PCRs]bool) {
	for pcr, n := range g.separators {
		if known[pcr] && n == 0 {
			g.x.note(pcr, reason.EventLogSeparator, 0, "there is no separator")
		}
	}
	if known[7] {
		g.pcr7.finish(g.x)
	}
}
