package policy

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// checkReferences asks whether the machine is in one of the states that the
// zone accepts. A set must match as a whole: values of several sets mixed
// would be a machine that nobody approved.
func (s *Set) checkReferences(z *zone, in Input) ([]*reason.Error, []Mismatch) {
	if len(z.Requires.References) == 0 {
		return nil, nil
	}
	closest, judged := s.closest(z, in.Appraisal, in.Now)
	if !judged {
		return []*reason.Error{reason.Newf(reason.PolicyReferenceMissing, "no reference set of zone %s is valid now", z.Name)}, nil
	}
	if len(closest) == 0 {
		return nil, nil
	}
	out := make([]*reason.Error, len(closest))
	for i, m := range closest {
		out[i] = reason.New(reason.PolicyPCRMismatch, m.String())
	}
	return out, closest
}

// closest returns the differences from the set with the fewest, none where one
// matches; judged is false where no set of the zone is valid now.
func (s *Set) closest(z *zone, m Measured, now time.Time) (closest []Mismatch, judged bool) {
	for _, name := range z.Requires.References {
		set := s.references[name]
		if set == nil || !set.validAt(now) {
			continue
		}
		found := set.compare(m)
		if len(found) == 0 {
			return nil, true
		}
		if !judged || len(found) < len(closest) {
			closest, judged = found, true
		}
	}
	return closest, judged
}

// compare returns every difference in the order of PCRs, values before events.
// Load sees to it that a set says something.
func (r *referenceSet) compare(ev Measured) []Mismatch {
	var out []Mismatch
	for _, pcr := range sortedPCRs(r.PCRs) {
		value, quoted := ev.PCR(pcr)
		seen := hex.EncodeToString(value)
		if !quoted || !slices.Contains(r.PCRs[pcr], seen) {
			out = append(out, Mismatch{Set: r.Name, PCR: pcr, Expected: slices.Clone(r.PCRs[pcr]), Seen: seen})
		}
	}
	for _, pcr := range sortedPCRs(r.Events) {
		have, unlisted := map[string]bool{}, ""
		for _, d := range ev.EventDigests(pcr) {
			digest := hex.EncodeToString(d)
			have[digest] = true
			if unlisted == "" && !slices.Contains(r.Events[pcr], digest) {
				unlisted = digest
			}
		}
		if unlisted != "" && slices.Contains(r.Closed, pcr) {
			out = append(out, Mismatch{Set: r.Name, PCR: pcr, Event: true, Seen: unlisted})
		}
		for _, want := range r.Events[pcr] {
			if !have[want] {
				out = append(out, Mismatch{Set: r.Name, PCR: pcr, Event: true, Expected: []string{want}})
			}
		}
	}
	return out
}

// String names PCR, expected and seen. Measurements are no secrets: whoever can
// ask has the machine, and a quote over the wanted values needs the wanted boot.
func (m Mismatch) String() string {
	var b strings.Builder
	expected := strings.Join(m.Expected[:min(len(m.Expected), 3)], " or ")
	if more := len(m.Expected) - 3; more > 0 {
		expected += " or " + strconv.Itoa(more) + " more"
	}
	b.WriteString("PCR " + strconv.Itoa(m.PCR))
	switch {
	case m.Event && m.Seen != "":
		b.WriteString(": the event log has " + m.Seen + ", which is not listed")
	case m.Event:
		b.WriteString(": the event log has no event " + expected)
	case m.Seen == "":
		b.WriteString(" was not quoted, expected " + expected)
	default:
		b.WriteString(" is " + m.Seen + ", expected " + expected)
	}
	b.WriteString(" (reference set " + m.Set + ")")
	return b.String()
}
