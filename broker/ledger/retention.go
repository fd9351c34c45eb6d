package ledger

import (
	"encoding/hex"
	"time"

	"github.com/google/uuid"
)

// Records of what may go and what went.
const (
	TypeRetention    = "retention.activated"
	TypeDropped      = "retention.dropped"
	TypeHoldPlaced   = "hold.placed"
	TypeHoldReleased = "hold.released"
	TypeErased       = "node.erased"
)

// Kinds of objects that records of retention name.
const (
	ObjectRetention = "retention"         // the document
	ObjectDropped   = "retention.dropped" // a Missing
	ObjectErased    = "node.erased"       // a Missing
)

// MaxGroups bounds the retention groups beside the default one.
const MaxGroups = 8

// Classes of rows that have a period of their own.
const (
	ClassDecisions = "decisions" // records of attestations, issuances and readings, drift, intervals
	ClassEvidence  = "evidence"  // what hosts sent
	ClassSVIDs     = "svids"     // SVIDs by serial
)

// Classes is every class, in the order in which a week goes.
var Classes = []string{ClassEvidence, ClassSVIDs, ClassDecisions}

// Retention says which retention document is in force and which number each of
// its groups has: group i has keep i+1, and 0 is what no group names. A granting
// row with an HMAC: who could write it would have the broker drop what he likes.
type Retention struct {
	Version   int64     `json:"version"`  // 1 more than that of the one before
	Document  [32]byte  `json:"document"` // SHA-256 of the object
	Groups    []string  `json:"groups"`   // every name that there ever was, in order
	By        string    `json:"by"`
	CreatedAt time.Time `json:"created_at"`
}

// Canonical returns the RFC 8785 form of the row.
func (r Retention) Canonical() ([]byte, error) {
	r.Groups, r.CreatedAt = list(r.Groups), micro(r.CreatedAt)
	return Canonical(r)
}

// Hold keeps rows from being dropped or erased: those of a node, of a zone, of a
// period, or what is left of all three together. A granting row with an HMAC.
type Hold struct {
	ID        uuid.UUID `json:"id"`
	Node      NodeID    `json:"node"`  // "" for every node
	Zone      string    `json:"zone"`  // "" for every zone
	Since     time.Time `json:"since"` // zero for from the beginning
	Until     time.Time `json:"until"` // zero for without end
	Reason    string    `json:"reason"`
	By        string    `json:"by"`
	Released  bool      `json:"released"`
	CreatedAt time.Time `json:"created_at"`
}

// Canonical returns the RFC 8785 form of the row.
func (h Hold) Canonical() ([]byte, error) {
	h.Since, h.Until, h.CreatedAt = micro(h.Since), micro(h.Until), micro(h.CreatedAt)
	return Canonical(h)
}

// Covers reports whether a hold reaches into the time from since up to until.
func (h Hold) Covers(since, until time.Time) bool {
	return (h.Since.IsZero() || h.Since.Before(until)) && (h.Until.IsZero() || h.Until.After(since))
}

// Erasure lets the owner's role delete the rows of one node. A granting row with
// an HMAC.
type Erasure struct {
	Node      NodeID     `json:"node"`
	Object    [32]byte   `json:"object"` // the Missing that lists its rows
	Reason    string     `json:"reason"`
	By        string     `json:"by"`
	CreatedAt time.Time  `json:"created_at"`
	Digests   [][32]byte `json:"digests"` // evidence that is the machine's alone
}

// Canonical returns the RFC 8785 form of the row.
func (e Erasure) Canonical() ([]byte, error) {
	e.CreatedAt, e.Digests = micro(e.CreatedAt), list(e.Digests)
	return Canonical(e)
}

// AdmitErased is what an erased node is admitted by: nothing lets it come back.
const AdmitErased = "erased"

// Blank returns what stays of a node that is erased: its id, the hash of its
// root of trust, from which the id is made, and that it may not ask any more.
func (n Node) Blank() Node {
	return Node{
		ID: n.ID, RootKind: n.RootKind, RootHash: n.RootHash, AKName: []byte("erased " + n.ID), AdmittedBy: AdmitErased,
		Status: StatusDisabled, CreatedAt: n.CreatedAt,
	}
}

// Blank returns what stays of the state of a node that is erased.
func (s NodeState) Blank() NodeState { return NodeState{Node: s.Node, Version: s.Version} }

// objectHash is the RowHash of an object by its hex digest.
func objectHash(kind, digest string) (string, error) {
	o := Object{Kind: kind}
	if _, err := hex.Decode(o.Digest[:], []byte(digest)); err != nil {
		return "", err
	}
	return RowHash(o)
}

// ObjectRow returns id and row hash of the object that a record names beside its
// row; "" where it names none.
func (g Grant) ObjectRow() (id, hash string, err error) {
	kind := map[string]string{TypeRetention: ObjectRetention, TypeDropped: ObjectDropped, TypeErased: ObjectErased}[g.Type]
	if g.Object == "" || kind == "" || len(g.Object) != 64 {
		return "", "", nil
	}
	hash, err = objectHash(kind, g.Object)
	return g.Object, hash, err
}

// Leaf is a partition: the rows of a class, of a week, of one retention group or
// of several.
type Leaf struct {
	Class string
	Table string
	Week  time.Time // Monday 00:00 UTC
	Keep  int16     // the only group in it, -1 where there may be several
}

// GroupAt reports whether a row of a zone that was recorded at a time may have
// been given a group: whether a document of then said so.
type GroupAt func(zone string, at time.Time, keep int16) bool

// LeafPlan is what would go of a leaf.
type LeafPlan struct {
	Leaf
	Keeps   []int16     // groups that have rows in it
	Rows    int64       // that would go
	Stay    []uuid.UUID // attestations that a node's rights rest on, of decisions
	Seen    []uuid.UUID // every hold that there was
	Missing Missing     // of this log, as far as nothing declares it gone yet
	Other   string      // another log whose rows are not declared gone yet, "" for none
	Holds   []Hold      // that touch it
}

// ErasurePlan is what an erasure takes from one log.
type ErasurePlan struct {
	Missing Missing
	Digests [][32]byte // evidence that is the machine's alone
	Holds   []Hold     // that forbid it
}

// Erased counts the rows that an erasure deleted.
type Erased struct {
	Records, Evidence, Contents, SVIDs, Drift, Intervals int64
}

// LogProof shows that entries are in a tree, and what the tree extends. Proofs
// are those of RFC 6962, sections 2.1.1 and 2.1.2.
type LogProof struct {
	Entries     []ProvedEntry
	Consistency [][32]byte // nil where none was asked for
}

// ProvedEntry is an entry with its inclusion proof.
type ProvedEntry struct {
	Index int64
	Entry Entry
	Proof [][32]byte
}
