package api

import (
	"encoding/json"
	"time"
)

// AdmitRequest puts the EKs of one machine into the inventory, or an owner of
// machines. Exactly one of the two is set.
type AdmitRequest struct {
	EKHashes []string `json:"ek_hashes,omitempty"` // hex SHA-256 of the EK's SPKI DER, or the hash of a machine that documents name
	Owner    string   `json:"owner,omitempty"`     // kind=value, such as gcp.project=my-project
	Machine  string   `json:"machine,omitempty"`
	Groups   []string `json:"groups,omitempty"`
	Lab      bool     `json:"lab,omitempty"` // software keys of a load test: format tpm2.lab alone
}

// Admission is an entry of the inventory.
type Admission struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Machine   string    `json:"machine"`
	Groups    []string  `json:"groups"`
	EKHashes  []string  `json:"ek_hashes"`
	By        string    `json:"by"`
	Revoked   bool      `json:"revoked"`
	CreatedAt time.Time `json:"created_at"`
}

// ApproveRequest approves a pending machine (by EK hash) or a node that waits
// after a rollback, a fork or a change of AK (by node id, in the path).
type ApproveRequest struct {
	Machine string   `json:"machine,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	Note    string   `json:"note,omitempty"`
	// ReleaseKey takes the key from a node that documents name: the next one whose
	// evidence is accepted gets it.
	ReleaseKey bool `json:"release_key,omitempty"`
}

// DisableRequest disables a node.
type DisableRequest struct {
	Note string `json:"note,omitempty"`
}

// AnnounceRequest expects one reboot of a node.
type AnnounceRequest struct {
	Within int    `json:"within_seconds,omitempty"` // default 3600, at most a day
	Note   string `json:"note,omitempty"`
}

// Approval is what an approval did: Admission for a pending machine, Node for a
// known node.
type Approval struct {
	Admission *Admission `json:"admission,omitempty"`
	Node      *Node      `json:"node,omitempty"`
}

// TokenRequest creates a one-time join token.
type TokenRequest struct {
	Machine string   `json:"machine,omitempty"`
	Groups  []string `json:"groups,omitempty"`
	TTL     int      `json:"ttl_seconds,omitempty"` // default 3600, at most 7 days
}

// Token is a join token; Secret is shown once and never stored.
type Token struct {
	ID        string    `json:"id"`
	Secret    string    `json:"secret"`
	ExpiresAt time.Time `json:"expires_at"`
}

// PendingNode is a machine that asked and waits for an operator.
type PendingNode struct {
	EKHash    string    `json:"ek_hash"` // or the hash of the machine that documents name
	Proved    string    `json:"proved"`  // that machine, as kind and name; "" of an EK, which proved nothing yet
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
}

// Node is a node as operators see it. Standing is computed from expiry at the
// time of the answer, never from a flag: "fresh", "stale" (past fresh_until,
// inside grace), "expired"; "denied" and "none" for a node that never earned one.
type Node struct {
	ID            string    `json:"id"`
	Status        string    `json:"status"`
	Standing      string    `json:"standing"`
	Zone          string    `json:"zone"`
	Tier          int       `json:"tier"`
	Verdict       string    `json:"verdict"`
	Reason        string    `json:"reason"`
	RootKind      string    `json:"root_kind"` // "ek", or the kind of machine that documents name
	RootName      string    `json:"root_name"` // of that machine, "" of an EK
	RootHash      string    `json:"root_hash"`
	AKName        string    `json:"ak_name"` // "" while nobody has the key of a node that documents name
	Manufacturer  string    `json:"manufacturer"`
	TPMKind       string    `json:"tpm_kind"`
	TPMModel      string    `json:"tpm_model"`
	AdmittedBy    string    `json:"admitted_by"`
	Machine       string    `json:"machine"`
	Groups        []string  `json:"groups"`
	Version       int64     `json:"version"`
	Last          string    `json:"last"`
	PolicyVersion int64     `json:"policy_version"`
	CreatedAt     time.Time `json:"created_at"`
	AttestedAt    time.Time `json:"attested_at"`
	FreshUntil    time.Time `json:"fresh_until"`
	ExpiresAt     time.Time `json:"expires_at"`
	LastAttemptAt time.Time `json:"last_attempt_at"`
	RebootUntil   time.Time `json:"reboot_until"` // a reboot until then is announced
}

// Entry is one record of the history.
type Entry struct {
	Log        string          `json:"log"`   // name of the log
	Index      int64           `json:"index"` // in that log
	ID         string          `json:"id"`
	Type       string          `json:"type"`
	RecordedAt time.Time       `json:"recorded_at"`
	Node       string          `json:"node"`
	Zone       string          `json:"zone"`
	Verdict    string          `json:"verdict"`
	Reason     string          `json:"reason"`
	Body       json.RawMessage `json:"body,omitempty"` // history show only
	Drift      []DriftChange   `json:"drift,omitempty"`
	AsOf       *AsOf           `json:"as_of,omitempty"` // history show only
}

// DriftChange is one change with before and after.
type DriftChange struct {
	Kind   string `json:"kind"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// HistoryQuery filters the history. Zero values do not filter, but Type "" leaves
// out history.read, the records of readings.
type HistoryQuery struct {
	Node    string    `query:"node"`
	Zone    string    `query:"zone"`
	Verdict string    `query:"verdict"`
	Type    string    `query:"type"`
	Reason  string    `query:"reason"` // first code of a denial
	Since   time.Time `query:"since"`  // default: a day before Until
	Until   time.Time `query:"until"`  // zero is now
	Cursor  string    `query:"cursor"` // NextCursor of the page before, "" starts at the newest
	Limit   int       `query:"limit"`  // default 50, at most 500
}

// HistoryPage is a page of entries, newest first. NextCursor is "" at the end.
type HistoryPage struct {
	Since      time.Time `json:"since"`
	Entries    []Entry   `json:"entries"`
	NextCursor string    `json:"next_cursor"`
	AsOf       AsOf      `json:"as_of"`
}

// Verification is the outcome of checking the whole history.
type Verification struct {
	OK         bool     `json:"ok"`
	Size       int64    `json:"size"`
	Root       string   `json:"root"` // hex
	Checkpoint string   `json:"checkpoint"`
	Records    int64    `json:"records"`
	Dropped    int64    `json:"dropped"` // records that retention or an erasure removed, as the log says
	Grants     int64    `json:"grants"`
	Problems   []string `json:"problems"` // [] when OK; at most 100, then a last line that counts the rest
	Logs       []LogSum `json:"logs"`     // of all brokers, by name; size and root above are of the one that was asked
}

// LogSum is what the entries of one log add up to.
type LogSum struct {
	Log  string `json:"log"`
	Size int64  `json:"size"`
	Root string `json:"root"` // hex
}

// ReferenceMaterial is what an accepted boot of a node looked like.
type ReferenceMaterial struct {
	Node          string              `json:"node"`
	AttestationID string              `json:"attestation_id"`
	PCRs          map[string]string   `json:"pcrs"`   // decimal index -> hex
	Events        map[string][]string `json:"events"` // decimal PCR -> hex digests in log order
}

// Health tells whether this replica can do its job.
type Health struct {
	Status string        `json:"status"` // "ok" or "failing"
	Checks []HealthCheck `json:"checks"`
}

// HealthCheck is one checked part.
type HealthCheck struct {
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
}
