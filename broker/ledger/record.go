// Package ledger defines what Zonebroker remembers: record types, their
// canonical bytes, the Merkle log over them and the rows that grant something.
// It is pure: no database, no clock, no network. Auditors import it to check a
// history without trusting the broker that wrote it.
package ledger

import (
	"time"

	"github.com/google/uuid"
)

// NodeID names a host: the first 26 base32 characters (lower case, unpadded)
// of the hash of its root of trust. See DeriveNodeID.
type NodeID string

// Record is one thing to remember, ready for the log. Body is what is
// committed to; the other fields repeat parts of it as columns, so that
// queries need no JSON, and history verification compares them with Body.
type Record struct {
	ID            uuid.UUID // UUIDv7
	Type          string    // one of the Type constants
	Node          NodeID    // "" where the record concerns no node
	Zone          string
	Verdict       string // VerdictAllow, VerdictDeny or "" for grants and issuances
	Reason        string // first reason code of a denial
	AttestedAt    time.Time
	FreshUntil    time.Time // zero for denials
	PolicyVersion int64
	Salt          [32]byte // random; makes the leaf a hiding commitment
	Body          []byte   // RFC 8785 JSON; 64-bit numbers are strings
}

// Types of record. Grants and withdrawals are records too, so that a row that
// grants something without an entry of the log is found.
const (
	TypeAttestation     = "attestation"
	TypeAdmission       = "admission.granted"
	TypeAdmissionEnded  = "admission.ended"
	TypeTokenCreated    = "join_token.created"
	TypeNodeApproved    = "node.approved"
	TypeNodeDisabled    = "node.disabled"
	TypeNodeAnnounced   = "node.announced" // a reboot that is expected
	TypeKeyPublished    = "key.published"
	TypePolicyActivated = "policy.activated"
	TypeTrustActivated  = "trust.activated"
	TypeInventoryImport = "inventory.imported"
	TypeHistoryRead     = "history.read" // who asked the history what
)

// Verdicts of an attestation.
const (
	VerdictAllow = "allow"
	VerdictDeny  = "deny"
)

// Attestation is the body of a TypeAttestation record: one decision with all
// that is needed to judge the same evidence again.
type Attestation struct {
	Type           string       `json:"type"` // always TypeAttestation
	ID             uuid.UUID    `json:"id"`
	Node           NodeID       `json:"node"`
	RootKind       string       `json:"root_kind"`
	RootHash       string       `json:"root_hash"` // hex
	Verdict        string       `json:"verdict"`
	Reasons        []Reason     `json:"reasons"` // of a denial, in order of the checks; [] otherwise
	Events         []string     `json:"events"`  // codes of class event
	Zone           string       `json:"zone"`    // "" where no zone was chosen
	Tier           int          `json:"tier"`
	Purpose        string       `json:"purpose"`
	Format         string       `json:"format"`
	TrustDomain    string       `json:"trust_domain"`
	Nonce          string       `json:"nonce"`       // hex
	Select         string       `json:"select"`      // signed PCR mask, hex
	SPKISHA256     string       `json:"spki_sha256"` // hex; the key that asked for the SVID
	IssuedAt       int64        `json:"issued_at"`   // of the challenge, Unix ms
	AttestedAt     int64        `json:"attested_at"` // Unix ms
	FreshUntil     int64        `json:"fresh_until"` // Unix ms; 0 for denials
	JudgedAt       int64        `json:"judged_at"`   // the "now" that the verifier was given, Unix ms
	Policy         PolicyRef    `json:"policy"`
	TrustRoots     string       `json:"trust_roots"` // "sha256:" + hex of the trust data that judged
	Evidence       []EvidenceID `json:"evidence"`
	Appraisal      string       `json:"appraisal"`           // "sha256:" + hex of the canonical appraisal: judging again must give the same
	IMAFirst       string       `json:"ima_first,omitempty"` // number of the first entry of the measurement list that was sent, decimal; "" for none or 0
	Baseline       *Baseline    `json:"baseline"`            // what the clock and a missing log were compared with; null at first contact
	AKName         string       `json:"ak_name"`             // hex
	Manufacturer   string       `json:"manufacturer"`        // as pinned at enrolment or verified now, "" without
	TPM            TPM          `json:"tpm"`                 // as Manufacturer
	Clock          Clock        `json:"clock"`
	Firmware       string       `json:"firmware"` // TPMS_ATTEST.firmwareVersion, decimal
	AdmittedBy     string       `json:"admitted_by"`
	RequireGenuine bool         `json:"require_genuine"` // an EK certificate had to verify
	AllowExpired   bool         `json:"allow_expired"`   // some zone took an expired one
	Admission      string       `json:"admission"`       // id of the admission record, "" for any_genuine
	Prev           string       `json:"prev"`            // as the agent named it
	Void           string       `json:"void"`            // attestation whose answer is lost for good
	NodeStatus     string       `json:"node_status"`
	SVIDs          []IssuedSVID `json:"svids"`
	Replica        string       `json:"replica"`
	Drift          []Drift      `json:"drift,omitempty"`     // what changed with this record, in the order of its rows
	NodeZone       string       `json:"node_zone,omitempty"` // of a record without Zone: the zone that the node had; older records have it with drift alone
}

