package eventlog

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// Secure Boot as a log proves it.
const (
	SecureBootOn      = "on"
	SecureBootOff     = "off"
	SecureBootUnknown = "unknown"
)

// Finding is something that a log does otherwise than the profile says. It
// refuses nothing by itself: it makes what the event data of that PCR says a
// claim instead of a proof. Each code stands at most once a PCR, for its first
// event.
//
// Check is "eventlog.grammar", Outcome reason.Noted, PCR and Event say where
// (Event 0: what concerns no single one), and Detail holds no bytes of the log.
type Finding = reason.Finding

// Explained is a log that explained a verified quote. The zero value proves
// nothing.
type Explained struct {
	base *explained // shared by copies and by quotes of one log; not changed any more
	user *userspace // of this quote, nil without a userspace log
}

// explained is what the bytes of a log and the choice of PCRs decide.
type explained struct {
	size       int    // of a digest, bytes
	digests    []byte // of the quoted PCRs, PCR after PCR
	ends       [PCRs]int
	findings   []Finding
	secureBoot string

	secureBootEvent int // index of the variable

	unproved error
	boot     Boot
}

// of returns the digests of a PCR, one after the other.
func (x *explained) of(pcr int) []byte {
	from := 0
	if pcr > 0 {
		from = x.ends[pcr-1]
	}
	return x.digests[from:x.ends[pcr]]
}

// EventDigests returns the digests that were extended into a PCR, in log order,
// in the bank of the log: those of the firmware's log, then those of userspace.
// They are proved: the quoted value has no other preimage. Nil where the PCR was
// not quoted or has no event. The slices are the caller's.
func (x Explained) EventDigests(pcr int) [][]byte {
	if x.base == nil || pcr < 0 || pcr > maxPCR {
		return nil
	}
	all := bytes.Clone(x.base.of(pcr))
	if x.user != nil {
		all = append(all, x.user.digests[pcr]...)
	}
	if len(all) == 0 {
		return nil
	}
	return slices.Collect(slices.Chunk(all, x.base.size))
}

// SecureBoot returns SecureBootOn or SecureBootOff where PCR 7 was quoted and
// its events prove it, else SecureBootUnknown.
func (x Explained) SecureBoot() string {
	if x.base == nil || x.base.secureBoot == "" {
		return SecureBootUnknown
	}
	return x.base.secureBoot
}

// SecureBootUnproved returns why SecureBoot is unknown, nil where it is known:
// eventlog.pcr7_grammar, eventlog.separator, eventlog.data_digest or
// eventlog.variable.
func (x Explained) SecureBootUnproved() error {
	if x.base == nil || x.base.secureBoot == "" && x.base.unproved == nil {
		return errNotQuoted
	}
	return x.base.unproved
}

var errNotQuoted = reason.New(reason.EventLogPCR7Grammar, "PCR 7 was not quoted")

// Findings returns what the quoted PCRs do otherwise than the profile says, in
// log order.
func (x Explained) Findings() []Finding {
	if x.base == nil {
		return nil
	}
	return slices.Clone(x.base.findings)
}

// Boot returns what the log says about the boot, and which of it is proved.
func (x Explained) Boot() Boot {
	if x.base == nil {
		return Boot{}
	}
	b := x.base.boot
	if x.user != nil {
		if x.user.doubt != "" {
			b = b.doubting(x.user.doubt)
		}
		b.facts = slices.Concat(b.facts, x.user.facts)
		b.omitted += x.user.omitted
		b.digest = digestOf(b.digest, x.user.facts, x.user.omitted)
	}
	return b
}

// note adds a finding unless its PCR has one of that code, so that a log of
// twenty thousand separators is one line.
//
// "#" in the text stands for the number of the event. A log has as many slips as
// its sender likes, so what is not kept must cost nothing: no format verbs.
func (x *explained) note(pcr int, code reason.Code, event int, text string) {
	for _, f := range x.findings {
		if f.PCR == pcr && f.Code == code {
			return
		}
	}
	x.findings = append(x.findings, Finding{
		Check: "eventlog.grammar", Outcome: reason.Noted, Part: "event_log", PCR: pcr, InPCR: true, Event: event, Code: code,
		Detail: "pcr=" + strconv.Itoa(pcr) + ": " + numbered(text, event),
	})
}

func numbered(text string, event int) string {
	return strings.Replace(text, "#", strconv.Itoa(event), 1)
}

// sound reports whether nothing weakens the events of a PCR.
func (x *explained) sound(pcr int) bool {
	return !slices.ContainsFunc(x.findings, func(f Finding) bool { return f.PCR == pcr && f.Code != "" })
}

// facts judges the events of the PCRs that were quoted.
func (l *Log) facts(p *replayed, known [PCRs]bool) Explained {
	x := &explained{size: l.bank.Size()}
	var next [PCRs]int
	total := 0
	for pcr, n := range p.count {
		next[pcr] = total
		if known[pcr] {
			total += n * x.size
		}
		x.ends[pcr] = total
	}
	x.digests = make([]byte, total)
	g := grammar{x: x, bank: l.bank}
	b := newBootReader(l, known)
	for w := l.walk(); w.next(); {
		e := &w.event
		if !known[e.PCR] {
			continue
		}
		if e.extends() {
			next[e.PCR] += copy(x.digests[next[e.PCR]:], e.Digest)
			g.observe(e)
			b.observe(e)
		}
	}
	g.finish(known)
	x.boot = b.finish(x)
	return Explained{base: x}
}
