package ledger

import (
	"fmt"

	"github.com/google/uuid"
)

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
	FreshUntil  int64        `json:"fresh_until"`  // of that attestation, earlier where Policy wants younger evidence; Unix ms
	Presented   string       `json:"presented"`    // hex SHA-256 of the node's SVID that asked
	Policy      PolicyRef    `json:"policy"`       // in force when it was issued
	TrustDomain string       `json:"trust_domain"` // of the broker
	SVIDs       []IssuedSVID `json:"svids"`        // exactly one
	At          int64        `json:"at"`           // Unix ms by the broker's clock
	Replica     string       `json:"replica"`
}

// Guard is a condition of a commit that changes no node: the node has to be at
// Version still when the commit is written.
type Guard struct {
	Node    NodeID
	Version int64 // above 0
}

// Record makes the record of an issuance: the canonical body and the columns
// that repeat parts of it. Salt must be fresh random bytes. It has no verdict:
// the attestation that it names has.
func (i Issuance) Record(salt [32]byte) (Record, error) {
	body, err := Canonical(&i)
	if err != nil {
		return Record{}, err
	}
	return i.columns(body, salt)
}

func (i Issuance) columns(body []byte, salt [32]byte) (Record, error) {
	switch {
	case i.Type != TypeIssuance:
		return Record{}, fmt.Errorf("record of type %q is no issuance", i.Type)
	case len(i.SVIDs) != 1:
		return Record{}, fmt.Errorf("an issuance of %d SVIDs", len(i.SVIDs))
	}
	r := Record{
		ID: i.ID, Type: i.Type, Node: i.Node, Zone: i.Zone,
		AttestedAt: unixMilli(i.AttestedAt), FreshUntil: unixMilli(i.FreshUntil),
		PolicyVersion: i.Policy.Version, Salt: salt, Body: body,
	}
	return r, checkRecord(r)
}
