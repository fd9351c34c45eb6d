package ledger

import (
	"time"

	"github.com/google/uuid"
)

// Records of roles.
const (
	TypeOperatorAdded   = "operator.added"
	TypeOperatorRevoked = "operator.revoked"
)

// Operator gives whoever holds a key a role at the broker's TCP listener. A
// granting row with an HMAC. It can only be revoked, and ends by itself.
type Operator struct {
	ID         uuid.UUID `json:"id"`
	Name       string    `json:"name"`        // unique among those that are not revoked
	Role       string    `json:"role"`        // "auditor" or "operator"
	SPKISHA256 [32]byte  `json:"spki_sha256"` // SHA-256 of the certificate's SPKI DER
	By         string    `json:"by"`
	Revoked    bool      `json:"revoked"`
	CreatedAt  time.Time `json:"created_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

// Canonical returns the RFC 8785 form of the row.
func (o Operator) Canonical() ([]byte, error) {
	o.CreatedAt, o.ExpiresAt = micro(o.CreatedAt), micro(o.ExpiresAt)
	return Canonical(o)
}
