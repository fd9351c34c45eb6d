package api

import (
	"encoding/json"
	"regexp"
	"time"

	"github.com/zonebroker/zonebroker/verifier/reason"
)

// maxRetention bounds a retention document, in bytes: eight groups fit many
// times over.
const maxRetention = 12 << 10

var (
	nodeForm = regexp.MustCompile(`^[a-z2-7]{26}$`)
	zoneForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
)

// RetentionRequest puts a retention document in force.
type RetentionRequest struct {
	Document string `json:"document"` // YAML, kind Retention
}

// Retention is the written retention policy of a log, and what went under it.
// Entries and tiles of the log never go: proofs stay valid.
type Retention struct {
	Version   int64            `json:"version"`  // 0 before the first: nothing is dropped
	Document  string           `json:"document"` // as it was written
	SHA256    string           `json:"sha256"`   // hex, of the document; the object that its record names
	By        string           `json:"by"`
	CreatedAt time.Time        `json:"created_at"`
	Groups    []RetentionGroup `json:"groups"` // the default group first
	MinIndex  MinIndex         `json:"min_index"`
	Dropped   []DroppedWeek    `json:"dropped"` // newest first, at most 500
}

// RetentionGroup says how many days rows of some zones are kept, 0 for ever.
type RetentionGroup struct {
	Name      string   `json:"name"` // "" for what stands in no other group's zone
	Keep      int      `json:"keep"` // number that the rows carry
	Zones     []string `json:"zones"`
	Decisions int      `json:"decisions_days"`
	Evidence  int      `json:"evidence_days"`
	SVIDs     int      `json:"svids_days"`
}

// MinIndex tells below which indices of the log something may be gone.
type MinIndex struct {
	Entries   int64 `json:"entries"`   // always 0: entries are never pruned
	Decisions int64 `json:"decisions"` // records at and above it were not dropped
	Evidence  int64 `json:"evidence"`
	SVIDs     int64 `json:"svids"`
}

// DroppedWeek is what one record of the log declares gone.
type DroppedWeek struct {
	Record    string    `json:"record"` // id of the record
	At        time.Time `json:"at"`
	Class     string    `json:"class"` // decisions, evidence or svids
	Week      time.Time `json:"week"`  // Monday 00:00 UTC
	Keeps     []int     `json:"keeps"`
	Retention int64     `json:"retention"` // version in force
	Rows      int64     `json:"rows"`
	First     int64     `json:"first"` // lowest index
	Last      int64     `json:"last"`  // highest index
}

// SweepRequest drops what may go, or says what would.
type SweepRequest struct {
	DryRun bool `json:"dry_run,omitempty"`
}

// SweepReport is what a sweep did, leaf by leaf. Leaves whose time has not come
// are left out.
type SweepReport struct {
	Retention int64       `json:"retention"` // version in force, 0 for none
	Leaves    []SweptLeaf `json:"leaves"`
}

// Outcomes of a sweep for a leaf.
const (
	SweepDropped = "dropped"
	SweepDue     = "due"     // a dry run: it would be dropped
	SweepHeld    = "held"    // a legal hold stops it
	SweepWaiting = "waiting" // another log has to declare its rows first
	SweepBusy    = "busy"    // the rows are in use; the next sweep tries again
)

// SweptLeaf is one partition of a sweep.
type SweptLeaf struct {
	Class   string    `json:"class"`
	Leaf    string    `json:"leaf"`
	Week    time.Time `json:"week"`
	Keeps   []int     `json:"keeps"`
	Rows    int64     `json:"rows"`
	Outcome string    `json:"outcome"`
	Detail  string    `json:"detail"` // the hold, the log, or why
}

// HoldRequest keeps rows from being dropped or erased. What is empty does not
// narrow it; not all may be.
type HoldRequest struct {
	Node   string     `json:"node,omitempty"`
	Zone   string     `json:"zone,omitempty"`
	Since  *time.Time `json:"since,omitempty"`
	Until  *time.Time `json:"until,omitempty"`
	Reason string     `json:"reason"`
}

