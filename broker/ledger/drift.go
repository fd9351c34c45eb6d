package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Kinds of drift. A change of PCR i is DriftPCR followed by i in decimal; what a
// document says is named by its selector ("snp.measurement").
const (
	DriftPCR        = "pcr."        // SHA-256 values, hex
	DriftEventLog   = "event_log"   // SHA-256 of the log that explained the quote, hex
	DriftSecureBoot = "secure_boot" // "on", "off", "unknown"
	DriftFirmware   = "firmware"    // TPMS_ATTEST.firmwareVersion, decimal
	DriftZone       = "zone"
	DriftTier       = "tier"
	DriftVerdict    = "verdict"
	DriftReason     = "reason" // first code of a denial, "" of an acceptance
	DriftPolicy     = "policy" // version that decided, where the verdict, its reason, zone or tier changed
)

// Measured is what one attempt of a node showed of its machine.
type Measured struct {
	PCRs       map[string]string `json:"pcrs"`        // decimal index -> hex, selector -> value
	EventLog   string            `json:"event_log"`   // hex SHA-256, "" for none
	SecureBoot string            `json:"secure_boot"` // "" where no log said anything
	Firmware   string            `json:"firmware"`    // decimal
}

// Measured returns what the node's last recorded attempt showed. A state that
// does not parse counts as empty.
func (s NodeState) Measured() Measured {
	var m Measured
	if s.Seen != nil {
		if json.Unmarshal(s.Seen, &m) != nil {
			return Measured{}
		}
		return m
	}
	if len(s.PCRs) > 0 && json.Unmarshal(s.PCRs, &m.PCRs) != nil {
		m.PCRs = nil
	}
	if s.EventLog != [32]byte{} {
		m.EventLog = hex.EncodeToString(s.EventLog[:])
	}
	m.SecureBoot, m.Firmware = s.SecureBoot, strconv.FormatUint(s.Firmware, 10)
	return m
}

// See notes what a refused attempt showed. It moves no baseline: the next
// acceptance is judged by the last one, and only drift is told from what was
// seen last. So a machine that is refused a hundred times in one state has
// drifted once.
func (s *NodeState) See(m Measured) error {
	accepted := *s
	accepted.Seen = nil
	raw, err := Canonical(m)
	if err != nil {
		return err
	}
	same, err := Canonical(accepted.Measured())
	if err != nil {
		return err
	}
	if s.Seen = raw; string(raw) == string(same) {
		s.Seen = nil
	}
	return nil
}

// Changes compares what two decisions of a node left behind and names what
// drifted, PCRs first in order of index. A node that showed nothing before has
// nothing to drift from.
func Changes(before, after NodeState) []Drift {
	var out []Drift
	add := func(kind, from, to string) {
		if from != to {
			out = append(out, Drift{Kind: kind, Before: from, After: to})
		}
	}
	if before.Last != uuid.Nil || before.Seen != nil {
		if before.Seen == nil && after.Seen == nil && bytes.Equal(before.PCRs, after.PCRs) {
			before.PCRs, after.PCRs = nil, nil // the same values are not worth parsing
		}
		from, to := before.Measured(), after.Measured()
		out = append(out, pcrChanges(from.PCRs, to.PCRs)...)
		out = append(out, selectorChanges(from.PCRs, to.PCRs)...)
		add(DriftEventLog, from.EventLog, to.EventLog)
		add(DriftSecureBoot, from.SecureBoot, to.SecureBoot)
		add(DriftFirmware, from.Firmware, to.Firmware)
	}
	measured := len(out)
	if before.Last != uuid.Nil {
		add(DriftZone, before.Zone, after.Zone)
		add(DriftTier, strconv.Itoa(before.Tier), strconv.Itoa(after.Tier))
	}
	if before.Verdict != "" {
		add(DriftVerdict, before.Verdict, after.Verdict)
		add(DriftReason, before.Reason, after.Reason)
	}
	// A new policy that changed nothing for a node is no drift of that node.
	if len(out) > measured {
		add(DriftPolicy, strconv.FormatInt(before.PolicyVersion, 10), strconv.FormatInt(after.PolicyVersion, 10))
	}
	return out
}

// pcrChanges compares the values of PCRs that both attempts quoted: one that a
// new policy selects has nothing to drift from.
func pcrChanges(from, to map[string]string) []Drift {
	var indexes []int
	for k := range from {
		// PCR 10 grows with every file that is measured: that is no drift, and the
		// list that explains it is judged by itself.
		if _, both := to[k]; !both || k == "10" {
			continue
		}
		if i, err := strconv.Atoi(k); err == nil && strconv.Itoa(i) == k {
			indexes = append(indexes, i)
		}
	}
	slices.Sort(indexes)
	var out []Drift
	for _, i := range indexes {
		k := strconv.Itoa(i)
		if from[k] != to[k] {
			out = append(out, Drift{Kind: DriftPCR + k, Before: from[k], After: to[k]})
		}
	}
	return out
}

// selectorChanges compares what documents said of both attempts: a selector that
// only one of them has belongs to evidence that was not sent the other time.
func selectorChanges(from, to map[string]string) []Drift {
	var out []Drift
	for _, name := range slices.Sorted(maps.Keys(from)) {
		value, both := to[name]
		if _, err := strconv.Atoi(name); err != nil && both && value != from[name] {
			out = append(out, Drift{Kind: name, Before: from[name], After: value})
		}
	}
	return out
}

// DriftZone is the zone that the record is kept with and that its drift counts
// for: of a denial that chose none, the one that the node had.
func (a Attestation) DriftZone() string {
	if a.Zone == "" {
		return a.NodeZone
	}
	return a.Zone
}

// DriftQuery filters what changed. Zero values do not filter; all that are set
// have to hold. Limit is at most 500.
type DriftQuery struct {
	Node  NodeID
	Kind  string
	Zone  string
	Since time.Time
	Until time.Time
	After Place // the last row of the page before
	Limit int
}

// DriftRow is a change as read back.
type DriftRow struct {
	Place            // in the order of drift: newest record first, within a record as written
	Record uuid.UUID // that brought it
	Node   NodeID
	Zone   string // of the node at that time
	Drift
}
