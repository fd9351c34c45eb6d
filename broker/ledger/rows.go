package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Status of a node.
type Status string

// Statuses of a node. Only an active node can earn anything.
const (
	StatusActive        Status = "active"
	StatusPending       Status = "pending" // an operator has to approve (other EK under a known machine)
	StatusDisabled      Status = "disabled"
	StatusForkSuspected Status = "fork_suspected"
)

// Node is a granting row: which root of trust a node has, which AK is pinned
// to it, whether it may ask at all. It carries an HMAC in the database.
type Node struct {
	ID           NodeID    `json:"id"`
	RootKind     string    `json:"root_kind"`    // RootEK, or the kind of a document.Machine
	RootHash     [32]byte  `json:"root_hash"`    // SHA-256 of the EK's SPKI DER, or Machine.Hash
	EKPublic     []byte    `json:"ek_public"`    // TPMT_PUBLIC of the EK; where a document names the node, its machine (SetMachine)
	AKPublic     []byte    `json:"ak_public"`    // TPMT_PUBLIC, or the SPKI DER of an agent key
	AKName       []byte    `json:"ak_name"`      // nameAlg ‖ digest
	Manufacturer string    `json:"manufacturer"` // of the verified EK certificate, "" without one
	TPM          TPM       `json:"tpm"`          // what else that certificate says
	AdmittedBy   string    `json:"admitted_by"`  // an Admit constant
	Admission    uuid.UUID `json:"admission"`    // nil UUID for any_genuine
	Machine      string    `json:"machine"`      // label of the admission, "" without
	Groups       []string  `json:"groups"`
	Status       Status    `json:"status"`
	AKApproved   bool      `json:"ak_approved"` // false after node.ak_changed until an operator approves
	CreatedAt    time.Time `json:"created_at"`
}

// TPM is what the verified EK certificate of a node says beside its maker; the
// zero value without one.
type TPM struct {
	Model   string `json:"model"`
	Version string `json:"version"` // firmware of the day of manufacture, as the maker wrote it
	Expired bool   `json:"expired"` // it was past its validity when it was verified
}

// Ways a machine is admitted.
const (
	AdmitInventory  = "inventory"
	AdmitJoinToken  = "join_token"
	AdmitOperator   = "operator"
	AdmitAnyGenuine = "any_genuine"
	AdmitLab        = "lab" // software keys of a load test: format tpm2.lab alone
	// AdmitOwner is an account, project, tenant, cluster or key, of which any number
	// of machines may be: EKHashes holds document.Owner.Hash, Machine kind=value.
	AdmitOwner = "owner"
)

// NodeState is what the last decisions left behind. Whoever writes it turns off
// what stops a rolled-back or copied machine (Rebaseline, HasClock, Last), so it
// is a granting row and carries an HMAC, over the version too. An older row of
// the same node still has a good one: that it was put back shows in the log.
type NodeState struct {
	Node          NodeID    `json:"node"`
	Version       int64     `json:"version"`    // compare-and-set; every change of the node raises it
	Last          uuid.UUID `json:"last"`       // last accepted attestation; nil UUID for none
	Confirmed     uuid.UUID `json:"confirmed"`  // last one that the node named as received
	Rebaseline    bool      `json:"rebaseline"` // set by approval: the next clock triple and prev are taken as they come
	HasClock      bool      `json:"has_clock"`
	Clock         uint64    `json:"clock,string"` // ms
	ResetCount    uint32    `json:"reset_count"`
	RestartCount  uint32    `json:"restart_count"`
	Firmware      uint64    `json:"firmware,string"`
	PCRs          []byte    `json:"pcrs"`        // RFC 8785 JSON object index -> hex of the last accepted quote; nil for none
	EventLog      [32]byte  `json:"event_log"`   // SHA-256 of the log that explained it; zero for none
	SecureBoot    string    `json:"secure_boot"` // what that log proved: "on", "off", "unknown"; "" before the first acceptance
	Seen          []byte    `json:"seen"`        // RFC 8785 JSON of the Measured of the last attempt; nil where that is what was accepted
	IMA           []byte    `json:"ima"`         // how far the measurement list of that boot was attested (ima.State); nil for not at all
	Zone          string    `json:"zone"`
	Tier          int       `json:"tier"`
	Verdict       string    `json:"verdict"`
	Reason        string    `json:"reason"`
	PolicyVersion int64     `json:"policy_version"`
	AttestedAt    time.Time `json:"attested_at"` // of the last accepted attestation
	FreshUntil    time.Time `json:"fresh_until"`
	ExpiresAt     time.Time `json:"expires_at"` // latest notAfter of its SVIDs
	LastAttemptAt time.Time `json:"last_attempt_at"`
	LastOKAt      time.Time `json:"last_ok_at"`
	// RebootUntil is the end of an announced reboot: one reboot before it is
	// expected. Zero for none.
	RebootUntil time.Time `json:"reboot_until"`
	Repeats     int64     `json:"repeats"` // recorded refusals of the current kind since the last acceptance
}