// Hold is a legal hold.
type Hold struct {
	ID        string    `json:"id"`
	Node      string    `json:"node"`
	Zone      string    `json:"zone"`
	Since     time.Time `json:"since"` // zero for from the beginning
	Until     time.Time `json:"until"` // zero for without end
	Reason    string    `json:"reason"`
	By        string    `json:"by"`
	Released  bool      `json:"released"`
	CreatedAt time.Time `json:"created_at"`
}

// HoldList is legal holds, those in force first.
type HoldList struct {
	Holds []Hold `json:"holds"`
}

// EraseRequest erases a node.
type EraseRequest struct {
	Reason string `json:"reason"`
}

// ErasureProof shows that a node was erased and the log is whole: the entries of
// its records are where they were, and the tree goes on from the checkpoint of
// before.
type ErasureProof struct {
	Node        string        `json:"node"`
	Record      ProvedRecord  `json:"record"`      // node.erased
	List        Bytes         `json:"list"`        // the object that the record names
	Before      string        `json:"before"`      // checkpoint, signed note
	After       string        `json:"after"`       // checkpoint, signed note
	Consistency []Bytes       `json:"consistency"` // RFC 6962, section 2.1.2
	Entries     []ProvedEntry `json:"entries"`     // of the listed records, then of the record itself
	LeftOut     int64         `json:"left_out"`    // listed records without an entry here, the oldest
	Rows        ErasedRows    `json:"rows"`
}

// ProvedRecord is a record with all that its entry of the log commits to.
type ProvedRecord struct {
	ID         string          `json:"id"`
	Index      int64           `json:"index"`
	RecordedAt time.Time       `json:"recorded_at"`
	Salt       Bytes           `json:"salt"`
	Body       json.RawMessage `json:"body"`
}

// ProvedEntry is an entry of the log with its inclusion proof in After.
type ProvedEntry struct {
	Index int64   `json:"index"`
	Entry Bytes   `json:"entry"` // 57 bytes
	Proof []Bytes `json:"proof"` // RFC 6962, section 2.1.1
}

// ErasedRows counts what was deleted by this call.
type ErasedRows struct {
	Records   int64 `json:"records"`
	Evidence  int64 `json:"evidence"`
	Contents  int64 `json:"contents"`
	SVIDs     int64 `json:"svids"`
	Drift     int64 `json:"drift"`
	Intervals int64 `json:"intervals"`
}

// Validate checks the size; what the document says, the broker does.
func (r RetentionRequest) Validate() error {
	var c checks
	c.required("/document", len(r.Document), maxRetention)
	return c.err
}

// Validate has nothing to check.
func (r SweepRequest) Validate() error { return nil }

// Validate checks that the hold holds something, and the forms.
func (r HoldRequest) Validate() error {
	var c checks
	if r.Node == "" && r.Zone == "" && r.Since == nil && r.Until == nil {
		c.fail(reason.RequestMalformed, "name a node, a zone or a period")
	}
	if r.Node != "" {
		c.form("/node", r.Node, nodeForm)
	}
	if r.Zone != "" {
		c.form("/zone", r.Zone, zoneForm)
	}
	if r.Since != nil && r.Until != nil && !r.Since.Before(*r.Until) {
		c.fail(reason.RequestMalformed, "/until: not after since")
	}
	c.why("/reason", r.Reason)
	return c.err
}

// Validate wants a reason: it is all that the history keeps of why.
func (r EraseRequest) Validate() error {
	var c checks
	c.why("/reason", r.Reason)
	return c.err
}

func (c *checks) why(at, text string) {
	if text == "" {
		c.fail(reason.RequestMalformed, "%s: missing", at)
	}
	c.size(at, len([]rune(text)), maxNote)
	c.form(at, text, noteForm)
}
