package ledger

import "github.com/google/uuid"

// TypeIssuance is the record of an SVID that was issued after the attestation
// that earned the zone: a workload's X.509-SVID, or a JWT-SVID.
const TypeIssuance = "svid.issued"

// Profiles of an issued SVID.
const (
	ProfileX509 = "x509"
	ProfileJWT  = "jwt"
)

// Issuance is the body of a TypeIssuance record. The evidence behind it is that
// of the attestation it names.
type Issuance struct {
	Type        string       `json:"type"` // always TypeIssuance
	ID          uuid.UUID    `json:"id"`
	Node        NodeID       `json:"node"`
	Workload    string       `json:"workload"` // "" for the node itself
	Zone        string       `json:"zone"`
	Tier        int          `json:"tier"`
	Attestation string       `json:"attestation"`  // record id of the node's last accepted attestation
	AttestedAt  int64        `json:"attested_at"`  // of that attestation, Unix ms
	FreshUntil  int64        `json:"fresh_until"`  // of that attestation, Unix ms
	Presented   string       `json:"presented"`    // hex SHA-256 of the node's SVID that asked
	Policy      PolicyRef    `json:"policy"`       // in force when it was issued
	TrustDomain string       `json:"trust_domain"` // of the broker
	SVIDs       []IssuedSVID `json:"svids"`        // exactly one
	At          int64        `json:"at"`           // Unix ms by the broker's clock
	Replica     string       `json:"replica"`
}