// Reason is a refusal as recorded: the code and the public detail.
type Reason struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// PolicyRef names the policy version that decided.
type PolicyRef struct {
	Version int64  `json:"version"`
	Hash    string `json:"hash"` // "sha256:" + hex
}

// EvidenceID names one part of the evidence by content.
type EvidenceID struct {
	Kind   string `json:"kind"` // a Part constant
	SHA256 string `json:"sha256"`
}

// Kinds of evidence parts of format tpm2.
const (
	PartQuote         = "tpm2.quote"          // TPMS_ATTEST
	PartSignature     = "tpm2.signature"      // TPMT_SIGNATURE
	PartPCRs          = "tpm2.pcrs"           // RFC 8785 JSON object: index as decimal -> hex
	PartAKPublic      = "tpm2.ak_public"      // TPMT_PUBLIC
	PartEKPublic      = "tpm2.ek_public"      // TPMT_PUBLIC
	PartEKCertificate = "tpm2.ek_certificate" // as sent
	PartEKChain       = "tpm2.ek_chain"       // one part a certificate, in order
	PartEventLog      = "tpm2.event_log"      // as sent, or the kept one that was judged again
	PartIMALog        = "tpm2.ima_log"        // as sent, from entry ima_first on
	PartUserspaceLog  = "tpm2.userspace_log"  // systemd's, as sent
	PartCertify       = "tpm2.certify"        // lp(public) ‖ lp(attest) ‖ lp(signature)
	PartSPKI          = "spki"                // DER of the key that asked for the SVID
	PartCSR           = "csr"                 // PKCS#10 DER
	PartDocument      = "document"            // PackDocument: a document, or a short companion of one
	PartCompanion     = "document.companion"  // PackDocument: a companion that machines may share
	PartAgent         = "agent"               // lp(public) ‖ lp(signature) of the agent key
)

// Clock is the TPM's clock triple as recorded: a hint about history, never
// freshness.
type Clock struct {
	Clock        string `json:"clock"` // ms, decimal string (64 bit)
	ResetCount   uint32 `json:"reset_count"`
	RestartCount uint32 `json:"restart_count"`
	Safe         bool   `json:"safe"`
}

// Baseline is what the last accepted attestation had left behind.
type Baseline struct {
	Clock    Clock  `json:"clock"`
	At       int64  `json:"at"`        // attested_at of that attestation, Unix ms
	Firmware string `json:"firmware"`  // decimal
	EventLog string `json:"event_log"` // hex SHA-256 of the kept log, "" for none
	// IMA is how far the measurement list was attested (ima.State), "" for not at
	// all.
	IMA string `json:"ima,omitempty"`
}

// IssuedSVID is an SVID that the record authorises. The to-be-signed bytes are
// committed to by hash: the signer signs exactly those.
type IssuedSVID struct {
	Profile   string `json:"profile"` // a Profile constant
	Serial    string `json:"serial"`  // hex; of a JWT its jti, which is the record's id
	SPIFFEID  string `json:"spiffe_id"`
	NotBefore int64  `json:"not_before"`         // Unix s
	NotAfter  int64  `json:"not_after"`          // Unix s
	TBSSHA256 string `json:"tbs_sha256"`         // hex; of a JWT over its signing input (RFC 7515, section 5.1)
	CAKeyID   string `json:"ca_key_id"`          // hex; of a JWT the key that signs it
	Key       string `json:"key"`                // "tpm" or "software"
	Audience  string `json:"audience,omitempty"` // of a JWT
}

// Grant is the body of every record that is neither an attestation nor an
// issuance: something was granted, withdrawn or published.
type Grant struct {
	Type    string    `json:"type"`
	ID      uuid.UUID `json:"id"`
	By      string    `json:"by"`       // who: "uid:0" through the admin socket, "replica:<name>"
	Subject string    `json:"subject"`  // node id, admission id, token id, key id, policy hash
	RowHash string    `json:"row_hash"` // hex SHA-256 of the granting row's canonical bytes
	Note    string    `json:"note"`
	At      int64     `json:"at"`              // Unix ms by the broker's clock
	Until   int64     `json:"until,omitempty"` // Unix ms; of TypeNodeAnnounced

	Machines int64 `json:"machines,omitempty"` // in the list; of TypeInventoryImport, whose Subject is the list's SHA-256
	// Object is the digest (hex) of an object that was kept with the record, where
	// RowHash is of another row.
	Object string `json:"object,omitempty"`
}
