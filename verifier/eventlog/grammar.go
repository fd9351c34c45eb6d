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
	x          *Explained
	separators [8]int
	pcr7       pcr7
	callingApp bool
}

func (g *grammar) observe(e Event) {
	if e.PCR == 7 {
		g.pcr7.observe(g.x, e)
	}
	if e.Type == TypeSeparator && e.PCR < len(g.separators) {
		g.separator(e)
	} else if e.PCR == 4 {
		g.pcr4(e)
	}
	if g.mustHash(e) && !e.dataHashed() {
		g.x.note(e.PCR, reason.EventLogDataDigest, "the data of event %d does not hash to its digest", e.Index)
	}
	g.variables(e)
}

// mustHash reports the types whose digest is the hash of the data in every real
// log seen. Of other types data is never more than a claim.
func (g *grammar) mustHash(e Event) bool {
	switch e.Type {
	case TypeSeparator, TypeVariableDriverConfig, TypeVariableAuthority, TypeEFIAction, TypeGPTEvent, TypeSCRTMVersion, TypeNonhostInfo:
		return true
	}
	return false
}

// separator wants one separator in each of PCR 0 to 7: it divides what the
// firmware measured from what came after it.
func (g *grammar) separator(e Event) {
	g.separators[e.PCR]++
	switch {
	case g.separators[e.PCR] > 1:
		g.x.note(e.PCR, reason.EventLogSeparator, "event %d is a second separator", e.Index)
	case !plainSeparator(e):
		g.x.note(e.PCR, reason.EventLogSeparator, "event %d is a separator with other data", e.Index)
	}
}

// plainSeparator: 00000000 or FFFFFFFF. 00000001 says that the firmware failed.
func plainSeparator(e Event) bool {
	return string(e.Data) == separatorZeros || string(e.Data) == separatorOnes
}

// pcr4 wants boot attempts and the applications that they started. A retyped
// application hides from whoever lists what was booted.
func (g *grammar) pcr4(e Event) {
	switch e.Type {
	case TypeEFIAction:
		g.callingApp = g.callingApp || string(e.Data) == callingEFIApp
	case TypeBootServicesApp:
		if !g.callingApp {
			g.x.note(4, "", "event %d is an application before any boot attempt, as in many real logs", e.Index)
		}
	case TypeCompactHash, TypeOmitBootDeviceEvents, TypeBootServicesDriver, TypeRuntimeServicesDriver:
	default:
		g.x.note(4, reason.EventLogPCR4Grammar, "event %d is no boot attempt, application or separator", e.Index)
	}
}

// variables checks the form of UEFI variables wherever they stand: policy and
// people read them.
func (g *grammar) variables(e Event) {
	if e.Type != TypeVariableDriverConfig && e.Type != TypeVariableAuthority {
		return
	}
	v, ok := parseVariable(e.Data)
	if !ok {
		g.x.note(e.PCR, reason.EventLogVariable, "event %d is no UEFI variable", e.Index)
		return
	}
	if e.Type != TypeVariableDriverConfig {
		return
	}
	if e.PCR != 7 && v.isSecureBoot() {
		g.x.note(e.PCR, reason.EventLogPCR7Grammar, "event %d names SecureBoot outside PCR 7 and is ignored", e.Index)
	}
	if v.holdsSignatures() && !validSignatureLists(v.data) {
		g.x.note(e.PCR, reason.EventLogSignatureList, "event %d holds an impossible signature list", e.Index)
	}
}

func (g *grammar) finish(known [PCRs]bool) {
	for pcr, n := range g.separators {
		if known[pcr] && n == 0 {
			g.x.note(pcr, reason.EventLogSeparator, "there is no separator")
		}
	}
	if known[7] {
		g.pcr7.finish(g.x)
	}
}

// pcr7 is the grammar of PCR 7: variables, one separator, authorities. Any slip
// leaves Secure Boot unproved. The first one is named, but a wrong separator
// before all others: without it nothing says which events are the firmware's.
type pcr7 struct {
	separated bool
	seen      int // SecureBoot variables before the separator
	state     string
	err       *reason.Error
}

func (p *pcr7) fail(x *Explained, code reason.Code, format string, args ...any) {
	if p.err == nil || code == reason.EventLogSeparator && p.err.Code != code {
		p.err = reason.Newf(code, format, args...)
	}
	x.note(7, code, format, args...)
}

func (p *pcr7) observe(x *Explained, e Event) {
	switch {
	case e.Type == TypeSeparator && p.separated:
		p.fail(x, reason.EventLogSeparator, "event %d is a second separator", e.Index)
	case e.Type == TypeSeparator:
		p.separated = true
		if !plainSeparator(e) {
			p.fail(x, reason.EventLogSeparator, "event %d is a separator with other data", e.Index)
		} else if !e.dataHashed() {
			p.fail(x, reason.EventLogDataDigest, "the data of event %d does not hash to its digest", e.Index)
		}
	case p.separated && e.Type == TypeVariableAuthority:
		// Their data is known to differ from the digest (a shim defect): usable for
		// nothing, and no reason to doubt what stands before the separator.
	case p.separated:
		p.fail(x, reason.EventLogPCR7Grammar, "event %d after the separator is no authority", e.Index)
	case e.Type == TypeVariableDriverConfig:
		p.config(x, e)
	default:
		p.fail(x, reason.EventLogPCR7Grammar, "event %d before the separator is no variable", e.Index)
	}
}

// config judges a variable before the separator. All of them must hash, not only
// SecureBoot: otherwise the real SecureBoot event could pose as another one.
func (p *pcr7) config(x *Explained, e Event) {
	if !e.dataHashed() {
		p.fail(x, reason.EventLogDataDigest, "the data of event %d does not hash to its digest", e.Index)
		return
	}
	v, ok := parseVariable(e.Data)
	if !ok {
		p.fail(x, reason.EventLogVariable, "event %d is no UEFI variable", e.Index)
		return
	}
	if !v.isSecureBoot() {
		return
	}
	p.seen++
	switch {
	case p.seen > 1:
		p.fail(x, reason.EventLogPCR7Grammar, "event %d is a second SecureBoot variable", e.Index)
	case len(v.data) == 0, len(v.data) == 1 && v.data[0] == 0:
		p.state = SecureBootOff
	case len(v.data) == 1 && v.data[0] == 1:
		p.state = SecureBootOn
	default:
		p.fail(x, reason.EventLogPCR7Grammar, "event %d gives SecureBoot an impossible value", e.Index)
	}
}

func (p *pcr7) finish(x *Explained) {
	if !p.separated {
		p.fail(x, reason.EventLogSeparator, "there is no separator")
	}
	if p.seen == 0 {
		p.fail(x, reason.EventLogPCR7Grammar, "there is no SecureBoot variable before the separator")
	}
	if p.err != nil {
		x.unproved = p.err
		return
	}
	x.secureBoot = p.state
}
