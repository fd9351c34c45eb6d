package broker

import (
	"encoding/hex"
	"slices"

	"github.com/zonebroker/zonebroker/broker/api"
	"github.com/zonebroker/zonebroker/broker/policy"
	"github.com/zonebroker/zonebroker/verifier/celog"
	"github.com/zonebroker/zonebroker/verifier/eventlog"
)

// boot is what a recorded attestation measured. It implements policy.Measured.
type boot struct {
	attestation string // record id
	pcrs        map[int][]byte
	logged      bool // a log is kept that leads to the PCRs
	events      map[int][]eventlog.Event
	explained   eventlog.Explained
}

// newBoot reads a boot. A log that does not lead to the PCRs says nothing about
// them, and counts as none.
func newBoot(attestation string, pcrs map[int][]byte, rawLog, rawUser []byte) *boot {
	t := &boot{attestation: attestation, pcrs: pcrs, events: make(map[int][]eventlog.Event)}
	if len(rawLog) == 0 {
		return t
	}
	log, err := eventlog.Parse(rawLog)
	if err != nil {
		return t
	}
	user, err := celog.Parse(rawUser)
	if err != nil {
		return t
	}
	if t.explained, err = log.ExplainWith(pcrs, user); err != nil {
		return t
	}
	t.logged = true
	for _, e := range log.Events() {
		if e.Type != eventlog.TypeNoAction {
			t.events[e.PCR] = append(t.events[e.PCR], e)
		}
	}
	return t
}

// PCR returns the recorded value of PCR i; false if it was not quoted.
func (t *boot) PCR(i int) ([]byte, bool) {
	v, ok := t.pcrs[i]
	return v, ok
}

// EventDigests returns the digests of the events of a PCR, in log order.
func (t *boot) EventDigests(pcr int) [][]byte { return t.explained.EventDigests(pcr) }

// groupByPCR makes one entry a PCR: a reference set that names two files of
// which both changed is one difference to look at.
func groupByPCR(found []policy.Mismatch, seen *boot) []api.Mismatch {
	var out []api.Mismatch
	for _, m := range found {
		kind := api.MismatchValue
		if m.Event {
			kind = api.MismatchEvents
		}
		at := slices.IndexFunc(out, func(o api.Mismatch) bool { return o.PCR == m.PCR && o.Kind == kind })
		if at >= 0 {
			out[at].Expected = append(out[at].Expected, m.Expected...)
			continue
		}
		value, _ := seen.PCR(m.PCR)
		out = append(out, api.Mismatch{
			PCR: m.PCR, Set: m.Set, Kind: kind, Expected: append([]string{}, m.Expected...), Seen: hex.EncodeToString(value),
		})
	}
	return out
}

// firstDifference finds the event at which a boot left the path of an accepted
// one. An accepted boot helps only if it has what the reference set wants in
// that PCR: the node may have been accepted under another policy.
func firstDifference(m api.Mismatch, seen *boot, accepted []*boot, reference policy.Reference) *api.EventDifference {
	if !seen.logged {
		return nil
	}
	for _, a := range accepted {
		if !satisfies(a, m) {
			continue
		}
		if d := compareEvents(seen.events[m.PCR], a.events[m.PCR]); d != nil {
			d.Against = a.attestation
			return d
		}
	}
	if m.Kind == api.MismatchEvents {
		return unlistedEvent(seen.events[m.PCR], reference.Events[m.PCR])
	}
	return nil
}

func satisfies(a *boot, m api.Mismatch) bool {
	if m.Kind == api.MismatchValue {
		return slices.Contains(m.Expected, hex.EncodeToString(a.pcrs[m.PCR]))
	}
	for _, want := range m.Expected {
		if !slices.ContainsFunc(a.events[m.PCR], func(e eventlog.Event) bool { return hex.EncodeToString(e.Digest) == want }) {
			return false
		}
	}
	return true
}

// compareEvents returns the first event of now that before does not have
// anywhere, with what stood at its place; where now has them all, the first one
// that stands elsewhere, and where it only lacks some, the first of those. What both boots have in the same order is left out, so that a line
// added to a script does not make everything behind it a difference. Nil where
// the two are the same.
func compareEvents(now, before []eventlog.Event) *api.EventDifference {
	changes := eventlog.Diff(before, now)
	if len(changes) == 0 {
		return nil
	}
	have := make(map[string]bool, len(before))
	for _, e := range before {
		have[string(e.Digest)] = true
	}
	at := slices.IndexFunc(changes, func(c eventlog.Change) bool { return c.After != nil && !have[string(c.After.Digest)] })
	if at < 0 { // another order, or more of them
		at = max(0, slices.IndexFunc(changes, func(c eventlog.Change) bool { return c.After != nil }))
	}
	d := &api.EventDifference{}
	if e := changes[at].After; e != nil {
		d.Number, d.Type, d.Description, d.Digest = e.Index, e.TypeName(), e.Describe(), hex.EncodeToString(e.Digest)
	}
	if e := changes[at].Before; e != nil {
		d.Before, d.BeforeDescription = hex.EncodeToString(e.Digest), e.Describe()
		if d.Type == "" {
			d.Type = e.TypeName()
		}
	}
	return d
}

// unlistedEvent is the first event that the reference set does not name, for a
// set that names all of a PCR, as one that was learnt does.
func unlistedEvent(now []eventlog.Event, listed []string) *api.EventDifference {
	for _, e := range now {
		digest := hex.EncodeToString(e.Digest)
		if !slices.Contains(listed, digest) {
			return &api.EventDifference{Number: e.Index, Type: e.TypeName(), Description: e.Describe(), Digest: digest}
		}
	}
	return nil
}
