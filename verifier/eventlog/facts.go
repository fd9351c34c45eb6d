package eventlog

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"

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
type Finding struct {
	PCR    int
	Code   reason.Code // "" for a note that weakens nothing
	Detail string      // holds no bytes of the log
}

// Explained is a log that explained a verified quote. The zero value proves
// nothing.
type Explained struct {
	digests    *[PCRs][]value // shared by copies, and not changed any more
	findings   []Finding
	secureBoot string
	unproved   error
}

// EventDigests returns the SHA-256 digests that were extended into a PCR, in log
// order. They are proved: the quoted value has no other preimage. Nil where the
// PCR was not quoted or has no event. The slices are the caller's.
func (x Explained) EventDigests(pcr int) [][]byte {
	if pcr < 0 || pcr > maxPCR || x.digests == nil || len(x.digests[pcr]) == 0 {
		return nil
	}
	out := make([][]byte, len(x.digests[pcr]))
	for i := range out {
		out[i] = bytes.Clone(x.digests[pcr][i][:])
	}
	return out
}

// SecureBoot returns SecureBootOn or SecureBootOff where PCR 7 was quoted and
// its events prove it, else SecureBootUnknown.
func (x Explained) SecureBoot() string {
	if x.secureBoot == "" {
		return SecureBootUnknown
	}
	return x.secureBoot
}

// SecureBootUnproved returns why SecureBoot is unknown, nil where it is known:
// eventlog.pcr7_grammar, eventlog.separator, eventlog.data_digest or
// eventlog.variable.
func (x Explained) SecureBootUnproved() error {
	if x.secureBoot == "" && x.unproved == nil {
		return errNotQuoted
	}
	return x.unproved
}

var errNotQuoted = reason.New(reason.EventLogPCR7Grammar, "PCR 7 was not quoted")

// Findings returns what the quoted PCRs do otherwise than the profile says, in
// log order.
func (x Explained) Findings() []Finding { return slices.Clone(x.findings) }

// note adds a finding unless its PCR has one of that code, so that a log of
// twenty thousand separators is one line.
func (x *Explained) note(pcr int, code reason.Code, format string, args ...any) {
	for _, f := range x.findings {
		if f.PCR == pcr && f.Code == code {
			return
		}
	}
	x.findings = append(x.findings, Finding{PCR: pcr, Code: code, Detail: fmt.Sprintf("pcr=%d: ", pcr) + fmt.Sprintf(format, args...)})
}

// facts judges the events of the PCRs that were quoted.
func (l Log) facts(known [PCRs]bool) Explained {
	x := Explained{digests: new([PCRs][]value)}
	var counts [PCRs]int
	for _, e := range l.events {
		if e.extends() && known[e.PCR] {
			counts[e.PCR]++
		}
	}
	for pcr, n := range counts {
		if n > 0 {
			x.digests[pcr] = make([]value, 0, n)
		}
	}
	g := grammar{x: &x}
	for _, e := range l.events {
		if !e.extends() || !known[e.PCR] {
			continue
		}
		x.digests[e.PCR] = append(x.digests[e.PCR], value(e.Digest[:sha256.Size]))
		g.observe(e)
	}
	g.finish(known)
	return x
}
