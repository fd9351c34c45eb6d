package policy

import (
	"slices"
	"time"
)

// Measured is what reference sets are compared with. Whoever asks why a denial
// was a denial has recorded measurements, and no appraisal any more.
type Measured interface {
	PCR(i int) ([]byte, bool)      // SHA-256 value; false if it was not quoted
	EventDigests(pcr int) [][]byte // SHA-256 digests of the events, in log order
}

// Differences returns how a machine differs from what a zone accepts, at a time:
// from the reference set that came closest, in order of PCRs. It is what
// policy.pcr_mismatch says, for programs: nil where a set matches, where none is
// valid, or where the zone does not exist or names none.
func (s *Set) Differences(zone string, m Measured, now time.Time) []Mismatch {
	if s == nil || m == nil {
		return nil
	}
	for _, z := range s.zones {
		if z.Name == zone {
			found, _ := s.closest(z, m, now)
			return found
		}
	}
	return nil
}

// Reference describes a reference set for explanations.
type Reference struct {
	Name       string
	LearntFrom string // node, "" if the set does not say
	Boot       string // record id of the attestation it was learnt from, "" if the set does not say
	Events     map[int][]string
	PCRs       map[int][]string // allowed values, hex
}

// Reference returns the set of that name; false where there is none. The maps are
// the caller's.
func (s *Set) Reference(name string) (Reference, bool) {
	if s == nil || s.references[name] == nil {
		return Reference{}, false
	}
	r := s.references[name]
	out := Reference{Name: r.Name, Events: make(map[int][]string, len(r.Events))}
	if r.Provenance != nil {
		out.LearntFrom, out.Boot = r.Provenance.LearntFrom, r.Provenance.Boot
	}
	out.PCRs = make(map[int][]string, len(r.PCRs))
	for pcr, values := range r.PCRs {
		out.PCRs[pcr] = slices.Clone(values)
	}
	for pcr, digests := range r.Events {
		out.Events[pcr] = slices.Clone(digests)
	}
	return out, true
}
