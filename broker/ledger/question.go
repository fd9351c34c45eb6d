package ledger

import (
	"time"

	"github.com/google/uuid"
)

// AsOf says how fresh an answer is: what the log held when it was read.
type AsOf struct {
	LogID      string
	Size       int64     // of the log
	RecordedAt time.Time // of its last record, zero for an empty log
	Replica    bool      // read from a standby, which may be behind
}

// Member is a node that is or was in a zone.
type Member struct {
	Interval
	Machine string // label of its admission, "" without
}

// MembersQuery asks who had earned a zone at a time, ordered by node.
type MembersQuery struct {
	Zone  string // "" for all zones
	At    time.Time
	Grace bool   // counts SVIDs that had not expired, too
	After NodeID // the last one of the page before
	Limit int
}

// NodeAt is what the history says of one node at a time.
type NodeAt struct {
	Node      NodeID
	At        time.Time
	Interval  *Interval // that covers At; nil where the node was in no zone
	Record    *Stored   // the last attestation at or before At; nil for none
	Denied    bool      // that attestation was refused
	ValidSVID bool      // an SVID of the node had not expired
}

// Unseen is a node that no accepted attestation came from for a while.
type Unseen struct {
	Node          NodeID
	Machine       string
	Zone          string
	Status        Status
	LastOKAt      time.Time // zero for never
	LastAttemptAt time.Time // zero for never
	Reason        string    // of the last refusal, "" where the last attempt was accepted
}

// UnseenQuery asks for nodes without an accepted attestation since a time
// (disabled ones left out), ordered by node. Silent leaves out those that tried
// and were refused since.
type UnseenQuery struct {
	Since  time.Time
	Zone   string
	Silent bool
	After  NodeID
	Limit  int
}

// PopulationQuery asks how many nodes had a fact at a time; Value "" groups by
// value.
type PopulationQuery struct {
	Fact, Value string
	Zone        string
	At          time.Time
	Limit       int
}

// Population is one value of a fact and who had it.
type Population struct {
	Value string
	Nodes int64
	Some  []NodeID // at most ten of them, ordered
}

// IssuedQuery asks for SVIDs. Zero values do not filter; Since is required but
// where Serial is set. Fact and Value go together.
type IssuedQuery struct {
	Serial        string
	Node          NodeID
	Zone          string
	Fact, Value   string            // of the measurement under which it was issued, for example "event_log" or "pcr.4"
	Reference     map[string]Wanted // of a reference set: each fact of that measurement has one of its values
	PolicyVersion int64             // that the attestation behind it was judged by
	Evidence      *[32]byte         // digest of a part of the evidence of that attestation
	DeniedNow     bool              // still valid, of nodes whose last attestation was refused or that may not ask any more
	Since, Until  time.Time
	After         string // cursor, "" starts at the newest
	Limit         int
}

// Issued is an SVID with the record that authorised it. Where retention dropped
// the record, Record is the nil UUID and what only the record says is empty.
type Issued struct {
	IssuedSVID
	Node          NodeID
	Record        uuid.UUID
	LogID         string
	Index         int64
	RecordedAt    time.Time
	Attestation   uuid.UUID // that the record rests on; the record itself for a node's SVID
	Zone          string
	PolicyVersion int64
	Cursor        string
}

// Detection says how long drift went unseen.
type Detection struct {
	DriftRow
	LastGood time.Time     // of the attestation before; detection took no longer than from then
	Took     time.Duration // RecordedAt minus LastGood
}

// DetectionSummary is over all drift of a time, by kind.
type DetectionSummary struct {
	Kind          string
	Events        int64
	P50, P99, Max time.Duration
}

// Rate is one hour of one zone.
type Rate struct {
	Hour     time.Time
	Zone     string // "" for attestations that chose none
	Accepted int64
	Denied   int64
	Reasons  map[string]int64 // of denials, by first code
}

// RateQuery bounds the hours; both bounds are required, at most 31 days apart.
type RateQuery struct {
	Zone         string
	Since, Until time.Time
}

// CrossCheck compares a count that was kept with the rows that stand.
type CrossCheck struct {
	Hour                  time.Time
	Zone, Verdict, Reason string
	Counted, Rows         int64
}

// Inventory is the list of machines that there should be, ordered by Machine.
type Inventory struct {
	Machines []InventoryMachine
}

// InventoryMachine is a machine that there should be.
type InventoryMachine struct {
	Machine, Model, Site string
	EKHash               *[32]byte // nil where only the name is known
}

// Coverage compares the inventory with what attests.
type Coverage struct {
	Machines int64 // in the inventory
	Fresh    int64 // of them, attested within the time
	Missing  []CoverageRow
	Unknown  []CoverageRow // nodes that no machine of the inventory stands for
	After    string        // cursor of both lists, "" at the end
}

// CoverageRow is a machine without a fresh node, or a node without a machine.
type CoverageRow struct {
	Machine, Model, Site string
	Node                 NodeID // "" where the machine never enrolled
	LastOKAt             time.Time
}

// CoverageQuery asks for a page of what is missing and unknown.
type CoverageQuery struct {
	Site  string
	Fresh time.Time // attested since
	After string
	Limit int
}

// BaselineQuery asks which nodes differ from their fleet: from a reference set's
// values, or from what most nodes of their TPM model or group measured.
type BaselineQuery struct {
	By    string            // "reference", "model" or "group"
	Name  string            // of the model or group, "" for all
	Want  map[string]Wanted // by "reference": allowed values by fact name
	Zone  string
	After NodeID
	Limit int
}

// Wanted are the values of a fact that a baseline allows.
type Wanted []string

// Deviation is a node that differs from its baseline.
type Deviation struct {
	Node     NodeID
	Machine  string
	Zone     string
	Cohort   string // reference set, model or group
	Nodes    int64  // in the cohort
	Facts    []FactDifference
	LastOKAt time.Time
}

// FactDifference is one fact that differs.
type FactDifference struct {
	Name     string
	Expected []string // allowed, or what most of the cohort showed
	Seen     string   // "" where the node did not show it
}