// Snapshot is one consistent reading of a node, and all that steps 2 to 5 of an
// attestation know of it.
type Snapshot struct {
	Found bool
	Node  Node
	State NodeState
	// Open is the interval that an accepted attestation began or renewed, nil where
	// there is none. Where its Last is not that of State, a program that knows no
	// intervals went over it. It stands outside the HMACs and grants nothing.
	Open *Interval
}

// Admission answers "is this host ours?". A granting row with an HMAC.
type Admission struct {
	ID        uuid.UUID  `json:"id"`
	Kind      string     `json:"kind"` // AdmitInventory, AdmitOperator, AdmitLab, AdmitOwner
	Machine   string     `json:"machine"`
	Groups    []string   `json:"groups"`
	EKHashes  [][32]byte `json:"ek_hashes"` // the set of EKs of one machine
	By        string     `json:"by"`
	Revoked   bool       `json:"revoked"`
	CreatedAt time.Time  `json:"created_at"`
}

// JoinToken admits one machine once. Only the SHA-256 of the secret is kept.
type JoinToken struct {
	ID         uuid.UUID `json:"id"`
	SecretHash [32]byte  `json:"secret_hash"`
	Machine    string    `json:"machine"`
	Groups     []string  `json:"groups"`
	By         string    `json:"by"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`

	// UsedBy is the node that it admitted, "" while unused. It is inside the HMAC:
	// who empties it would admit a second machine.
	UsedBy NodeID `json:"used_by"`
}

// Pending is a machine that asked and waits for an operator. It grants nothing.
type Pending struct {
	EKHash    [32]byte
	EKPublic  []byte
	FirstSeen time.Time
	LastSeen  time.Time
}

// Key is a published verification key: a replica's CA certificate, or the SPKI
// of a key that signs JWT-SVIDs. A granting row with an HMAC; one that fails it
// never enters the bundle.
type Key struct {
	ID        string    `json:"id"`   // hex SHA-256 of the SPKI DER
	Kind      string    `json:"kind"` // "x509-ca", "jwt-es256", "jwt-rs256"
	Replica   string    `json:"replica"`
	DER       []byte    `json:"der"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

// Object is an opaque, content-addressed document: a policy set, trust data.
type Object struct {
	Kind    string // "policy"
	Digest  [32]byte
	Version int64 // of its kind, given at activation
	Bytes   []byte
}

// EvidencePart is one part of the evidence of a record, kept by content.
type EvidencePart struct {
	Kind   string
	Digest [32]byte
	Bytes  []byte // nil where the part is known to be stored already
}

// Drift is one change between two decisions of a node, decided at write time.
type Drift struct {
	Kind   string `json:"kind"` // a Drift constant
	Before string `json:"before"`
	After  string `json:"after"`
}

// Commit is one item for the group-committing writer. What it names is written
// in one transaction with the log entry, or not at all.
type Commit struct {
	Record Record

	// BasedOn is the node version that the decision saw; 0 creates the node.
	// Ignored where State is nil.
	BasedOn int64
	State   *NodeState // new state; its Version is set by the writer
	Node    *Node      // row to insert (BasedOn 0) or to replace; nil leaves it

	// Guard, where State is nil, is the node version that the decision saw: the
	// commit is refused like one with a state where the node has moved on.
	Guard *Guard

	JoinToken *uuid.UUID // consumed by this commit
	Evidence  []EvidencePart
	SVIDs     []IssuedSVID
	Drift     []Drift
	DriftZone string // that the drift counts for
	// LastGood is the accepted attestation before: what drifted did so since.
	LastGood time.Time

	// Interval is what the node earns from now on: it replaces the open one. Nil
	// where the node is in no zone any more. Closed is the one that this commit
	// ends, nil for none. Both are ignored where State is nil.
	Interval, Closed *Interval
	Measurement      *Measurement // of Interval; nil where it is known to be stored already
	// Keep is the retention group of the record's zone, KeepClosed that of Closed.
	Keep, KeepClosed int16

	// Grants written beside the record; nil where none.
	Admission    *Admission
	NewJoinToken *JoinToken
	Key          *Key
	Object       *Object   // Version 0: the writer gives the next one of its kind
	Operator     *Operator // Revoked false: a new one; true: takes this one's role back
	Retention    *Retention
	Hold         *Hold     // Released false: a new one; true: releases this one
	Erasure      *Erasure  // of Node
	EndPending   *[32]byte // EK hash to take off the pending list

	// Inventory takes the place of the list of machines that there should be; nil
	// leaves it. It grants nothing.
	Inventory *Inventory
}

// Position is where a record ended up in the log.
type Position struct {
	Index      int64
	Size       int64 // of the tree right after the batch that holds the record
	RecordedAt time.Time
	Version    int64 // new version of the node, or of the object
}
